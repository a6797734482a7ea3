"""Synchronous training: chief and worker as two processes, without a parameter server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import test_trainer_cluster as cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * cluster.WAIT_SECONDS)]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[cluster.Job]:
    monkeypatch.setattr(cluster, "REPLICAS", {"chief": 1, "worker": 1})
    data = tmp_path / "digits"
    assert cluster.data_command(["digits", str(data), "--train-images=16", "--test-images=8", "--shards=2"]) == 0
    job = cluster.Job(tmp_path, data)
    yield job
    job.end()


def test_chief_and_worker_take_each_step_together(job: cluster.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    job.start(steps=6)
    cluster.assert_done(job, 6)
    assert not [*temporary.rglob("ckpt-*")], "the worker's part of saving is left on its disk"
    # Both were in it, and one of them wrote.
    assert any("CollectiveAllReduceStrategy" in str(line["message"]) for line in job.lines())
    assert len(list(job.train_dir.glob("events.out.tfevents.*"))) == 1
    assert not job.lines("worker"), "of two replicas that do the same, one speaks"
