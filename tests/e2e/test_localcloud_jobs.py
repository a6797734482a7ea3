"""Jobs on a real local cloud: real server, real processes, a package that is built here and runs the code it is given."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import packed
import psutil
import pytest
from free_port import free_port
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

PARENT = "projects/odcloud-local/locations/us-central1"
PACKAGE = "gs://jobs-bucket/packages/probe-0.1.tar.gz"
ENDED = {"JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED"}
WAIT = "import time; time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


def sdist(path: Path, module: str, *, dependencies: str = "[]", build_system: str = "hatchling") -> None:
    """A source distribution `probe` with the module probe/task.py."""
    path.parent.mkdir(parents=True, exist_ok=True)
    project = (
        f'[build-system]\nrequires = ["{build_system}"]\nbuild-backend = "hatchling.build"\n'
        f'[project]\nname = "probe"\nversion = "0.1"\ndependencies = {dependencies}\n'
    )
    files = {"pyproject.toml": project, "probe/__init__.py": "", "probe/task.py": module}
    path.write_bytes(packed.sdist("probe", "0.1", files))


class LocalCloud:
    """A server on a home of its own, started and stopped as a user does."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()

    def command(self, *arguments: str) -> dict[str, Any]:
        environment = {**os.environ, "ODCLOUD_HOME": str(self.home), "ODCLOUD_SECRET": "of the server", "PYTHONPATH": ""}
        done = subprocess.run(
            [sys.executable, "-m", "localcloud", *arguments, "--format", "json"],
            env=environment,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def start(self) -> None:
        self.pid = self.command("start", "--port", str(self.port))["pid"]
        credentials = Credentials((self.home / "token").read_text())
        options = {"api_endpoint": f"http://127.0.0.1:{self.port}/"}
        self.jobs = (
            build("aiplatform", "v1", credentials=credentials, client_options=options, static_discovery=True)
            .projects()
            .locations()
            .customJobs()
        )
        self.entries = build("logging", "v2", credentials=credentials, client_options=options, static_discovery=True).entries()

    def stop(self) -> None:
        self.command("stop")

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        until(lambda: not psutil.pid_exists(self.pid))

    def create(self, *pools: list[str] | None, **spec: Any) -> str:
        """Submit a job: for each list a pool of as many replicas that run its first code (None: an unused pool). Its name."""
        body = {"displayName": "probe", "jobSpec": {"workerPoolSpecs": [pool_of(pool) for pool in pools], **spec}}
        name: str = self.jobs.create(parent=PARENT, body=body).execute()["name"]
        return name

    def get(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.jobs.get(name=name).execute()
        return answer

    def wait(self, name: str, *states: str) -> dict[str, Any]:
        until(lambda: self.get(name)["state"] in (states or ENDED))
        return self.get(name)

    def log(self, name: str, condition: str = "") -> list[dict[str, Any]]:
        """Every entry of a job, in pages."""
        wanted = f'resource.type="ml_job" AND resource.labels.job_id="{number(name)}" {condition}'
        body = {"resourceNames": ["projects/odcloud-local"], "filter": wanted, "pageSize": 1000}
        found: list[dict[str, Any]] = []
        while True:
            answer = self.entries.list(body=body).execute()
            found += answer.get("entries", [])
            if "nextPageToken" not in answer:
                return found
            body["pageToken"] = answer["nextPageToken"]

    def texts(self, name: str, task: str) -> list[str]:
        """The plain lines that a replica wrote to its output."""
        found = self.log(name, f'AND resource.labels.task_name="{task}" AND jsonPayload.levelname:*')
        return [entry["jsonPayload"]["message"] for entry in found]

    def replica(self, name: str, task: str) -> dict[str, Any]:
        """A replica as its last lifecycle entry tells of it."""
        found = self.log(name, f'AND resource.labels.task_name="{task}" AND jsonPayload.replica:*')
        last: dict[str, Any] = found[-1]["jsonPayload"]["replica"]
        return last

    def processes(self, name: str, task: str = "") -> list[psutil.Process]:
        """The living processes of a job or of one of its replicas, supervisors left out."""
        found = []
        for process in psutil.process_iter():
            try:
                marker = process.environ().get("LOCALCLOUD_REPLICA", "")
                if f":{number(name)}:{task}" in marker and process.status() != psutil.STATUS_ZOMBIE and process.name() != "sh":
                    found.append(process)
            except psutil.Error:
                continue
        return found


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def command_line(process: psutil.Process) -> str:
    """Empty when the process has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def number(name: str) -> str:
    return name.rpartition("/")[2]


def pool_of(codes: list[str] | None) -> dict[str, Any]:
    if codes is None:
        return {}
    package = {
        "executorImageUri": "us-docker.pkg.dev/vertex-ai/training/tf-cpu.2-17.py310:latest",
        "packageUris": [PACKAGE],
        "pythonModule": "probe.task",
        "args": [codes[0]],
    }
    return {"replicaCount": str(len(codes)), "machineSpec": {"machineType": "n1-standard-4"}, "pythonPackageSpec": package}


def until(condition: Callable[[], Any], seconds: float = 180) -> Any:
    """Wait for a condition; the limit only ends a test that would hang."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("waited in vain")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    cloud = LocalCloud(tmp_path_factory.mktemp("cloud") / "home")
    sdist(cloud.home / "buckets/jobs-bucket/packages/probe-0.1.tar.gz", "import sys\nexec(sys.argv[1])\n")
    cloud.start()
    yield cloud
    cloud.stop()
    assert not [process for process in psutil.process_iter() if str(cloud.home) in _marker(process)]


def _marker(process: psutil.Process) -> str:
    try:
        return str(process.environ().get("LOCALCLOUD_REPLICA", ""))
    except psutil.Error:
        return ""


def test_a_cluster_learns_who_it_is_and_succeeds(cloud: LocalCloud) -> None:
    tell = (
        "import json, os; print(json.dumps({'message': 'environment', 'severity': 'notice', 'environment': dict(os.environ)}))"
    )
    serve = (
        "import json, os, socket; c = json.loads(os.environ['TF_CONFIG']); t = c['task'];"
        "host, port = c['cluster'][t['type']][t['index']].split(':'); socket.create_server((host, int(port)))\n" + tell
    )
    name = cloud.create([tell], [serve, serve], [serve], baseOutputDirectory={"outputUriPrefix": "gs://jobs-bucket/train/r"})
    job = cloud.wait(name)
    assert job["state"] == "JOB_STATE_SUCCEEDED", job
    assert job["createTime"] <= job["startTime"] <= job["endTime"]
    assert "error" not in job
    told = {
        entry["resource"]["labels"]["task_name"]: entry
        for entry in cloud.log(name, 'AND jsonPayload.message="environment" AND severity=NOTICE')
    }
    assert sorted(told) == ["workerpool0-0", "workerpool1-0", "workerpool1-1", "workerpool2-0"]
    seen = told["workerpool1-1"]["jsonPayload"]["environment"]
    configuration = json.loads(seen["TF_CONFIG"])
    assert configuration["task"] == {"type": "worker", "index": 1}
    assert {role: len(members) for role, members in configuration["cluster"].items()} == {"chief": 1, "worker": 2, "ps": 1}
    assert seen["AIP_CHECKPOINT_DIR"] == "gs://jobs-bucket/train/r/checkpoints/"
    assert seen["GCS_ROOT"] == str(cloud.home / "buckets")
    ours = {"CLOUDSDK_CONFIG", "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE", "CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING"}
    assert {key for key in seen if key.startswith(("ODCLOUD", "CLOUDSDK", "PULUMI", "GOOGLE"))} == ours
    for task in told:
        replica = cloud.replica(name, task)
        assert (replica["state"], replica["exitCode"], replica["restarts"]) == ("SUCCEEDED", 0, 0)
        assert replica["startTime"] <= replica["endTime"]
    service = [entry["textPayload"] for entry in cloud.log(name, 'AND resource.labels.task_name="service"')]
    assert service == [
        "Job creation request has been accepted.",
        "Job is preparing.",
        "Job is running.",
        "Job completed successfully.",
    ]


def test_servers_that_wait_are_shut_down_when_the_chief_is_done(cloud: LocalCloud) -> None:
    name = cloud.create(["print('done')"], None, [WAIT])
    assert cloud.wait(name)["state"] == "JOB_STATE_SUCCEEDED"
    assert cloud.replica(name, "workerpool2-0") | {"startTime": 0, "endTime": 0} == {
        "state": "STOPPED",
        "exitCode": 143,
        "restarts": 0,
        "startTime": 0,
        "endTime": 0,
    }
    assert not cloud.processes(name)


def test_a_replica_that_raises_fails_the_job_with_its_last_lines(cloud: LocalCloud) -> None:
    name = cloud.create([WAIT], [f"import time; print('before'); time.sleep(0.5); raise ValueError({'no such label'!r})"])
    job = cloud.wait(name)
    assert job["state"] == "JOB_STATE_FAILED"
    assert job["error"]["code"] == 3
    message = job["error"]["message"]
    assert message.startswith("The replica workerpool1-0 exited with a non-zero status of 1. Termination reason: Error.\n")
    assert message.endswith("ValueError: no such label")
    assert cloud.replica(name, "workerpool1-0")["state"] == "FAILED"
    assert cloud.replica(name, "workerpool0-0")["state"] == "STOPPED"
    assert not cloud.processes(name)


@pytest.mark.parametrize("task", ["workerpool0-0", "workerpool1-0"])
def test_a_killed_replica_is_restarted_under_the_same_name_and_port(cloud: LocalCloud, task: str) -> None:
    flag = cloud.home / f"go-{task}"
    wait = (
        "import json, os, pathlib, time; print(os.environ['TF_CONFIG'], flush=True);"
        f"p = pathlib.Path({str(flag)!r})\nwhile not p.exists(): time.sleep(0.05)"
    )
    name = cloud.create([wait], [wait])
    cloud.wait(name, "JOB_STATE_RUNNING")
    for victim in until(lambda: cloud.processes(name, task)):
        victim.kill()
    until(lambda: cloud.replica(name, task)["restarts"] == 1 and cloud.processes(name, task))
    assert cloud.get(name)["state"] == "JOB_STATE_RUNNING"
    flag.touch()
    assert cloud.wait(name)["state"] == "JOB_STATE_SUCCEEDED"
    assert cloud.replica(name, task)["state"] == "SUCCEEDED"
    told = [
        entry["jsonPayload"] for entry in cloud.log(name, f'AND resource.labels.task_name="{task}" AND jsonPayload.cluster:*')
    ]
    assert told[0] == told[-1]
    states = [
        entry["jsonPayload"]["replica"]["state"]
        for entry in cloud.log(name, f'AND resource.labels.task_name="{task}" AND jsonPayload.replica:*')
    ]
    assert states == ["PENDING", "RUNNING", "RESTARTING", "RUNNING", "SUCCEEDED"]


def test_restarts_end_in_failure(cloud: LocalCloud) -> None:
    name = cloud.create(["import os; print('again', flush=True); os.kill(os.getpid(), 9)"])
    job = cloud.wait(name)
    assert job["state"] == "JOB_STATE_FAILED"
    assert "workerpool0-0 exited with a non-zero status of 137(SIGKILL)" in job["error"]["message"]
    assert len(cloud.texts(name, "workerpool0-0")) == (5 + 1) * (3 + 1)


def test_the_whole_job_restarts_when_it_asks_for_that(cloud: LocalCloud) -> None:
    begin = f"import os, pathlib, time; up, died = (pathlib.Path({str(cloud.home)!r}, name) for name in ('up', 'died'))\n"
    die = begin + (
        "while not up.exists(): time.sleep(0.05)\n"  # or the other replica would be restarted before it had begun
        "if not died.exists(): died.touch(); os.kill(os.getpid(), 9)"
    )
    wait = begin + "print('up', flush=True); again = died.exists(); up.touch(); time.sleep(0 if again else 600)"
    name = cloud.create([wait], [die], scheduling={"restartJobOnWorkerRestart": True})
    assert cloud.wait(name)["state"] == "JOB_STATE_SUCCEEDED"
    assert cloud.texts(name, "workerpool0-0") == ["up", "up"]


def test_a_cancelled_job_leaves_no_process_even_of_those_that_will_not_listen(cloud: LocalCloud) -> None:
    leave = (
        "import subprocess, time; subprocess.Popen(['sleep', '600'], start_new_session=True);"
        "print('up', flush=True); time.sleep(600)"
    )
    name = cloud.create([leave], [STUBBORN])
    until(lambda: cloud.texts(name, "workerpool0-0") and cloud.texts(name, "workerpool1-0"))
    assert any(command_line(process).startswith("sleep ") for process in cloud.processes(name))
    assert cloud.jobs.cancel(name=name, body={}).execute() == {}
    assert cloud.get(name)["state"] in ("JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED")
    job = cloud.wait(name)
    assert job["state"] == "JOB_STATE_CANCELLED"
    assert "error" not in job
    assert not cloud.processes(name)
    assert cloud.replica(name, "workerpool1-0")["exitCode"] == 137
    assert cloud.jobs.cancel(name=name, body={}).execute() == {}


def test_what_a_finished_replica_left_behind_is_ended(cloud: LocalCloud) -> None:
    name = cloud.create(["import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)"])
    assert cloud.wait(name)["state"] == "JOB_STATE_SUCCEEDED"
    assert not cloud.processes(name)


def test_a_job_is_cancelled_when_its_time_is_up(cloud: LocalCloud) -> None:
    job = cloud.wait(cloud.create([WAIT], scheduling={"timeout": "1s"}))
    assert job["state"] == "JOB_STATE_CANCELLED"
    assert job["error"]["code"] == 4
    assert "timeout of 1 seconds" in job["error"]["message"]


def test_output_becomes_log_entries(cloud: LocalCloud) -> None:
    code = (
        "import os, sys, time\n"
        "sys.stdout.buffer.write(b'caf\\xe9\\n'); sys.stdout.flush()\n"
        "print('half', end='', flush=True); time.sleep(1); print(' whole')\n"
        "print('x' * (300 * 1024)); print('{not json}'); print('[1]')\n"
        'print(\'{"severity": "warning", "message": "step", "step": 3}\')\n'
        "print('oops', file=sys.stderr); print('no newline', end='')"
    )
    name = cloud.create([code])
    assert cloud.wait(name)["state"] == "JOB_STATE_SUCCEEDED"
    texts = cloud.texts(name, "workerpool0-0")
    assert [text for text in texts if "x" not in text and text != "oops"] == [
        "caf\ufffd",
        "half whole",
        "{not json}",
        "[1]",
        "no newline",
    ]
    assert sum(text.count("x") for text in texts) == 300 * 1024
    assert max(len(text) for text in texts) == 256 * 1024
    errors = cloud.log(name, 'AND severity>=ERROR AND jsonPayload.message:"oo"')
    assert [entry["jsonPayload"]["message"] for entry in errors] == ["oops"]
    (step,) = cloud.log(name, "AND jsonPayload.step>=3")
    assert step["severity"] == "WARNING"
    assert step["jsonPayload"] == {"message": "step", "step": 3}


def test_a_package_that_is_missing_or_cannot_be_installed(cloud: LocalCloud) -> None:
    pool = pool_of(["pass"])
    for uri, build_file, wanted in (
        ("gs://jobs-bucket/packages/none-0.1.tar.gz", None, "gs://jobs-bucket/packages/none-0.1.tar.gz does not exist"),
        ("gs://jobs-bucket/packages/bad-0.1.tar.gz", b"no archive", "Failed to install bad-0.1.tar.gz"),
    ):
        if build_file:
            (cloud.home / "buckets" / uri.removeprefix("gs://")).write_bytes(build_file)
        pool["pythonPackageSpec"]["packageUris"] = [uri]
        body = {"displayName": "probe", "jobSpec": {"workerPoolSpecs": [pool]}}
        job = cloud.wait(cloud.jobs.create(parent=PARENT, body=body).execute()["name"])
        assert job["state"] == "JOB_STATE_FAILED"
        assert wanted in job["error"]["message"]
        assert any(wanted in entry["textPayload"] for entry in cloud.log(job["name"], "AND severity=ERROR"))
    left = [path.name for path in (cloud.home / "environments").iterdir() if not (path / "complete").exists()]
    assert left == []


def test_two_jobs_share_one_environment(cloud: LocalCloud) -> None:
    names = [cloud.create(["import probe; print(probe.__file__)"]) for _ in range(2)]
    assert {cloud.wait(name)["state"] for name in names} == {"JOB_STATE_SUCCEEDED"}
    assert cloud.texts(names[0], "workerpool0-0") == cloud.texts(names[1], "workerpool0-0")
    assert str(cloud.home / "environments") in cloud.texts(names[0], "workerpool0-0")[0]


def test_a_killed_server_finds_its_replicas_again(cloud: LocalCloud) -> None:
    flag = cloud.home / "adopted"
    count = (
        f"import pathlib, time; p = pathlib.Path({str(flag)!r}); i = 0\n"
        "while not p.exists(): print(i, flush=True); i += 1; time.sleep(0.02)\nprint('end')"
    )
    running = cloud.create([count], [count])
    end = cloud.home / "end"
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(end)!r}).exists(): time.sleep(0.05)\n"
    short, raising = cloud.create([wait + "print('over')"]), cloud.create([wait + "raise SystemExit(7)"])
    for name in (short, raising):
        cloud.wait(name, "JOB_STATE_RUNNING")
    until(lambda: cloud.texts(running, "workerpool0-0") and cloud.texts(running, "workerpool1-0"))
    before = {process.pid for process in cloud.processes(running)}
    cloud.kill()
    end.touch()
    until(lambda: not cloud.processes(short) and not cloud.processes(raising))  # they end while no server is there
    cloud.start()
    assert {process.pid for process in cloud.processes(running)} == before
    assert cloud.get(running)["state"] == "JOB_STATE_RUNNING"
    assert cloud.wait(short)["state"] == "JOB_STATE_SUCCEEDED"
    assert cloud.texts(short, "workerpool0-0") == ["over"]
    failed = cloud.wait(raising)
    assert (failed["state"], cloud.replica(raising, "workerpool0-0")["exitCode"]) == ("JOB_STATE_FAILED", 7)
    flag.touch()
    assert cloud.wait(running)["state"] == "JOB_STATE_SUCCEEDED"
    lines = cloud.texts(running, "workerpool0-0")
    assert lines == [*map(str, range(len(lines) - 1)), "end"]
    assert not cloud.processes(running)


def test_a_server_killed_while_packages_are_installed(cloud: LocalCloud) -> None:
    path = cloud.home / "buckets/jobs-bucket/packages/slow-0.1.tar.gz"
    setup = "import setuptools, time; time.sleep(3); setuptools.setup(name='slow', version='0.1', py_modules=['slow'])"
    path.write_bytes(packed.sdist("slow", "0.1", {"setup.py": setup, "slow.py": "print('slow')\n"}))
    pool = pool_of(["-"])
    pool["pythonPackageSpec"] |= {
        "packageUris": ["gs://jobs-bucket/packages/slow-0.1.tar.gz"],
        "pythonModule": "slow",
        "args": [],
    }
    body = {"displayName": "probe", "jobSpec": {"workerPoolSpecs": [pool]}}
    name = cloud.jobs.create(parent=PARENT, body=body).execute()["name"]
    installers = until(
        lambda: [process for process in cloud.processes(name, "packages") if "setup.py" in command_line(process)]
    )
    cloud.kill()
    cloud.start()
    assert not any(map(alive, installers))
    assert cloud.wait(name)["state"] == "JOB_STATE_SUCCEEDED"
    assert cloud.texts(name, "workerpool0-0") == ["slow"]


def test_replicas_of_a_job_that_has_ended_do_not_survive_the_next_start(cloud: LocalCloud) -> None:
    name = cloud.create([WAIT])
    cloud.wait(name, "JOB_STATE_RUNNING")
    until(lambda: cloud.processes(name))
    cloud.kill()
    with sqlite3.connect(cloud.home / "cloud.sqlite") as database:
        database.execute("UPDATE custom_jobs SET state = 'JOB_STATE_FAILED' WHERE number = ?", (number(name),))
    database.close()
    cloud.start()
    until(lambda: not cloud.processes(name))


def test_a_stopped_server_ends_its_jobs(cloud: LocalCloud) -> None:
    name = cloud.create([WAIT], [STUBBORN])
    until(lambda: cloud.texts(name, "workerpool1-0"))
    cloud.stop()
    assert not cloud.processes(name)
    cloud.start()
    job = cloud.get(name)
    assert job["state"] == "JOB_STATE_CANCELLED"
    assert job["error"]["message"] == "The local cloud was stopped."


def test_a_job_that_has_ended_can_be_deleted(cloud: LocalCloud) -> None:
    name = cloud.create([WAIT])
    with pytest.raises(HttpError, match="cancel it"):
        cloud.jobs.delete(name=name).execute()
    cloud.jobs.cancel(name=name, body={}).execute()
    cloud.wait(name)
    operation = cloud.jobs.delete(name=name).execute()
    assert operation["done"]
    with pytest.raises(HttpError, match="does not exist"):
        cloud.get(name)
    assert not (cloud.home / "jobs" / number(name)).exists()
