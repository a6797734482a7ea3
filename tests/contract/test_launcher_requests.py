"""Everything that the launcher sends while it trains, follows, evaluates and reports, held against the discovery documents."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from discovery_check import check_request, check_response, document, methods

from infra.outputs import StackOutputs
from launcher import vertex
from launcher.google.api import VERSIONS, Google, override_name
from launcher.google.transport import Response, Transport
from launcher.jobfile import machines, reading, resolve
from launcher.jobs import logs, watch
from launcher.jobs.screen import Plain
from launcher.launch import runs
from launcher.stack.session import Session

if TYPE_CHECKING:
    from conftest import LocalCloud

RUN = "object_detection_1511000000"


class Recorded(Transport):
    """The launcher's transport to a real local cloud, noting what goes through: (method id, path, query, body, answer)."""

    def __init__(self) -> None:
        super().__init__()
        self.exchanges: list[tuple[str, dict[str, str], dict[str, Any], Any, Response]] = []

    def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None, **how: Any) -> Response:
        answer = super().send(method, url, headers, body, **how)
        parts = urlsplit(url)
        found, path = identified(method, parts.path.lstrip("/"))
        query = {name: values if len(values) > 1 else values[0] for name, values in parse_qs(parts.query).items()}
        media = query.get("uploadType") == "media"
        self.exchanges.append((found, path, query, None if media or body is None else json.loads(body), answer))
        return answer


def identified(verb: str, path: str) -> tuple[str, dict[str, str]]:
    """The method that a request calls, by the documents alone, and its path parameters."""
    for api, version in VERSIONS.items():
        for name, method in methods(api, version).items():
            if method["httpMethod"] != verb:
                continue
            templates = [document(api, version)["servicePath"] + method["path"]]
            if "mediaUpload" in method:
                templates.append(method["mediaUpload"]["protocols"]["simple"]["path"].lstrip("/"))
            for template in templates:
                match = path.startswith(template.partition("{")[0]) and re.fullmatch(_pattern(template, method), path)
                if match:
                    return name, {key: unquote(value) for key, value in match.groupdict().items()}
    raise AssertionError(f"{verb} {path} is no method of {', '.join(VERSIONS)}")


def _pattern(template: str, method: Mapping[str, Any]) -> str:
    def fill(match: re.Match[str]) -> str:
        shape = (
            method["parameters"][match[2]].get("pattern", "[^/]+").removeprefix("^").removesuffix("$") if match[1] else "[^/]+"
        )
        return f"(?P<{match[2]}>{shape})"

    return re.sub(r"\{(\+?)(\w+)\}", fill, template.replace(".", r"\."))


@pytest.fixture
def recorded(local_cloud: LocalCloud, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Session, Recorded]]:
    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", (local_cloud.home / "token").read_text())
    for name in VERSIONS:
        monkeypatch.setenv(override_name(name), local_cloud.url + "/")
    # The account that the job runs as, with what the stack gives it.
    member = f"serviceAccount:{outputs(bucket).service_account}"
    local_cloud.answer("iam.projects.serviceAccounts.create", {"accountId": "trainer"}, name="projects/odcloud-local")
    local_cloud.call(
        "storage.buckets.setIamPolicy",
        {"bindings": [{"role": "roles/storage.objectUser", "members": [member]}]},
        bucket=bucket,
    )
    transport = Recorded()
    yield Session(outputs(bucket), Google("us-central1", transport=transport)), transport


def outputs(bucket: str) -> StackOutputs:
    return StackOutputs(
        project="odcloud-local",
        region="us-central1",
        bucket=bucket,
        train_dir=f"gs://{bucket}/train",
        eval_dir=f"gs://{bucket}/eval",
        data_dir=f"gs://{bucket}/data",
        staging_dir=f"gs://{bucket}/staging",
        pipeline_config_path=f"gs://{bucket}/config/pipeline.config",
        label_map_path=f"gs://{bucket}/data/label_map.pbtxt",
        package_uris=[f"gs://{bucket}/packages/none.tar.gz"],
        python_modules={"train": "none.train", "eval": "none.evaluate"},
        executor_image_uri="us-docker.pkg.dev/vertex-ai/training/tf-cpu.2-17.py310:latest",
        image_repository="us-central1-docker.pkg.dev/p/odcloud",
        service_account="trainer@odcloud-local.iam.gserviceaccount.com",
        labels={"app": "odcloud"},
        endpoints={},
    )


def test_each_request_of_a_run_is_a_documented_one(recorded: tuple[Session, Recorded]) -> None:
    session, transport = recorded
    file = reading.parse("trainingInput: {masterType: standard, workerType: standard, workerCount: 2}", "job.yaml")
    job = resolve.training(session.outputs, file, RUN).job
    launched = runs.launch(session, job, lambda text: None)
    # There is no such package: the job fails by itself, and is followed to that end.
    view = watch.follow(session, launched.job, Plain(io.StringIO()))
    assert view.state == "FAILED"
    again = runs.launch(
        session, resolve.evaluation(session.outputs, reading.read(None), runs.newest(session)).job, lambda text: None
    )
    session.cancel(vertex.number(again.job))
    assert session.find(RUN)["name"] == launched.job["name"]
    task = logs.task_of(launched.job, "--replica", "worker-1")
    assert watch.Reader(session, launched.job, task).new()

    called = set()
    for method_id, path, query, body, answer in transport.exchanges:
        api = method_id.partition(".")[0]
        called.add(method_id)
        if "uploadType" in query:
            # A media upload's body is the object; the document describes the metadata that other uploads carry.
            body = {}
        check_request(api, VERSIONS[api], method_id, path, query, body)
        if "alt" not in query and answer.status < 300:
            check_response(api, VERSIONS[api], method_id, json.loads(answer.body))
    assert called == {
        "aiplatform.projects.locations.customJobs.cancel",
        "aiplatform.projects.locations.customJobs.create",
        "aiplatform.projects.locations.customJobs.get",
        "aiplatform.projects.locations.customJobs.list",
        "logging.entries.list",
        "storage.objects.get",
        "storage.objects.insert",
        "storage.objects.list",
    }


@pytest.mark.parametrize("kind", machines.names())
def test_every_machine_type_makes_a_body_that_google_documents(kind: str) -> None:
    text = f"trainingInput: {{masterType: {kind}, workerType: {kind}, workerCount: 3}}\nlabels: {{team: cats}}\n"
    check_body(vertex.custom_job(resolve.training(outputs("b"), reading.parse(text, "job.yaml"), RUN).job))


@pytest.mark.parametrize("tier", [name for name in machines.mapping()["scaleTiers"] if name != "CUSTOM"])
def test_every_scale_tier_makes_a_body_that_google_documents(tier: str) -> None:
    text = f"trainingInput: {{scaleTier: {tier}, scheduling: {{maxRunningTime: 3600s}}, jobDir: gs://b/d}}"
    check_body(vertex.custom_job(resolve.training(outputs("b"), reading.parse(text, "job.yaml"), RUN).job))


def test_an_evaluation_makes_a_body_that_google_documents() -> None:
    check_body(vertex.custom_job(resolve.evaluation(outputs("b"), reading.read(None), RUN).job))


def check_body(body: dict[str, Any]) -> None:
    parent = {"parent": "projects/p/locations/us-central1"}
    check_request("aiplatform", "v1", "aiplatform.projects.locations.customJobs.create", parent, {}, body)


def test_the_check_itself_finds_what_is_wrong() -> None:
    body = vertex.custom_job(resolve.evaluation(outputs("b"), reading.read(None), RUN).job)
    body["jobSpec"]["workerPoolSpecs"][0]["replicaCount"] = 1
    with pytest.raises(AssertionError, match="replicaCount"):
        check_body(body)


def test_job_states_are_all_known() -> None:
    schema = document("aiplatform", "v1")["schemas"]["GoogleCloudAiplatformV1CustomJob"]
    documented = {name.removeprefix("JOB_STATE_") for name in schema["properties"]["state"]["enum"]}
    assert vertex.ENDED | {vertex.CANCELLING} <= documented
