"""Training in a single process: the same configuration, and how it ends when something goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer.data import tfrecord
from trainer.data.__main__ import main as data_command
from trainer.protos import example_pb2

ROOT = Path(__file__).resolve().parents[2]
WAIT_SECONDS = 900  # a machine may be busy
STEPS = 100_000  # more than a test waits for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * WAIT_SECONDS)]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    assert data_command(["digits", str(folder), "--train-images=16", "--test-images=8", "--shards=2"]) == 0
    return folder


@pytest.fixture
def config(tmp_path: Path, digits: Path) -> Path:
    text = (ROOT / "examples/digits/pipeline.config").read_text().replace("PATH_TO_BE_CONFIGURED", str(digits))
    for old, new in (("128", "64"), ("batch_size: 8", "batch_size: 2"), ("num_steps: 1200", f"num_steps: {STEPS}")):
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "pipeline.config"
    path.write_text(text)
    return path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def start(config: Path, train_dir: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "trainer.train", f"--train_dir={train_dir}", f"--pipeline_config_path={config}"]
    env = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=WAIT_SECONDS)
    finally:
        process.kill()
        process.wait()
    return process.returncode, out, err


def test_asked_to_stop_it_saves_and_another_model_cannot_go_on_from_there(config: Path, tmp_path: Path) -> None:
    train_dir = tmp_path / "train"
    process = start(config, train_dir)
    assert process.stdout
    deadline = time.monotonic() + WAIT_SECONDS
    seen = ""
    for seen in process.stdout:
        assert time.monotonic() < deadline
        if json.loads(seen)["message"].count("loss"):
            break
    process.send_signal(signal.SIGTERM)
    code, out, err = end(process)
    assert code == 143, (code, out, err)
    saved = sorted(path.stem for path in train_dir.glob("ckpt-*.index"))
    assert saved and int(saved[-1].removeprefix("ckpt-")) >= json.loads(seen)["step"]
    assert "stopped on request" in out

    edit(config, "depth: 48", "depth: 64")
    code, out, err = end(start(config, train_dir))
    assert code == 2
    assert err.startswith(f"odcloud: error: {train_dir}/ckpt-")
    assert "is not a checkpoint of this pipeline configuration's model" in err
    assert "Traceback" not in err


def test_a_loss_that_is_no_number_names_the_step(config: Path, tmp_path: Path) -> None:
    edit(config, "learning_rate_base: 0.004", "learning_rate_base: 1e30")
    edit(config, "warmup_learning_rate: 0.0004", "warmup_learning_rate: 1e30")
    code, _, err = end(start(config, tmp_path / "train"))
    assert code == 2
    assert err.startswith("odcloud: error: the loss became ")
    assert " in step " in err and "lower the learning rate" in err
    assert len(err.splitlines()) == 1


def damage(source: Path, damaged: Path) -> None:
    """A copy whose fourth image is none; the check before training decodes the first one only."""
    records = list(tfrecord.read(str(source)))
    example = example_pb2.Example.FromString(records[3])
    example.features.feature["image/encoded"].bytes_list.value[0] = b"no image"
    records[3] = example.SerializeToString()
    tfrecord.write(damaged, records)


def test_a_record_that_training_cannot_read_is_named(config: Path, tmp_path: Path, digits: Path) -> None:
    damage(digits / "train-00001-of-00002.tfrecord", tmp_path / "damaged.tfrecord")
    edit(config, f"{digits}/train-?????-of-?????.tfrecord", f"{tmp_path}/damaged.tfrecord")
    code, out, err = end(start(config, tmp_path / "train"))
    assert code == 2, err
    assert "a training record cannot be read" in out
    assert err.startswith(f"odcloud: error: {tmp_path}/damaged.tfrecord: record 4: image/encoded cannot be decoded")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda data, config: edit(config, "num_classes: 10", "num_classes: 9"), "id 10 is above num_classes 9"),
        (lambda data, config: edit(config, "/train-?????", "/trian-?????"), "no file matches"),
        (lambda data, config: edit(config, "label_map.pbtxt", "none.pbtxt"), "none.pbtxt: there is no such label map"),
        (lambda data, config: config.unlink(), "no such pipeline configuration"),
    ],
)
def test_bad_input_ends_before_anything_is_started(break_it, message: str, config: Path, tmp_path: Path, digits: Path) -> None:  # type: ignore[no-untyped-def]
    break_it(digits, config)
    code, _, err = end(start(config, tmp_path / "train"))
    assert code == 2
    assert err.startswith("odcloud: error: ") and message in err
    assert "Traceback" not in err
    assert not (tmp_path / "train").exists()


def evaluate(config: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trainer.evaluate", f"--checkpoint_dir={tmp_path / 'none'}"]
    command += [f"--eval_dir={tmp_path / 'eval'}", f"--pipeline_config_path={config}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_evaluating_where_nothing_was_trained_names_the_folder(config: Path, tmp_path: Path) -> None:
    result = evaluate(config, tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"odcloud: error: {tmp_path / 'none'}: no checkpoint there to evaluate")
    assert not (tmp_path / "eval").exists()


def test_an_image_that_evaluation_cannot_decode_is_named(config: Path, tmp_path: Path, digits: Path) -> None:
    files = sorted(digits.glob("test-*"))
    damage(files[0], tmp_path / "damaged.tfrecord")
    edit(config, f"{digits}/test-?????-of-?????.tfrecord", f"{tmp_path}/damaged.tfrecord")
    result = evaluate(config, tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"odcloud: error: {tmp_path}/damaged.tfrecord: record 4: image/encoded cannot be decoded")


def test_two_devices_train_together_in_half_precision_and_one_goes_on_without_it(config: Path, tmp_path: Path) -> None:
    edit(config, f"num_steps: {STEPS}", "num_steps: 2")
    flags = [f"--train_dir={tmp_path / 'train'}", f"--pipeline_config_path={config}"]
    command = [sys.executable, str(ROOT / "tests/e2e/two_devices.py"), "mixed_float16", *flags]
    env = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"} | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)
    assert ran.returncode == 0, (ran.stdout, ran.stderr)
    assert "training with MirroredStrategy in mixed_float16" in ran.stdout
    assert (tmp_path / "train/ckpt-2.index").is_file()

    edit(config, "num_steps: 2", "num_steps: 3")
    code, out, err = end(start(config, tmp_path / "train"))
    assert code == 0, (out, err)
    assert "resuming from step 2 " in out and "in float32" in out
    assert (tmp_path / "train/ckpt-3.index").is_file()
