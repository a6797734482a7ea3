"""Training on real processes, one chief, two workers, one parameter server; and what happens when one is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from free_port import free_port

from trainer.data.__main__ import main as data_command

ROOT = Path(__file__).resolve().parents[2]
WAIT_SECONDS = 900  # a machine may be busy
REPLICAS = {"chief": 1, "worker": 2, "ps": 1}
# Of each scale of a batch normalization, which begins as ones: how far its average is from that, and from the scale.
AVERAGES = """
import json, sys
import tensorflow as tf
checkpoint = tf.train.load_checkpoint(sys.argv[1])
slot = "/gamma/.OPTIMIZER_SLOT/optimizer/average/"
pairs = [
    (checkpoint.get_tensor(name), checkpoint.get_tensor(name.replace(slot, "/gamma/")))
    for name in checkpoint.get_variable_to_shape_map() if slot in name
]
print(json.dumps([[float(abs(average - one).max()) for one in (1, scale)] for average, scale in pairs]))
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * WAIT_SECONDS)]


def config(data: Path, steps: int) -> str:
    """The demo's own configuration, with smaller images and batches."""
    text = (ROOT / "examples/digits/pipeline.config").read_text().replace("PATH_TO_BE_CONFIGURED", str(data))
    for old, new in (
        ("height: 128", "height: 64"),
        ("width: 128", "width: 64"),
        ("batch_size: 8", "batch_size: 2"),
        ("num_steps: 1200", f"num_steps: {steps}"),
        ("warmup_steps: 100", "warmup_steps: 2"),
        ("use_moving_average: false", "moving_average_decay: 0.9"),
        ("eval_config {", "eval_config { use_moving_averages: true"),
    ):
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    assert data_command(["digits", str(folder), "--train-images=16", "--test-images=8", "--shards=2"]) == 0
    return folder


class Job:
    """The replicas of one job, as the local cloud would run them."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder = folder
        self.train_dir = folder / "train"
        self.config = folder / "pipeline.config"
        self.data = data
        self.processes: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
        self.cluster: dict[str, list[str]] = {}
        self.number = 0

    def start(self, steps: int, spoil: tuple[str, str] = ("", "")) -> None:
        self.config.write_text(config(self.data, steps).replace(*spoil) if any(spoil) else config(self.data, steps))
        self.cluster = {role: [f"127.0.0.1:{free_port()}" for _ in range(count)] for role, count in REPLICAS.items()}
        self.number += 1
        for role, count in REPLICAS.items():
            for index in range(count):
                self.start_replica(role, index)

    def start_replica(self, role: str, index: int) -> None:
        task = {"cluster": self.cluster, "task": {"type": role, "index": index}}
        with self.log(role, index).open("ab") as log:
            self.processes[role, index] = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "trainer.train",
                    f"--train_dir={self.train_dir}",
                    f"--pipeline_config_path={self.config}",
                ],
                cwd=ROOT,
                env={**os.environ, "TF_CONFIG": json.dumps(task), "CLOUD_ML_JOB_ID": str(self.number)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def log(self, role: str, index: int = 0) -> Path:
        return self.folder / f"{role}-{index}-{self.number}.log"

    def lines(self, role: str = "chief", index: int = 0) -> list[dict[str, object]]:
        # The last line may be half there, even half a letter.
        lines = self.log(role, index).read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}")]

    def kill(self, role: str, index: int = 0) -> None:
        process = self.processes[role, index]
        process.send_signal(signal.SIGKILL)
        assert process.wait(120) == -signal.SIGKILL

    def step(self) -> int:
        return max((int(str(line["step"])) for line in self.lines() if "step" in line), default=0)

    def wait_for_step(self, step: int) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while self.step() < step:
            assert time.monotonic() < deadline, self.tails()
            assert self.processes["chief", 0].poll() is None, self.tails()
            time.sleep(0.5)

    def wait(self) -> dict[tuple[str, int], int]:
        deadline = time.monotonic() + WAIT_SECONDS
        try:
            return {name: process.wait(max(1, deadline - time.monotonic())) for name, process in self.processes.items()}
        except subprocess.TimeoutExpired:
            pytest.fail(self.tails())

    def tails(self) -> str:
        return "\n".join(f"{name}: {self.log(*name).read_text(errors='replace')[-2000:]}" for name in self.processes)

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Iterator[Job]:
    """One training directory for the whole module: each test trains it some steps further."""
    job = Job(tmp_path_factory.mktemp("job"), digits)
    yield job
    job.end()


def assert_done(job: Job, steps: int) -> None:
    codes = job.wait()
    assert set(codes.values()) == {0}, f"{codes}\n{job.tails()}"
    assert (job.train_dir / f"ckpt-{steps}.index").is_file()


def test_a_cluster_trains_and_every_replica_ends_by_itself(job: Job) -> None:
    job.start(steps=20)
    assert_done(job, 20)
    assert (job.train_dir / "pipeline.config").read_text() == job.config.read_text()
    assert list(job.train_dir.glob("events.out.tfevents.*"))
    last = [line for line in job.lines() if "steps" in line][-1]
    assert (last["step"], last["steps"], last["severity"]) == (20, 20, "INFO")
    assert isinstance(last["loss"], float)
    assert last["message"].startswith("step 20/20 · loss ")  # type: ignore[attr-defined]


def test_averages_of_the_weights_are_kept_by_the_servers(job: Job) -> None:
    command = [sys.executable, "-c", AVERAGES, str(job.train_dir / "ckpt-20")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    apart = json.loads(result.stdout)
    assert len(apart) > 20
    moved = [from_start > 0 and 0 < from_scale < 0.1 for from_start, from_scale in apart]
    assert sum(moved) > 0.8 * len(moved), apart


def test_a_trained_directory_has_nothing_left_to_do(job: Job) -> None:
    job.start(steps=20)
    assert_done(job, 20)
    assert any("nothing to do" in str(line["message"]) for line in job.lines())


def test_a_killed_worker_comes_back_and_training_goes_on(job: Job) -> None:
    job.start(steps=220)
    job.wait_for_step(60)
    assert any(str(line["message"]).startswith("resuming from step 20 ") for line in job.lines())
    job.kill("worker", 1)
    job.start_replica("worker", 1)
    assert_done(job, 220)


@pytest.mark.parametrize(("role", "before", "steps"), [("ps", 220, 320), ("chief", 320, 420)])
def test_training_resumes_from_the_checkpoint_after_a_kill(job: Job, role: str, before: int, steps: int) -> None:
    job.start(steps=steps)
    job.wait_for_step(before + 1)  # which is told at once, and has no checkpoint yet
    job.kill(role)
    job.start_replica(role, 0)
    assert_done(job, steps)
    resumed = [str(line["message"]) for line in job.lines() if str(line["message"]).startswith("resuming from step")]
    steps_resumed = [int(message.split()[3]) for message in resumed]
    assert len(resumed) >= 2 and steps_resumed[0] == before, resumed  # a busy machine may lose a connection once more
    assert steps_resumed == sorted(steps_resumed), resumed


def test_what_training_left_can_be_evaluated(job: Job) -> None:
    held_out = re.search(r"eval_input_reader \{.*?\n\}\n", job.config.read_text(), re.DOTALL)
    assert held_out and "/test-" in held_out[0]
    seen = held_out[0].replace("/test-", "/train-").replace("{", '{ name: "seen"', 1)
    job.config.write_text(job.config.read_text() + seen)
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "trainer.evaluate",
            f"--checkpoint_dir={job.train_dir}",
            f"--eval_dir={job.folder / 'eval'}",
            f"--pipeline_config_path={job.config}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    line, further = (line for line in lines if "metrics" in line)  # others tell how far it is
    assert "420: seen: AP " in further["message"]
    written = json.loads((job.folder / "eval/seen/metrics.json").read_text())
    assert further["metrics"] == written["metrics"] and written["images"] == 16
    written = json.loads((job.folder / "eval/metrics.json").read_text())
    assert line["step"] == written["step"] == 420
    assert line["metrics"] == written["metrics"]
    assert 0 <= written["metrics"]["AP50"] <= 1
    assert set(written["per_class"]) == {str(digit) for digit in range(10)}
    assert written["images"] == 8
    assert written["history"] == [{"step": 420, "metrics": written["metrics"]}]
    assert (job.folder / "eval/detections.png").read_bytes().startswith(b"\x89PNG")
    drawn = json.loads((job.folder / "eval/detections.json").read_text())
    assert len(drawn) == 8
    assert all(item["truth_boxes"] for item in drawn)


def test_a_chief_with_bad_input_ends_the_whole_job(job: Job) -> None:
    job.start(steps=1000, spoil=("num_classes", "num_clases"))
    codes = job.wait()
    assert codes["chief", 0] == 2, job.tails()
    assert codes["worker", 0] == codes["worker", 1] == codes["ps", 0] == 0, job.tails()
    error = job.log("chief").read_text()
    assert "odcloud: error:" in error
    assert "did you mean num_classes?" in error
    assert "Traceback" not in error
