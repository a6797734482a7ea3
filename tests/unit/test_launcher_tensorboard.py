"""`odcloud tensorboard` ends its TensorBoard however it ends itself. A program that waits stands in for TensorBoard."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

# It tells the id of the TensorBoard that it waits for.
COMMAND = """
import sys
from types import SimpleNamespace
from launcher.results import tensorboard

def keep(board, mirror, keep=tensorboard._keep):
    print(board.pid, flush=True)
    return keep(board, mirror)

outputs = SimpleNamespace(bucket="b", train_dir="gs://b/train", eval_dir="gs://b/eval")
tensorboard.connect = lambda stack: SimpleNamespace(outputs=outputs)
tensorboard.Mirror.refresh = lambda mirror: 1
tensorboard._keep = keep
sys.executable = sys.argv[1]
sys.exit(tensorboard.tensorboard("object_detection_1", 6006, None))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_tensorboard_ends_with_the_command_and_its_terminal(tmp_path: Path, number: signal.Signals) -> None:
    board = tmp_path / "board"
    board.write_text("#!/bin/sh\nexec sleep 600\n")
    board.chmod(0o755)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    script = ["env", "--default-signal=HUP", sys.executable, "-c", COMMAND, str(board)]  # the tests may run under nohup
    with subprocess.Popen(script, env=environment, stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout
        child = int(command.stdout.readline())
        try:
            command.send_signal(number)
            assert command.wait(60) == 0
            with pytest.raises(ProcessLookupError):
                os.kill(child, 0)
        finally:
            command.kill()
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
