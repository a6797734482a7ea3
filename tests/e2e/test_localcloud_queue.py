"""The queue: as many jobs at once as there is memory for, first in, first out; a real runner, real processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_localcloud_jobs import pool_of, sdist, until

from localcloud.cloud import Cloud, open_cloud, rfc3339
from localcloud.home import Home
from localcloud.jobs import memory, states, store
from localcloud.jobs.active import Patience
from localcloud.jobs.launch import Host
from localcloud.runner import JobRunner
from localcloud.server import load_services

WAIT = "import os, time\nwhile not os.path.exists({path!r}): time.sleep(0.05)"


class Queue:
    """A runner with room for two small jobs; a job runs until `release` is called for it."""

    def __init__(self, home: Home) -> None:
        load_services()
        home.prepare()
        sdist(home.path / "buckets/jobs-bucket/packages/probe-0.1.tar.gz", "import sys\nexec(sys.argv[1])\n")
        self.cloud: Cloud = open_cloud(home, "")
        self.runner = self.new_runner()
        self._numbers = iter(range(1000))

    def new_runner(self) -> JobRunner:
        return JobRunner(self.cloud, Patience(success=1, terminate=1, failure=1, stop=1), host=Host(2 * memory.MODEL_BYTES))

    def submit(self, *counts: int) -> str:
        number = str(1000 + next(self._numbers))
        code = WAIT.format(path=str(self.cloud.home / f"release-{number}"))
        body = {"displayName": "queued", "jobSpec": {"workerPoolSpecs": [pool_of([code] * count) for count in counts]}}
        store.insert_job(self.cloud.db, number, "us-central1", body, rfc3339(self.cloud.now()))
        self.runner.submit(number)
        return number

    def cancel(self, number: str) -> None:
        store.advance(self.cloud.db, number, (states.QUEUED,), states.CANCELLING, rfc3339(self.cloud.now()))
        self.runner.cancel(number)

    def release(self, number: str) -> None:
        (self.cloud.home / f"release-{number}").touch()
        self.until(number, states.SUCCEEDED)

    def state(self, number: str) -> str:
        row = store.job(self.cloud.db, number)
        assert row is not None
        return str(row["state"])

    def until(self, number: str, state: str) -> None:
        until(lambda: self.state(number) == state)

    def said(self, number: str) -> list[str]:
        rows = self.cloud.db.query("SELECT entry FROM log_entries WHERE job_id = ? ORDER BY id", (number,))
        return [json.loads(row["entry"]).get("textPayload", "") for row in rows]


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    queue = Queue(Home(tmp_path / "home"))
    yield queue
    queue.runner.stop()
    queue.cloud.close()


def test_first_in_first_out_as_memory_allows(queue: Queue) -> None:
    queue.runner.start()
    first, second = queue.submit(1), queue.submit(1)
    third, large, last = queue.submit(1), queue.submit(1, 3, 1), queue.submit(1)
    for number in (first, second):
        queue.until(number, states.RUNNING)
    until(lambda: any("Job is queued" in line for line in queue.said(last)))
    assert [queue.state(number) for number in (third, large, last)] == [states.QUEUED] * 3
    said = queue.said(third)
    assert said == [
        "Job is queued: it needs about 1.5 GiB of memory, and 3.0 GiB of the 3.0 GiB that there are for jobs are taken by those"
        " that run; 0 wait before it."
    ]
    assert not any("Job is queued" in line for line in queue.said(first))

    queue.cancel(third)  # while it waits
    queue.until(third, states.CANCELLED)

    queue.release(first)  # the large one, larger than all there is, waits for the second; the last does not overtake it
    assert [queue.state(number) for number in (second, large, last)] == [states.RUNNING, states.QUEUED, states.QUEUED]
    queue.release(second)
    queue.until(large, states.RUNNING)
    assert queue.state(last) == states.QUEUED
    queue.release(large)
    queue.until(last, states.RUNNING)
    queue.release(last)


def test_the_queue_outlives_the_server_and_ends_with_it(queue: Queue) -> None:
    numbers = [queue.submit(1) for _ in range(4)]  # taken by a server that was killed before it did anything
    queue.runner = queue.new_runner()
    queue.runner.start()
    for number in numbers[:2]:
        queue.until(number, states.RUNNING)
    assert [queue.state(number) for number in numbers[2:]] == [states.QUEUED] * 2
    queue.release(numbers[0])
    queue.until(numbers[2], states.RUNNING)
    assert queue.state(numbers[3]) == states.QUEUED
    queue.runner.stop()
    assert [queue.state(number) for number in numbers[1:]] == [states.CANCELLED] * 3
