"""A GPU that TensorFlow does not find, as in an image without its CUDA: real TensorFlow, a stand-in for the driver's files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
from trainer import runtime
runtime.prepare()
from trainer.training import gpus
gpus.warn_if_unseen(Path(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("devices", "visible", "warned"),
    [
        (("nvidia0", "nvidiactl"), "99", True),
        (("nvidia0",), "", False),
        (("nvidia0",), "-1", False),
        (("nvidiactl",), None, False),
    ],
)
def test_a_gpu_that_is_not_found_is_told(devices: tuple[str, ...], visible: str | None, warned: bool, tmp_path: Path) -> None:
    for name in devices:
        (tmp_path / name).touch()
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    environment |= {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert ("finds no GPU, though this machine has one, and computes on the CPU. It " in said) == warned, said
    assert warned or not said
