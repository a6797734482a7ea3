"""The queue: as many jobs at once as there is memory for, first in, first out; a real runner, real processes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_localcloud_jobs import pool_of, sdist, until

from localcloud.cloud import Cloud, open_cloud, rfc3339
from localcloud.home import Home
from localcloud.jobs import machines, memory, states, store
from localcloud.jobs.cluster import Replica
from localcloud.jobs.ending import Patience
from localcloud.jobs.launch import Host
from localcloud.jobs.states import ReplicaState
from localcloud.runner import JobRunner
from localcloud.server import load_services

SMALL = Host(2 * memory.MODEL_BYTES)
WAIT = (
    "import os, time; print('GPUs', os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True)\n"
    "while not os.path.exists({path!r}): time.sleep(0.05)"
)


class Queue:
    """A runner with room for two small jobs; a job runs until `release` is called for it."""

    def __init__(self, home: Home) -> None:
        load_services()
        home.prepare()
        sdist(home.path / "buckets/jobs-bucket/packages/probe-0.1.tar.gz", "import sys\nexec(sys.argv[1])\n")
        self.cloud: Cloud = open_cloud(home, "")
        self.runner = self.new_runner()
        self._numbers = iter(range(1000))

    def new_runner(self, host: Host = SMALL) -> JobRunner:
        return JobRunner(self.cloud, Patience(success=1, terminate=1, failure=1, stop=1), host)

    def abandon(self) -> None:
        """The runner's thread ends as if it were killed: what it started runs on."""
        self.runner._finished = lambda: True  # type: ignore[method-assign]
        self.runner._requests.put(None)
        self.runner._thread.join()

    def submit(
        self, *counts: int, gpus: int = 0, code: str | None = None, machine: str = "n1-standard-4", **scheduling: Any
    ) -> str:
        number = str(1000 + next(self._numbers))
        code = code or WAIT.format(path=str(self.cloud.home / f"release-{number}"))
        pools = [pool_of([code] * count) for count in counts]
        for pool in pools:
            pool["machineSpec"]["machineType"] = machine
            if gpus:
                pool["machineSpec"] |= {"acceleratorType": "NVIDIA_TESLA_T4", "acceleratorCount": gpus}
        body = {"displayName": "queued", "jobSpec": {"workerPoolSpecs": pools, "scheduling": scheduling}}
        store.insert_job(self.cloud.db, number, "us-central1", body, rfc3339(self.cloud.now()))
        self.runner.submit(number)
        return number

    def cancel(self, number: str) -> None:
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
        entries = [json.loads(row["entry"]) for row in rows]
        return [entry.get("textPayload") or entry["jsonPayload"].get("message", "") for entry in entries]


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


def test_a_job_waits_no_longer_than_it_wants_to(queue: Queue) -> None:
    queue.runner.start()
    first = queue.submit(1, 3, 1)
    queue.until(first, states.RUNNING)
    impatient = queue.submit(1, strategy="FLEX_START", maxWaitDuration="1s")
    patient = queue.submit(1, maxWaitDuration="1s")
    queue.until(impatient, states.EXPIRED)
    row = store.job(queue.cloud.db, impatient)
    assert row is not None and "maxWaitDuration" in row["error"] and row["end_time"] and not row["start_time"]
    assert queue.state(patient) == states.QUEUED
    queue.release(first)
    queue.release(patient)


def test_no_gpu_has_two_replicas_not_even_of_two_servers(queue: Queue) -> None:
    """The GPUs are names here: no driver is asked, and the replicas tell what they see."""

    def seen(number: str) -> list[str]:
        return until(lambda: sorted(line for line in queue.said(number) if line.startswith("GPUs")))

    host = Host(20 * memory.MODEL_BYTES, ["GPU-a", "GPU-b", "GPU-c"])
    queue.runner = queue.new_runner(host)
    queue.runner.start()
    pair, none = queue.submit(1, 1, gpus=1), queue.submit(1)
    until(lambda: len(seen(pair)) == 2)
    assert (seen(pair), seen(none)) == (["GPUs GPU-a", "GPUs GPU-b"], ["GPUs "])
    second, greedy = queue.submit(1, gpus=2), queue.submit(1, 1, gpus=2)
    until(lambda: any("Job is queued: it needs 3 GPUs, of which 1 are free" in line for line in queue.said(greedy)))
    assert [queue.state(number) for number in (second, greedy)] == [states.QUEUED] * 2

    queue.abandon()
    queue.runner = queue.new_runner(host)
    queue.runner.start()
    queue.release(none)
    assert queue.state(second) == states.QUEUED
    queue.release(pair)
    assert seen(second) == ["GPUs GPU-a,GPU-b"]
    assert queue.state(greedy) == states.QUEUED
    queue.release(second)
    until(lambda: len(seen(greedy)) == 2)  # four are asked for, and three are there
    assert seen(greedy) == ["GPUs GPU-a,GPU-b", "GPUs GPU-c"]
    assert any("asks for 4 GPUs, of which this machine gives it 3" in line for line in queue.said(greedy))
    queue.release(greedy)


def test_a_replica_over_its_memory_is_stopped_and_the_job_says_so(queue: Queue) -> None:
    queue.runner = queue.new_runner(Host(memory.GIB // 4))
    queue.runner.start()
    number = queue.submit(1, code="import time; print('growing', flush=True); held = b'x' * (400 * 2**20); time.sleep(600)")
    queue.until(number, states.FAILED)
    row = store.job(queue.cloud.db, number)
    assert row is not None
    message = json.loads(row["error"])["message"]
    began = "The replica workerpool0-0 ran out-of-memory and exited with a non-zero status of 137(SIGKILL). It took"
    assert message.startswith(began)
    assert message.endswith(" GiB, and this machine has 0.2 GiB for jobs.\ngrowing")
    (replica,) = store.replicas(queue.cloud.db, number)
    assert (replica.exit_code, replica.restarts) == (137, 0)


def test_when_the_machine_is_full_the_largest_replica_is_stopped(queue: Queue) -> None:
    queue.runner = queue.new_runner(Host(memory.GIB // 2))
    queue.runner.start()
    sizes = "(300 if os.environ['CLUSTER_SPEC'].count('\"type\": \"workerpool1\"') else 230)"
    number = queue.submit(1, 1, code=f"import os, time; held = b'x' * ({sizes} * 2**20); time.sleep(600)")
    queue.until(number, states.FAILED)
    row = store.job(queue.cloud.db, number)
    assert row is not None
    message = json.loads(row["error"])["message"]
    assert message.startswith("The replica workerpool1-0 ran out-of-memory") and "used up the 0.5 GiB" in message


def test_a_replica_over_its_disk_is_stopped_and_the_job_says_so(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "GIB", 2**20)  # a disk of 100 MiB
    monkeypatch.setattr("localcloud.jobs.limits.DISK_POLL", 0.5)
    queue.runner.start()
    code = "import os, time; os.posix_fallocate(os.open('big', os.O_CREAT | os.O_WRONLY), 0, 200 * 2**20); time.sleep(600)"
    number = queue.submit(1, code=code)
    queue.until(number, states.FAILED)
    row = store.job(queue.cloud.db, number)
    assert row is not None and "workerpool0-0 ran out-of-disk and exited" in row["error"] and "bootDiskSizeGb" in row["error"]


@pytest.mark.parametrize("whole", [False, True])
def test_pre_emptions_count_among_no_restarts(queue: Queue, whole: bool) -> None:
    queue.runner.start()
    number = queue.submit(1, 1, restartJobOnWorkerRestart=whole)
    times = states.MAX_REPLICA_RESTARTS + states.MAX_JOB_RESTARTS + 1

    def pre_empted() -> tuple[bool, int]:
        _, worker = store.replicas(queue.cloud.db, number)
        return worker.state is ReplicaState.RUNNING, worker.restarts

    queue.until(number, states.RUNNING)
    for done in range(times):
        until(lambda done=done: pre_empted() == (True, done))
        queue.runner.strike(number, Replica(1, 0), "preempt")
    until(lambda: pre_empted() == (True, times))
    assert queue.state(number) == states.RUNNING
    row = store.job(queue.cloud.db, number)
    assert row is not None and row["restarts"] == 0
    if whole:
        assert queue.said(number).count("Job is restarted as a whole.") == times
    queue.release(number)


def test_another_server_goes_on_with_what_the_one_before_it_had_decided(queue: Queue) -> None:
    """Of each kind of decision one is stored, but not carried out when the first server is gone."""
    dead, go_on = queue.cloud.home / "the-first-is-gone", queue.cloud.home / "go-on"
    begin = (
        "import json, os, time\n"
        "task = json.loads(os.environ['CLUSTER_SPEC'])['task']['type']\n"
        f"def wait(path):\n    while not os.path.exists(path): time.sleep(0.02)\n"
        f"dead, go_on = {str(dead)!r}, {str(go_on)!r}\n"
        "print('up', task, flush=True)\n"
    )
    host = Host(20 * memory.MODEL_BYTES)
    patience = Patience(success=600, terminate=600, failure=600, stop=1)  # nothing is carried out but by the second server
    queue.runner = JobRunner(queue.cloud, patience, host)
    queue.runner.start()
    # The primary has succeeded; a worker that then raises does not make the job fail.
    done = queue.submit(
        1,
        1,
        1,
        code=begin + "if task == 'workerpool1': time.sleep(1); raise SystemExit(1)\nelse: task == 'workerpool0' or wait(go_on)",
    )
    # A replica whose machine is taken away comes again, even if it ends well when it is asked to.
    taken = queue.submit(
        1, 1, code=begin + "import signal; signal.signal(signal.SIGTERM, lambda *_: (wait(dead), os._exit(0)))\nwait(go_on)"
    )
    # A killed worker takes the whole job with it; the chief does not listen to SIGTERM, so that the restart is under way.
    whole = queue.submit(
        1,
        1,
        code=begin + "import signal; signal.signal(signal.SIGTERM, lambda *_: wait(dead))\nwait(go_on)",
        restartJobOnWorkerRestart=True,
    )

    def replicas(number: str) -> list[ReplicaState]:
        return [row.state for row in store.replicas(queue.cloud.db, number)]

    for number, count in ((done, 3), (taken, 2), (whole, 2)):
        until(lambda number=number, count=count: sum(line.startswith("up") for line in queue.said(number)) == count)
    queue.runner.strike(taken, Replica(1, 0), "preempt")
    queue.runner.strike(whole, Replica(1, 0), "kill")
    until(lambda: replicas(done) == [ReplicaState.SUCCEEDED, ReplicaState.FAILED, ReplicaState.RUNNING])
    until(lambda: "Replica workerpool1-0 is being pre-empted." in queue.said(taken))
    until(lambda: replicas(whole) == [ReplicaState.RUNNING, ReplicaState.RESTARTING])
    queue.abandon()
    dead.touch()
    queue.runner = queue.new_runner(host)
    queue.runner.start()
    queue.until(done, states.SUCCEEDED)
    until(lambda: queue.said(taken).count("up workerpool1") == 2)
    until(lambda: queue.said(whole).count("up workerpool0") == 2 and queue.said(whole).count("up workerpool1") == 2)
    assert (queue.said(taken).count("up workerpool0"), store.job(queue.cloud.db, taken)["restarts"]) == (1, 0)  # type: ignore[index]
    assert queue.said(whole).count("Job is restarted as a whole (1 of 3).") == 1
    go_on.touch()
    for number in (taken, whole):
        queue.until(number, states.SUCCEEDED)


def test_a_replica_ends_while_another_server_installs_the_packages(queue: Queue) -> None:
    """The first server was killed between the starts of two replicas, so that the second has no interpreter yet."""
    queue.runner.start()
    number = queue.submit(1, 1, restartJobOnWorkerRestart=True)
    until(lambda: queue.said(number).count("GPUs None") == 2)
    queue.abandon()
    for row in store.replicas(queue.cloud.db, number):
        os.killpg(row.pid or 0, signal.SIGKILL)
    queue.cloud.db.execute("UPDATE custom_jobs SET state = ? WHERE number = ?", (states.PENDING, number))
    unstarted = "UPDATE job_replicas SET state = 'PENDING', pid = NULL, python = NULL WHERE job = ? AND pool = 1"
    queue.cloud.db.execute(unstarted, (number,))
    queue.runner = queue.new_runner()
    queue.runner.start()
    until(lambda: "Job is restarted as a whole (1 of 3)." in queue.said(number))
    until(lambda: queue.said(number).count("GPUs None") >= 4 or queue.state(number) == states.FAILED)
    queue.release(number)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_a_replica_runs_on_as_many_cpus_as_its_machine_has(queue: Queue) -> None:
    queue.runner.start()
    told = []
    for machine in ("n1-standard-1", "n1-standard-64"):
        number = queue.submit(1, code="import os; print('CPUs', len(os.sched_getaffinity(0)))", machine=machine)
        queue.until(number, states.SUCCEEDED)
        told += [line for line in queue.said(number) if line.startswith("CPUs")]
    assert told == ["CPUs 1", f"CPUs {len(os.sched_getaffinity(0))}"]
