"""An evaluation beside a training in earnest ends it when it gets no better; the training has a converted configuration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.config.__main__ import main as config_command
from trainer.data.__main__ import main as data_command

ROOT = Path(__file__).resolve().parents[2]
WAIT_SECONDS = 900  # a machine may be busy

# As `python -m trainer.train` does, but with a checkpoint every second, not every twenty.
TRAIN = """
import sys
from trainer import runtime, train
runtime.prepare(2)
from trainer.training import loop
loop._CHECKPOINT_SECONDS = loop._ASK_SECONDS = 1.0
loop._CHECKPOINT_SHARE = 0.5
sys.exit(train.main())
"""


@pytest.mark.slow
@pytest.mark.timeout(2 * WAIT_SECONDS)
def test_an_evaluation_beside_a_training_ends_it(tmp_path: Path) -> None:
    data, config = tmp_path / "data", tmp_path / "pipeline.config"
    assert data_command(["digits", str(data), "--train-images=4", "--test-images=1", "--shards=1"]) == 0
    text = (ROOT / "examples/digits/pipeline.config").read_text().replace("PATH_TO_BE_CONFIGURED", str(data))
    for old, new in (
        ("128", "64"), ("batch_size: 8", "batch_size: 2"), ("num_steps: 1200", "num_steps: 100000"),
        ("learning_rate_base: 0.004", "learning_rate_base: 1e-9"),  # it learns nothing
        ("warmup_learning_rate: 0.0004", "warmup_learning_rate: 1e-9"),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    start = text.index("eval_input_reader {")
    further = text[start:].replace("/test-", "/train-").replace("{", '{\n  name: "seen"', 1)
    config.write_text(f"{text}\n{further}")
    converted = tmp_path / "pipeline.yaml"
    assert config_command(["convert", str(config), f"--output={converted}"]) == 0
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    commands = (
        [sys.executable, "-c", TRAIN, f"--train_dir={tmp_path / 'train'}", f"--pipeline_config_path={converted}"],
        [
            *(sys.executable, "-m", "trainer.evaluate", f"--checkpoint_dir={tmp_path / 'train'}"),
            *(f"--eval_dir={tmp_path / 'eval'}", "--continuous", "--early_stopping=1", f"--pipeline_config_path={config}"),
        ],
    )
    processes = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for command in commands
    ]
    try:
        trained, evaluated = (process.communicate(timeout=WAIT_SECONDS)[0] for process in processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0, 0], (trained[-3000:], evaluated[-3000:])
    ended = next(json.loads(line) for line in trained.splitlines() if "training ends at step" in line)
    assert "evaluation found no better AP than" in ended["message"]
    assert 0 < ended["step"] < 100_000
    assert (tmp_path / "train" / f"ckpt-{ended['step']}.index").exists()
    history = json.loads((tmp_path / "eval/metrics.json").read_text())["history"]
    # What it saved on stopping is evaluated, too.
    assert history[-1]["step"] == ended["step"] and len(history) > 2
    further = json.loads((tmp_path / "eval/seen/metrics.json").read_text())
    assert [entry["step"] for entry in further["history"]] == [entry["step"] for entry in history] and further["images"] == 4
    assert "asked training to stop" in evaluated
