"""A thousand launches over a way that loses answers, refuses and resets, by launchers that are killed or not alone: 1,000 jobs.

Every launcher is a process and every fault is a real one; the local cloud runs as it always does. The jobs' package takes for
ever to install, so that they stay PENDING, and a job is cancelled when all launchers of its run have ended.
"""

from __future__ import annotations

import itertools
import json
import queue
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from gateway import DELAY, LOSE_ANSWER, LOSE_REQUEST, RESET, Gateway, Trouble
from launcher_stage import BUCKET, Stage, enter
from packed import sdist

from launcher import vertex

LAUNCHES, COMMANDS, AT_ONCE, SEED = 1000, 60, 32, 7
STORM = 10.0  # seconds that a storm lasts at most: the last launches alone would take minutes for their hundred requests
PATIENCE = 8  # times that a launch is started again after an error or a kill


class Weather:
    """Each request's fate, drawn from the seed; in a storm, 100 requests of every 1,500, most are refused."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._count = itertools.count()
        self._calm_at = 0.0
        self.met: Counter[Trouble] = Counter()

    def __call__(self, verb: str, path: str) -> Trouble | None:
        with self._lock:
            place = next(self._count) % 1500
            if place == 1401:
                self._calm_at = time.monotonic() + STORM
            if place > 1400 and time.monotonic() < self._calm_at:
                trouble: Trouble | None = self._random.choice([429, 503, 503, 429, None])
            elif verb == "POST" and path.endswith("/customJobs"):
                trouble = self._draw(0.16, [LOSE_ANSWER, LOSE_ANSWER, LOSE_ANSWER, LOSE_REQUEST, RESET, DELAY, 503, 429, 500])
            else:
                trouble = self._draw(0.04, [LOSE_ANSWER, LOSE_REQUEST, RESET, 429, 503, 408])
            if trouble:
                self.met[trouble] += 1
            return trouble

    def _draw(self, chance: float, troubles: list[Trouble]) -> Trouble | None:
        return self._random.choice(troubles) if self._random.random() < chance else None


class Launchers:
    """Launcher processes: forked ones (launch_children.py) and whole commands."""

    def __init__(self, stage: Stage, gateway: Gateway) -> None:
        self._stage, self._gateway = stage, gateway
        self._ids = itertools.count()
        self._lock = threading.Lock()
        self._told: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("launch_children.py")), json.dumps(stage.outputs)],
            env={**stage.environment, **gateway.overrides()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            told = json.loads(line)
            self._told[told["id"]].put(told)

    def forked(self, run: str, kill_after: float | None) -> tuple[str | None, str]:
        """Launches; the job's name, if it was told, and what else was said. Killed after so many seconds."""
        number, job, said = next(self._ids), None, ""
        told = self._told[number] = queue.Queue()
        self._order(id=number, run=run, outputs=self._stage.outputs)
        assert told.get(timeout=120)["started"]
        until = None if kill_after is None else time.monotonic() + kill_after
        while True:
            try:
                news = told.get(timeout=300 if until is None else max(0.0, until - time.monotonic()))
            except queue.Empty:
                assert until is not None, f"the launcher of {run} hangs"
                self._order(kill=number)
                until = None
                continue
            job, said = news.get("job", job), news.get("error", said)
            if "status" in news:
                return job, said

    def _order(self, **order: Any) -> None:
        assert self._process.stdin
        with self._lock:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()

    def command(self, run: str, kill_after: float | None) -> tuple[str | None, str]:
        """The same with `odcloud train`."""
        process = self._stage.start(
            "train", "--config", "job.yaml", "--run", run, "--detach", "--format", "json", **self._gateway.overrides()
        )
        try:
            stdout, stderr = process.communicate(timeout=kill_after or 300)
        except subprocess.TimeoutExpired:
            assert kill_after, f"the launcher of {run} hangs"
            process.kill()
            stdout, stderr = process.communicate()
        assert "Traceback" not in stderr, stderr
        return (json.loads(stdout)["job"] if stdout.endswith("\n") else None), stderr[-300:]

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=60)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with enter(tmp_path_factory.mktemp("stage")) as made:
        yield made


def endless() -> bytes:
    """An sdist that is never built to its end."""
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "endless"\nbackend-path = ["."]\n',
        "endless.py": "import time\ntime.sleep(3600)\n",
        "PKG-INFO": "Metadata-Version: 2.1\nName: endless\nVersion: 1\n",
    }
    return sdist("endless", "1", files)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_launches_make_a_thousand_jobs(stage: Stage) -> None:
    session = stage.session()
    session.google.upload(BUCKET, "packages/1/endless-1.tar.gz", endless(), "application/gzip", if_generation=0)
    stage.outputs["package_uris"] = [f"gs://{BUCKET}/packages/1/endless-1.tar.gz"]
    stage.import_stack("stage", stage.outputs)
    spec = {"machineSpec": {"machineType": "n1-standard-4"}, "replicaCount": "1"}
    package = {"executorImageUri": "i", "packageUris": stage.outputs["package_uris"], "pythonModule": "endless"}
    blocker = session.create(
        {"displayName": "blocker", "jobSpec": {"workerPoolSpecs": [{**spec, "pythonPackageSpec": package}]}}, lambda: True
    )
    with Gateway(stage.port) as gateway:
        gateway.weather = weather = Weather(SEED)
        threading.Thread(target=gateway.serve_forever, args=(0.01,), daemon=True).start()
        launchers = Launchers(stage, gateway)

        def launch(index: int) -> tuple[str, set[str], int]:
            """One run: launched by one or two at once, killed or not, until one has told the job. Run, jobs told, kills."""
            chance, run = random.Random(f"{SEED} {index}"), f"run-{index}"
            start = launchers.command if index < COMMANDS else launchers.forked
            longest = 1.5 if index < COMMANDS else 0.4
            told: set[str] = set()
            kills, said = 0, ""
            for attempt in range(PATIENCE):
                several = 2 if attempt == 0 and chance.random() < 0.2 else 1
                killed = [
                    chance.uniform(0, longest) if index < COMMANDS or chance.random() < 0.2 / (attempt + 1) else None
                    for _ in range(several)
                ]
                if attempt >= 2:
                    killed = [None]
                with ThreadPoolExecutor(several) as pool:
                    for job, error in pool.map(lambda after: start(run, after), killed):
                        said = error or said
                        if job:
                            told.add(job.rpartition("/")[2])
                kills += sum(after is not None for after in killed)
                if told:
                    break
            assert told, f"{run}: no job after {PATIENCE} launches: {said}"
            session.cancel(next(iter(told)))
            return run, told, kills

        with ThreadPoolExecutor(AT_ONCE) as pool:
            done = list(pool.map(launch, range(LAUNCHES)))
        launchers.close()
        gateway.settle()
        gateway.shutdown()
    session.cancel(vertex.number(blocker))
    made = [job for job in session.jobs() if vertex.run(job)]
    assert len(made) == LAUNCHES, Counter(vertex.run(job) for job in made).most_common(5)
    assert {vertex.run(job): {vertex.number(job)} for job in made} == {run: told for run, told, _ in done}
    print(f"{sum(kills for _, _, kills in done)} kills; {dict(weather.met)}")
    assert {LOSE_ANSWER, LOSE_REQUEST, RESET, DELAY, 429, 500, 503} <= set(weather.met)
