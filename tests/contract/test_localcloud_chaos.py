"""`odcloud local chaos`: faults as a client meets them, and replicas that are killed and pre-empted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest
import requests
from test_localcloud_jobs import pool_of, sdist, until

if TYPE_CHECKING:
    from conftest import LocalCloud

PARENT = "projects/odcloud-local/locations/us-central1"
# Runs until a file tells it to end; on SIGTERM it ends by itself, and successfully.
CODE = (
    "import os, signal, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
    "print('up', flush=True)\n"
    "while not os.path.exists({path!r}): time.sleep(0.05)"
)


def chaos(cloud: LocalCloud, *words: str) -> dict[str, Any]:
    done = cloud.run("chaos", *words, "--format", "json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture(autouse=True)
def no_faults_left(local_cloud: LocalCloud) -> Iterator[None]:
    yield
    assert chaos(local_cloud, "clear") == {"faults": []}


def buckets(cloud: LocalCloud) -> int:
    return cloud.request("GET", "/storage/v1/b?project=odcloud-local").status_code


def test_the_next_calls_of_a_service_fail(local_cloud: LocalCloud) -> None:
    set_ = chaos(local_cloud, "fail", "storage", "--with", "503", "--calls", "2")
    assert set_ == {"faults": [{"target": "storage", "kind": "503", "calls": 2, "seconds": 0.0}]}
    chaos(local_cloud, "fail", "iam.projects.serviceAccounts.list", "--with", "429")
    assert [buckets(local_cloud) for _ in range(3)] == [503, 503, 200]
    answer = local_cloud.answer("iam.projects.serviceAccounts.list", name="projects/odcloud-local")
    assert answer.status_code == 429 and answer.json()["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert chaos(local_cloud, "list") == {"faults": []}
    assert local_cloud.run("chaos", "list").stdout == "No faults are set.\n"


def test_a_service_that_is_not_switched_on_yet(local_cloud: LocalCloud) -> None:
    chaos(local_cloud, "fail", "storage", "--with", "disabled")
    chaos(local_cloud, "fail", "iam", "--with", "disabled")
    told = local_cloud.request("GET", "/storage/v1/b?project=odcloud-local").json()["error"]
    assert (told["code"], told["errors"][0]["reason"]) == (403, "accessNotConfigured")
    assert "Cloud Storage API has not been used in project 100000000001 before or it is disabled" in told["message"]
    told = local_cloud.answer("iam.projects.serviceAccounts.list", name="projects/odcloud-local").json()["error"]
    assert (told["status"], told["details"][0]["reason"]) == ("PERMISSION_DENIED", "SERVICE_DISABLED")


@pytest.mark.parametrize(("kind", "made"), [("reset", False), ("lost", True)])
def test_a_call_without_an_answer(local_cloud: LocalCloud, kind: str, made: bool) -> None:
    name = f"chaos-{kind}"
    before = len((local_cloud.home / "server.log").read_text())
    chaos(local_cloud, "fail", "storage.buckets.insert", "--with", kind)
    with pytest.raises(requests.ConnectionError):
        local_cloud.request("POST", "/storage/v1/b?project=odcloud-local", json={"name": name})
    assert local_cloud.request("GET", f"/storage/v1/b/{name}").ok is made
    assert "Traceback" not in (local_cloud.home / "server.log").read_text()[before:]


def test_a_delay(local_cloud: LocalCloud) -> None:
    chaos(local_cloud, "delay", "storage", "--seconds", "0.5")
    began = time.monotonic()
    assert buckets(local_cloud) == 200
    assert time.monotonic() - began >= 0.5


def test_a_full_disk_takes_no_writes_and_gives_what_it_has(local_cloud: LocalCloud, bucket: str) -> None:
    local_cloud.upload(bucket, "before", b"x")
    assert chaos(local_cloud, "fill") == {"faults": [], "disk": "full"}
    assert local_cloud.run("chaos", "list").stdout == "The disk is full: calls that write are answered with 507.\n"
    refused = local_cloud.request("POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name=after", data=b"x")
    assert refused.status_code == 507 and "No space left" in refused.json()["error"]["message"]
    entry = {"logName": "projects/odcloud-local/logs/x", "resource": {"type": "global"}, "textPayload": "x"}
    message = local_cloud.refusal(507, "logging.entries.write", {"entries": [entry]}, version="v2")
    assert "free some, then try again" in message
    local_cloud.refusal(507, "iam.projects.serviceAccounts.create", {"accountId": "too-late"}, name="projects/odcloud-local")
    assert local_cloud.download(bucket, "before").content == b"x"
    local_cloud.call("logging.entries.list", {"resourceNames": ["projects/odcloud-local"]}, version="v2")
    local_cloud.call("storage.objects.delete", bucket=bucket, object="before")
    chaos(local_cloud, "clear")
    local_cloud.refusal(404, "storage.objects.get", bucket=bucket, object="after")
    local_cloud.upload(bucket, "after", b"x")


@pytest.mark.parametrize("seconds", [7200, -7200])
def test_a_clock_that_is_wrong(local_cloud: LocalCloud, seconds: int) -> None:
    def off(text: str) -> float:
        when = datetime.fromisoformat(text[:19] + "+00:00") if text[0].isdigit() else parsedate_to_datetime(text)
        return round((when - datetime.now(timezone.utc)).total_seconds() / 600) * 600.0  # to ten minutes

    def told(name: str) -> list[float]:
        """How far the clock is off by an answer's header, a new bucket and a new log entry."""
        made = local_cloud.call("storage.buckets.insert", {"name": name}, project="odcloud-local")
        entry = {"logName": f"projects/odcloud-local/logs/{name}", "resource": {"type": "global"}, "textPayload": "x"}
        local_cloud.call("logging.entries.write", {"entries": [entry]}, version="v2")
        wanted = {"resourceNames": ["projects/odcloud-local"], "filter": f'logName="{entry["logName"]}"'}
        (written,) = local_cloud.call("logging.entries.list", wanted, version="v2")["entries"]
        return [*map(off, (local_cloud.request("GET", "/healthz").headers["Date"], made["timeCreated"], written["timestamp"]))]

    assert chaos(local_cloud, "skew", "--seconds", str(seconds)) == {"faults": [], "skew": float(seconds)}
    assert local_cloud.run("chaos", "list").stdout == f"The clock is {seconds:+} s from the time that it is.\n"
    assert told(f"skewed{seconds}") == [seconds] * 3
    chaos(local_cloud, "clear")
    assert told(f"right{seconds}") == [0.0] * 3


def test_clear(local_cloud: LocalCloud) -> None:
    chaos(local_cloud, "fail", "storage", "--calls", "5")
    text = local_cloud.run("chaos", "list").stdout
    assert text == "storage: the next 5 calls are met by 503\n"
    assert chaos(local_cloud, "clear") == {"faults": []}
    assert buckets(local_cloud) == 200


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("fail", "compute"), "'compute'"),
        (("fail", "storage.objects.gett"), "'storage.objects.gett'"),
        (("fail", "storage", "--calls", "0"), "calls"),
        (("fail", "storage", "--with", "418"), "418"),
        (("delay", "storage", "--seconds", "-1"), "seconds"),
        (("delay", "storage", "--seconds", "nan"), "seconds"),
        (("kill", "12345", "workerpool0-0"), "'12345'"),
        (("fill", "12345", "workerpool0-0"), "'12345'"),
        (("skew", "--seconds", "1e12"), "skew"),
        (("skew",), "--seconds"),
        ((), "COMMAND"),
    ],
)
def test_one_clear_error(local_cloud: LocalCloud, words: tuple[str, ...], named: str) -> None:
    done = local_cloud.run("chaos", *words)
    assert done.returncode == 2 and named in done.stderr
    assert done.stderr.startswith("odcloud: error: ") and "Traceback" not in done.stderr


def test_the_private_path_wants_the_token_and_no_web_page(local_cloud: LocalCloud) -> None:
    body = {"target": "storage", "kind": "503"}
    url = f"{local_cloud.url}/_chaos"
    assert requests.post(url, json=body, timeout=60).status_code == 401
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        assert local_cloud.request("POST", "/_chaos", json=body, headers=headers).status_code == 403
    for wrong in (b"{", b"[1]", b'{"target": "storage", "kind": "503", "calls": true}', b'{"action": "explode"}'):
        assert local_cloud.request("POST", "/_chaos", data=wrong).status_code == 400
    assert local_cloud.request("PUT", "/_chaos", json=body).status_code == 405
    assert chaos(local_cloud, "list") == {"faults": []}


def test_a_replica_whose_disk_is_filled_fails_its_job(local_cloud: LocalCloud, bucket: str) -> None:
    sdist(local_cloud.home / "buckets" / bucket / "probe-0.1.tar.gz", "import sys\nexec(sys.argv[1])\n")
    pool = pool_of(["print('up', flush=True); import time; time.sleep(600)"])
    pool["pythonPackageSpec"]["packageUris"] = [f"gs://{bucket}/probe-0.1.tar.gz"]
    body = {"displayName": "fill", "jobSpec": {"workerPoolSpecs": [pool]}}
    name = local_cloud.call("aiplatform.projects.locations.customJobs.create", body, parent=PARENT)["name"]

    def job() -> Any:
        return local_cloud.call("aiplatform.projects.locations.customJobs.get", name=name)

    until(lambda: job()["state"] == "JOB_STATE_RUNNING")
    assert chaos(local_cloud, "fill", name, "workerpool0-0")["action"] == "fill"
    until(lambda: job()["state"] == "JOB_STATE_FAILED")
    assert "The replica workerpool0-0 ran out-of-disk and exited with a non-zero status of 137" in job()["error"]["message"]


@pytest.mark.parametrize(("action", "exit_code"), [("kill", 137), ("preempt", 143)])
def test_a_replica_is_struck_and_restarted(local_cloud: LocalCloud, bucket: str, action: str, exit_code: int) -> None:
    uri = f"gs://{bucket}/probe-0.1.tar.gz"
    sdist(local_cloud.home / "buckets" / bucket / "probe-0.1.tar.gz", "import sys\nexec(sys.argv[1])\n")
    path = str(local_cloud.home / f"release-{action}")
    pool = pool_of([CODE.format(path=path)])
    pool["pythonPackageSpec"]["packageUris"] = [uri]
    made = local_cloud.call(
        "aiplatform.projects.locations.customJobs.create",
        {"displayName": action, "jobSpec": {"workerPoolSpecs": [pool]}},
        parent=PARENT,
    )
    number = made["name"].rpartition("/")[2]

    def lines(word: str) -> list[dict[str, Any]]:
        condition = f'resource.labels.job_id="{number}" AND resource.labels.task_name="workerpool0-0"'
        body = {"resourceNames": ["projects/odcloud-local"], "filter": condition, "pageSize": 1000}
        entries = local_cloud.call("logging.entries.list", body, version="v2").get("entries", [])
        return [entry for entry in entries if word in json.dumps(entry)]

    until(lambda: lines('"up"'))
    answer = chaos(local_cloud, action, made["name"], "workerpool0-0")
    assert answer == {"job": number, "replica": "workerpool0-0", "action": action}
    until(lambda: len(lines('"up"')) == 2)
    ended = lines("It is restarted")
    assert [entry["jsonPayload"]["replica"]["exitCode"] for entry in ended] == [exit_code]
    wrong = local_cloud.run("chaos", action, number, "workerpool1-0")
    assert wrong.returncode == 2 and "workerpool0-0" in wrong.stderr
    (local_cloud.home / f"release-{action}").touch()
    get = "aiplatform.projects.locations.customJobs.get"
    until(lambda: local_cloud.call(get, name=made["name"])["state"] == "JOB_STATE_SUCCEEDED")
