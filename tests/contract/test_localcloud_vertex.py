"""Custom jobs and log entries over HTTP: answers are checked against the discovery documents, refusals for what they name."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import uvicorn

from localcloud.cloud import open_cloud
from localcloud.discovery import load_document
from localcloud.home import HOST, Home
from localcloud.jobs.ending import Patience
from localcloud.messages import read_message
from localcloud.runner import JobRunner
from localcloud.server import configured, load_services

LOCATION = "v1/projects/odcloud-local/locations/us-central1"
POOL = {
    "replicaCount": "1",
    "machineSpec": {"machineType": "n1-standard-8", "acceleratorType": "NVIDIA_TESLA_T4", "acceleratorCount": 1},
    "pythonPackageSpec": {
        "executorImageUri": "us-docker.pkg.dev/vertex-ai/training/tf-gpu.2-17.py310:latest",
        "packageUris": ["gs://no-bucket/packages/none-0.1.tar.gz"],
        "pythonModule": "trainer.train",
        "args": ["--train_dir=gs://no-bucket/train"],
        "env": [{"name": "A", "value": "1"}],
    },
}
JOB = {
    "displayName": "object_detection_1",
    "labels": {"odcloud-run": "object_detection_1", "kind": "train"},
    "jobSpec": {
        "workerPoolSpecs": [POOL, {}, {**POOL, "replicaCount": "3"}],
        "baseOutputDirectory": {"outputUriPrefix": "gs://no-bucket/train"},
        "scheduling": {"timeout": "3600s"},
        "serviceAccount": "trainer@odcloud-local.iam.gserviceaccount.com",
    },
}


class Server:
    """A real server in this process; its answers are checked against the document of the API they belong to."""

    def __init__(self, home: Home) -> None:
        load_services()
        home.prepare()
        listener = socket.create_server((HOST, 0))
        self.url = f"http://{HOST}:{listener.getsockname()[1]}"
        self.cloud = open_cloud(home, self.url)
        self.cloud.runner = JobRunner(self.cloud, Patience(success=1, terminate=1, failure=1, stop=1))
        self._server = uvicorn.Server(configured(self.cloud))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        accounts = "v1/projects/odcloud-local/serviceAccounts"
        assert self.send("POST", accounts, {"accountId": "trainer"}).ok
        roles = ("roles/storage.objectUser", "roles/logging.logWriter")
        members = [f"serviceAccount:{JOB['jobSpec']['serviceAccount']}"]  # type: ignore[index]
        policy = {"bindings": [{"role": role, "members": members} for role in roles]}
        assert self.send("POST", "v1/projects/odcloud-local:setIamPolicy", {"policy": policy}).ok

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self.cloud.close()

    def call(
        self, verb: str, path: str, answer: str, body: Any = None, document: str = "aiplatform.v1", **query: Any
    ) -> dict[str, Any]:
        """A call that must succeed with a message of schema `answer`."""
        response = self.send(verb, path, body, **query)
        assert response.status_code == 200, response.text
        message: dict[str, Any] = response.json()
        read_message(load_document(document)["schemas"], answer, message, proto=False)
        return message

    def refused(self, verb: str, path: str, body: Any = None, **query: Any) -> tuple[int, str, dict[str, Any]]:
        """Code, status and error of a call that must fail."""
        response = self.send(verb, path, body, **query)
        error = response.json()["error"]
        assert response.status_code == error["code"] >= 400
        return error["code"], error["status"], error

    def send(self, verb: str, path: str, body: Any = None, **query: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.cloud.token}"}
        return requests.request(verb, f"{self.url}/{path}", json=body, params=query, headers=headers, timeout=30)

    def create(self, **changes: Any) -> dict[str, Any]:
        return self.call("POST", f"{LOCATION}/customJobs", "GoogleCloudAiplatformV1CustomJob", {**JOB, **changes})

    def wait(self, name: str) -> dict[str, Any]:
        while True:
            job = self.call("GET", f"v1/{name}", "GoogleCloudAiplatformV1CustomJob")
            if job["state"] in ("JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_SUCCEEDED"):
                return job
            time.sleep(0.05)

    def list(self, **query: Any) -> list[str]:
        answer = self.call("GET", f"{LOCATION}/customJobs", "GoogleCloudAiplatformV1ListCustomJobsResponse", **query)
        return [job["displayName"] for job in answer.get("customJobs", [])]

    def entries(self, **body: Any) -> dict[str, Any]:
        body = {"resourceNames": ["projects/odcloud-local"], **body}
        return self.call("POST", "v2/entries:list", "ListLogEntriesResponse", body, "logging.v2")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(Home(tmp_path_factory.mktemp("home")))
    yield server
    server.close()


def test_the_life_of_a_job(server: Server) -> None:
    created = server.create()
    assert created["state"] == "JOB_STATE_QUEUED"
    assert {key: created[key] for key in JOB} == JOB
    project, _, number = created["name"].rpartition("/")
    assert project == "projects/100000000001/locations/us-central1/customJobs"
    assert number.isdecimal()
    ended = server.wait(created["name"])
    assert ended["state"] == "JOB_STATE_FAILED"
    assert "gs://no-bucket/packages/none-0.1.tar.gz" in ended["error"]["message"]
    assert ended["createTime"] <= ended["endTime"] <= ended["updateTime"]
    assert "startTime" not in ended
    by_id = server.call("GET", f"{LOCATION}/customJobs/{number}", "GoogleCloudAiplatformV1CustomJob")
    assert by_id == ended
    assert server.call("POST", f"{LOCATION}/customJobs/{number}:cancel", "GoogleProtobufEmpty", {}) == {}
    assert server.call("GET", f"v1/{ended['name']}", "GoogleCloudAiplatformV1CustomJob") == ended
    operation = server.call("DELETE", f"v1/{ended['name']}", "GoogleLongrunningOperation")
    assert operation["done"]
    assert server.call("GET", f"v1/{operation['name']}", "GoogleLongrunningOperation") == operation
    assert server.refused("GET", f"v1/{ended['name']}")[:2] == (404, "NOT_FOUND")


def test_lists_are_filtered_newest_first_and_in_pages(server: Server) -> None:
    for place in range(5):
        server.create(displayName=f"page_{place}", labels={"place": str(place), "even" if place % 2 == 0 else "odd": ""})
    names = [f"page_{place}" for place in (4, 3, 2, 1, 0)]
    pages, token = [], ""
    while True:
        answer = server.call(
            "GET",
            f"{LOCATION}/customJobs",
            "GoogleCloudAiplatformV1ListCustomJobsResponse",
            filter='display_name:"page_*"',
            pageSize=2,
            pageToken=token,
        )
        pages.append([job["displayName"] for job in answer["customJobs"]])
        if not (token := answer.get("nextPageToken", "")):
            break
    assert pages == [names[:2], names[2:4], names[4:]]
    for text, found in {
        'displayName="page_3"': ["page_3"],
        "labels.place=2": ["page_2"],
        'labels.place="2" OR labels.place=4': ["page_4", "page_2"],
        'display_name:"page_*" AND labels.even:*': ["page_4", "page_2", "page_0"],
        'display_name:"page_*" AND NOT labels.even:*': ["page_3", "page_1"],
        'display_name:"page_*" AND labels.place!=1 AND labels.odd:*': ["page_3"],
        'labels.place=1 AND state="JOB_STATE_RUNNING"': [],
        'labels.place=1 AND create_time>"2020-01-01T00:00:00Z"': ["page_1"],
        'labels.place=1 AND create_time<"2020-01-01T00:00:00Z"': [],
    }.items():
        assert server.list(filter=text) == found, text
    for text in ("nonsense=1", "state>", 'state="', "labels.a<1", "bare", "create_time>soon"):
        code, status, error = server.refused("GET", f"{LOCATION}/customJobs", filter=text)
        assert (code, status) == (400, "INVALID_ARGUMENT")
        assert repr(text) in error["message"]
    assert server.refused("GET", f"{LOCATION}/customJobs", pageToken="x")[0] == 400


def change(path: str, value: Any) -> dict[str, Any]:
    """The job with the field at `path` (dots, indexes) set, or removed when the value is None."""
    job = json.loads(json.dumps(JOB))  # the pools share nothing there
    *parents, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    place: Any = job
    for part in parents:
        place = place[part]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return job


POOLS = "jobSpec.workerPoolSpecs"


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("displayName", None, "display_name"),
        ("displayName", "x" * 129, "display_name"),
        ("jobSpec", None, "job_spec"),
        (POOLS, [], "job_spec.worker_pool_specs"),
        (f"{POOLS}.0", {}, "job_spec.worker_pool_specs[0]"),
        (f"{POOLS}.0.replicaCount", "2", "job_spec.worker_pool_specs[0].replica_count"),
        (f"{POOLS}.0.replicaCount", None, "job_spec.worker_pool_specs[0].replica_count"),
        (f"{POOLS}.2.replicaCount", "0", "job_spec.worker_pool_specs[2].replica_count"),
        (f"{POOLS}.2.machineSpec", None, "job_spec.worker_pool_specs[2].machine_spec.machine_type"),
        (f"{POOLS}.2.machineSpec.machineType", "standard_gpu", "job_spec.worker_pool_specs[2].machine_spec.machine_type"),
        (f"{POOLS}.2.machineSpec.machineType", "n1-standard-3", "job_spec.worker_pool_specs[2].machine_spec.machine_type"),
        (f"{POOLS}.0.machineSpec.machineType", "n2-standard-8", "job_spec.worker_pool_specs[0].machine_spec.accelerator_type"),
        (
            f"{POOLS}.0.machineSpec.acceleratorType",
            "NVIDIA_L4",
            "job_spec.worker_pool_specs[0].machine_spec.accelerator_type",
        ),
        (f"{POOLS}.0.machineSpec.acceleratorCount", None, "job_spec.worker_pool_specs[0].machine_spec.accelerator_count"),
        (f"{POOLS}.0.pythonPackageSpec", None, "job_spec.worker_pool_specs[0]"),
        (
            f"{POOLS}.0.pythonPackageSpec.executorImageUri",
            None,
            "job_spec.worker_pool_specs[0].python_package_spec.executor_image_uri",
        ),
        (f"{POOLS}.0.pythonPackageSpec.packageUris", [], "job_spec.worker_pool_specs[0].python_package_spec.package_uris"),
        (
            f"{POOLS}.0.pythonPackageSpec.packageUris",
            ["/x"],
            "job_spec.worker_pool_specs[0].python_package_spec.package_uris[0]",
        ),
        (f"{POOLS}.0.pythonPackageSpec.pythonModule", None, "job_spec.worker_pool_specs[0].python_package_spec.python_module"),
        (f"{POOLS}.0.pythonPackageSpec.pythonModule", "a b", "job_spec.worker_pool_specs[0].python_package_spec.python_module"),
        (f"{POOLS}.0.pythonPackageSpec.env.0.name", "1A", "job_spec.worker_pool_specs[0].python_package_spec.env[0].name"),
        ("jobSpec.baseOutputDirectory.outputUriPrefix", "/tmp", "job_spec.base_output_directory.output_uri_prefix"),
        ("labels", {"Big": "x"}, "labels"),
        ("labels", {"small": "X"}, "labels"),
        ("labels", {"smallThenBig": "x"}, "labels"),
    ],
)
def test_wrong_jobs_are_refused_by_field(server: Server, path: str, value: Any, field: str) -> None:
    code, status, error = server.refused("POST", f"{LOCATION}/customJobs", change(path, value))
    assert (code, status) == (400, "INVALID_ARGUMENT")
    assert [violation["field"] for violation in error["details"][0]["fieldViolations"]] == [field]
    assert f"Field: {field}; Message: " in error["message"]


def test_other_refusals(server: Server) -> None:
    for wrong, field in (
        ({}, "image_uri"),
        ({"imageUri": "no image"}, "image_uri"),
        ({"imageUri": "image:1", "env": [{"name": "1A"}]}, "env[0].name"),
    ):
        container = change(f"{POOLS}.0", {**POOL, "containerSpec": wrong})
        del container["jobSpec"]["workerPoolSpecs"][0]["pythonPackageSpec"]
        code, status, error = server.refused("POST", f"{LOCATION}/customJobs", container)
        assert (code, status) == (400, "INVALID_ARGUMENT")
        assert f"Field: job_spec.worker_pool_specs[0].container_spec.{field};" in error["message"]
    assert server.refused("POST", "v1/projects/other/locations/us-central1/customJobs", JOB)[:2] == (403, "PERMISSION_DENIED")
    assert server.refused("POST", "v1/projects/odcloud-local/locations/mars/customJobs", JOB)[0] == 400
    assert server.refused("GET", f"{LOCATION}/customJobs/5")[0] == 404
    assert server.refused("POST", f"{LOCATION}/customJobs/5:cancel", {})[0] == 404
    assert server.refused("POST", f"{LOCATION}/customJobs", {**JOB, "jobSpeck": {}})[0] == 400


def test_log_entries_of_a_job(server: Server) -> None:
    name = server.create()["name"]
    server.wait(name)
    number = name.rpartition("/")[2]
    of_job = f'(resource.type="ml_job" OR resource.type="cloudml_job") AND resource.labels.job_id="{number}"'
    found = server.entries(filter=of_job)["entries"]
    assert found[0]["textPayload"] == "Job creation request has been accepted."
    assert found[0]["resource"] == {
        "type": "ml_job",
        "labels": {"project_id": "odcloud-local", "job_id": number, "task_name": "service"},
    }
    assert found[-1]["severity"] == "ERROR"
    replica = server.entries(filter=f'{of_job} AND resource.labels.task_name="workerpool2-1"', orderBy="timestamp desc")[
        "entries"
    ][0]
    assert replica["jsonPayload"]["replica"]["state"] == "STOPPED"
    pages: list[dict[str, Any]] = []
    token = ""
    while True:
        answer = server.entries(filter=of_job, pageSize=2, pageToken=token)
        pages += answer["entries"]
        if not (token := answer.get("nextPageToken", "")):
            break
    assert pages == found
    assert server.entries(filter=of_job, orderBy="timestamp desc")["entries"] == found[::-1]


def test_entries_can_be_written(server: Server) -> None:
    body = {
        "logName": "projects/odcloud-local/logs/mine",
        "resource": {"type": "global"},
        "labels": {"a": "1"},
        "entries": [
            {"textPayload": "hello", "severity": "WARNING"},
            {"jsonPayload": {"x": 1}, "timestamp": "2026-01-01T00:00:00Z"},
        ],
    }
    assert server.call("POST", "v2/entries:write", "WriteLogEntriesResponse", {**body, "dryRun": True}, "logging.v2") == {}
    assert server.call("POST", "v2/entries:write", "WriteLogEntriesResponse", body, "logging.v2") == {}
    found = server.entries(filter='logName="projects/odcloud-local/logs/mine"')["entries"]
    assert [entry.get("textPayload") for entry in found] == [None, "hello"]
    assert found[1]["labels"] == {"a": "1"}
    del body["resource"]
    assert "entries[0].resource" in server.refused("POST", "v2/entries:write", body)[2]["message"]


@pytest.mark.parametrize(
    ("body", "code", "named"),
    [
        ({"filter": "severity="}, 400, "severity="),
        ({"orderBy": "severity"}, 400, "severity"),
        ({"pageToken": "zzz"}, 400, "zzz"),
        ({"pageSize": -1}, 400, "-1"),
        ({"resourceNames": []}, 400, "resourceNames"),
        ({"resourceNames": ["projects/other"]}, 403, "projects/other"),
    ],
)
def test_wrong_questions_about_logs(server: Server, body: dict[str, Any], code: int, named: str) -> None:
    refused, _, error = server.refused("POST", "v2/entries:list", {"resourceNames": ["projects/odcloud-local"], **body})
    assert refused == code
    assert named in error["message"]


def test_a_job_is_seen_in_its_own_location_and_answers_are_cut_to_what_is_asked_for(server: Server) -> None:
    elsewhere = "v1/projects/odcloud-local/locations/europe-west4/customJobs"
    job = {**JOB, "displayName": "elsewhere"}
    name = server.call("POST", elsewhere, "GoogleCloudAiplatformV1CustomJob", job)["name"]
    assert name.startswith("projects/100000000001/locations/europe-west4/customJobs/")
    assert "elsewhere" not in server.list()
    number = name.rpartition("/")[2]
    assert server.refused("GET", f"{LOCATION}/customJobs/{number}")[0] == 404
    assert server.refused("POST", f"{LOCATION}/customJobs/{number}:cancel", {})[0] == 404
    partial = {"fields": "customJobs(name,jobSpec/scheduling/timeout)"}
    (found,) = server.call("GET", elsewhere, "GoogleCloudAiplatformV1ListCustomJobsResponse", **partial)["customJobs"]
    assert found == {"name": name, "jobSpec": {"scheduling": {"timeout": "3600s"}}}
    masked = server.call("GET", elsewhere, "GoogleCloudAiplatformV1ListCustomJobsResponse", readMask="name,display_name")
    assert masked["customJobs"] == [{"name": name, "displayName": "elsewhere"}]
    assert server.refused("GET", elsewhere, fields="customJobs(")[0] == 400


def test_logs_are_named_and_forgotten(server: Server) -> None:
    entry = {"logName": "projects/odcloud-local/logs/mine%2Fown", "resource": {"type": "global"}, "textPayload": "x"}
    server.call("POST", "v2/entries:write", "WriteLogEntriesResponse", {"entries": [entry]}, "logging.v2")
    logs = "v2/projects/odcloud-local/logs"
    named = server.call("GET", logs, "ListLogsResponse", None, "logging.v2")["logNames"]
    assert entry["logName"] in named
    server.call("DELETE", f"{logs}/mine%252Fown", "Empty", None, "logging.v2")
    assert server.entries(filter=f'logName="{entry["logName"]}"')["entries"] == []
    assert server.refused("DELETE", f"{logs}/mine%252Fown")[0] == 404


def test_logs_are_followed_as_they_are_written(server: Server) -> None:
    def write(text: str, log: str = "followed") -> None:
        entry = {"logName": f"projects/odcloud-local/logs/{log}", "resource": {"type": "global"}, "textPayload": text}
        server.call("POST", "v2/entries:write", "WriteLogEntriesResponse", {"entries": [entry]}, "logging.v2")

    write("before")
    body = {"resourceNames": ["projects/odcloud-local"], "filter": "logName:followed"}
    headers = {"Authorization": f"Bearer {server.cloud.token}"}
    with requests.post(f"{server.url}/v2/entries:tail", json=body, headers=headers, stream=True, timeout=60) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        write("not this", log="other")
        write("one")
        received = [json.loads(next(lines).removeprefix(b"["))]
        server.call("DELETE", "v2/projects/odcloud-local/logs/followed", "Empty", None, "logging.v2")
        write("two")
        received.append(json.loads(next(lines).removeprefix(b",")))
    for message in received:
        read_message(load_document("logging.v2")["schemas"], "TailLogEntriesResponse", message, proto=False)
    assert [entry["textPayload"] for message in received for entry in message["entries"]] == ["one", "two"]
    assert server.refused("POST", "v2/entries:tail", {})[0] == 400
    assert server.refused("POST", "v2/entries:tail", {**body, "filter": "severity="})[0] == 400
