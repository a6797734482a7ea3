"""TensorBoard as installed: on a bucket's folder, and on `gs://` in an environment without TensorFlow.

With TensorFlow, TensorBoard reads `gs://` by TensorFlow's own reader, which asks storage.googleapis.com and nobody else.
Without it, it reads through fsspec, and so through gcsfs.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from client_environment import client_environment
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

if TYPE_CHECKING:
    from conftest import LocalCloud

# TensorBoard's own switch for an environment without TensorFlow is whether this module is there
WITHOUT_TENSORFLOW = """
import sys, types
sys.modules["tensorboard.compat.notf"] = types.ModuleType("tensorboard.compat.notf")
from tensorboard.main import run_main
assert "tensorflow" not in sys.modules
run_main()
"""
MOUNTED = [sys.executable, "-m", "tensorboard.main", "--load_fast=true"]
BY_ADDRESS = [sys.executable, "-c", WITHOUT_TENSORFLOW, "--load_fast=false"]


def write(folder: Path, *steps: int) -> None:
    """Appends a loss for each step to the folder's event file, as a trainer does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "events.out.tfevents.1511000000.host").open("ab") as file:
        records = RecordWriter(file)
        for step in steps:
            value = Summary.Value(tag="loss", simple_value=1 / step)
            records.write(Event(wall_time=1511000000 + step, step=step, summary=Summary(value=[value])).SerializeToString())
        records.flush()


@pytest.fixture
def tensorboard(local_cloud: LocalCloud, tmp_path: Path) -> Iterator[Callable[..., str]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(command: list[str], logdir: str) -> str:
        with (tmp_path / "log").open("wb") as log:
            options = ["--logdir", logdir, "--port", "0", "--reload_interval", "1"]
            process = subprocess.Popen(
                [*command, *options], env=client_environment(local_cloud), cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT
            )
        started.append(process)
        limit = time.monotonic() + 120
        while " at http://" not in (text := (tmp_path / "log").read_text()):
            assert time.monotonic() < limit and process.poll() is None, text
            time.sleep(0.1)
        return text.partition(" at ")[2].split()[0].rstrip("/")

    yield start
    for process in started:
        process.terminate()
        process.wait()


def scalars(url: str, wanted: int) -> list[list[Any]]:
    """[wall time, step, value] of each loss, as soon as there are as many as wanted."""
    limit = time.monotonic() + 120
    while True:
        answer = requests.get(f"{url}/data/plugin/scalars/scalars", params={"run": ".", "tag": "loss"}, timeout=60)
        if answer.ok and len(answer.json()) >= wanted:
            found: list[list[Any]] = answer.json()
            return found
        assert time.monotonic() < limit, answer.text
        time.sleep(0.2)


@pytest.mark.parametrize("kind", ["mounted", "by address"])
def test_a_run_is_followed(local_cloud: LocalCloud, bucket: str, tensorboard: Callable[..., str], kind: str) -> None:
    folder = local_cloud.home / "buckets" / bucket / "train" / "run"
    write(folder, 1, 2)
    url = tensorboard(*((MOUNTED, str(folder)) if kind == "mounted" else (BY_ADDRESS, f"gs://{bucket}/train/run")))
    assert [point[1:] for point in scalars(url, 2)] == [[1, 1.0], [2, 0.5]]
    write(folder, 4)
    assert scalars(url, 3)[-1][1:] == [4, 0.25]
    assert requests.get(f"{url}/data/runs", timeout=60).json() == ["."]
