"""What the doctor asks and the price list is read from, where no local service stands in: answers made by hand, held against
the discovery documents as the requests are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from discovery_check import check_request, check_response, document, methods
from test_launcher_requests import _pattern, outputs

from launcher.cost import prices
from launcher.doctor import command, estimates, project, quota, storage
from launcher.doctor.case import Case, Finding
from launcher.google.api import VERSIONS, Google, GoogleError, override_name
from launcher.google.transport import Response, Transport
from launcher.jobfile import machines
from launcher.stack.session import Session

Answer = tuple[int, dict[str, Any]]


class Scripted(Transport):
    """Google, as far as `answers` ({method id: answer or answers by page token}) tell it; everything else is not found."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        super().__init__()
        self._answers = answers
        self.asked: list[str] = []

    def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None, **how: Any) -> Response:
        parts = urlsplit(url)
        for full, (status, answer) in self._answers.items():
            found, _, version = full.partition("@")
            api = found.partition(".")[0]
            version = version or VERSIONS[api]
            described = methods(api, version)[found]
            template = document(api, version)["servicePath"] + described["path"]
            match = re.fullmatch(_pattern(template, described), parts.path.lstrip("/"))
            if not match or described["httpMethod"] != method:
                continue
            query = {name: values if len(values) > 1 else values[0] for name, values in parse_qs(parts.query).items()}
            path = {name: unquote(value) for name, value in match.groupdict().items()}
            check_request(api, version, found, path, query, None if body is None else json.loads(body))
            if status == 200:
                check_response(api, version, found, answer)
            self.asked.append(full)
            return Response(status, {}, json.dumps(answer).encode())
        return Response(404, {}, b'{"error": {"code": 404, "message": "Not found.", "status": "NOT_FOUND"}}')


def refusal(code: int, message: str) -> Answer:
    return code, {"error": {"code": code, "message": message, "status": "PERMISSION_DENIED"}}


@pytest.fixture
def case(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Case]:
    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", "x")
    for name in VERSIONS:
        monkeypatch.delenv(override_name(name), raising=False)

    def made(answers: Mapping[str, Answer], body: dict[str, Any] | None = None, **changes: Any) -> Case:
        stack = outputs("b").model_copy(update=changes)
        return Case(Session(stack, Google("us-central1", transport=Scripted(answers))), body)

    return made


def body(
    kind: str | None = "NVIDIA_TESLA_T4", strategy: str = "STANDARD", machine_type: str = "n1-standard-8"
) -> dict[str, Any]:
    machine: dict[str, Any] = {"machineType": machine_type}
    if kind:
        machine |= {"acceleratorType": kind, "acceleratorCount": 2}
    pool = {"machineSpec": machine, "pythonPackageSpec": {"packageUris": ["gs://b/p"], "executorImageUri": "i", "args": []}}
    spec = {
        "workerPoolSpecs": [{**pool, "replicaCount": "1"}, {**pool, "replicaCount": "3"}],
        "scheduling": {"strategy": strategy},
    }
    return {"displayName": "x", "jobSpec": spec}


BILLING = "cloudbilling.projects.getBillingInfo"
QUOTAS = "serviceusage.services.consumerQuotaMetrics.list@v1beta1"
GPUS = "compute.acceleratorTypes.aggregatedList"
PROJECT = "cloudresourcemanager.projects.get"


def test_nobody_answers(case: Callable[..., Case], monkeypatch: pytest.MonkeyPatch) -> None:
    """What no check could ask is an error, and not a row of checks left out."""
    made = case({})
    gone = GoogleError(PROJECT, "http://127.0.0.1:1/v1/x", None, "", "Connection refused", sent=False)

    def refused(*_: Any, **__: Any) -> Any:
        raise gone

    monkeypatch.setattr(made.session.google, "call", refused)
    found = command.examine(made)
    assert found["credentials"].state == "error"
    assert found["credentials"].text == "nobody could be asked: cannot reach http://127.0.0.1:1: Connection refused"
    assert "odcloud local start" in str(found["credentials"].fix)
    assert {one.state for name, one in found.items() if name != "credentials"} == {"skipped"}


@pytest.mark.parametrize(
    ("check", "answers", "state", "said"),
    [
        (
            project.billing,
            {BILLING: (200, {"billingEnabled": True, "billingAccountName": "billingAccounts/1"})},
            "ok",
            "billingAccounts/1",
        ),
        (project.billing, {BILLING: (200, {"billingEnabled": False})}, "error", "has no billing account"),
        (project.credentials, {PROJECT: refusal(401, "Invalid token.")}, "error", "Invalid token."),
        (project.credentials, {PROJECT: refusal(403, "No.")}, "ok", "is accepted"),
        (project.project, {PROJECT: refusal(403, "No.")}, "error", "No."),
        (project.project, {PROJECT: (200, {"lifecycleState": "DELETE_REQUESTED"})}, "error", "is DELETE_REQUESTED"),
        (
            project.jobs,
            {"cloudresourcemanager.projects.testIamPermissions": (200, {})},
            "error",
            "lacks aiplatform.customJobs.create",
        ),
        (
            project.trainer,
            {"iam.projects.serviceAccounts.get": (200, {"email": "a", "disabled": True})},
            "error",
            "is disabled",
        ),
        (
            project.trainer,
            {
                "iam.projects.serviceAccounts.get": (200, {"email": "a"}),
                "iam.projects.serviceAccounts.testIamPermissions": (200, {}),
            },
            "error",
            "the account in use lacks iam.serviceAccounts.actAs on trainer@",
        ),
        (
            project.trainer,
            {
                "iam.projects.serviceAccounts.get": (200, {"email": "a"}),
                "iam.projects.serviceAccounts.testIamPermissions": (200, {"permissions": ["iam.serviceAccounts.actAs"]}),
            },
            "ok",
            "jobs may be launched",
        ),
        (
            storage.bucket,
            {
                "storage.buckets.get": (200, {"name": "b", "location": "EUROPE-WEST4"}),
                "storage.buckets.testIamPermissions": (
                    200,
                    {"permissions": [f"storage.objects.{what}" for what in ("create", "delete", "get", "list")]},
                ),
            },
            "warning",
            "is in europe-west4, the jobs in us-central1",
        ),
        (
            storage.bucket,
            {
                "storage.buckets.get": (200, {"name": "b", "location": "US"}),
                "storage.buckets.testIamPermissions": (
                    200,
                    {"permissions": [f"storage.objects.{what}" for what in ("create", "get", "list")]},
                ),
            },
            "error",
            "lacks storage.objects.delete on gs://b",
        ),
        (
            storage.trainer_writes,
            {
                "storage.buckets.getIamPolicy": (200, {}),
                "cloudresourcemanager.projects.getIamPolicy": (
                    200,
                    {
                        "bindings": [
                            {
                                "role": "roles/editor",
                                "members": ["serviceAccount:trainer@odcloud-local.iam.gserviceaccount.com"],
                            }
                        ]
                    },
                ),
            },
            "ok",
            "roles/editor",
        ),
    ],
)
def test_a_check(
    case: Callable[..., Case], check: Callable[[Case], Finding], answers: dict[str, Answer], state: str, said: str
) -> None:
    found = check(case(answers))
    assert (found.state, said in found.text) == (state, True), found
    assert bool(found.fix) == (state in ("error", "warning"))


def test_what_cannot_be_asked_says_what_would_help(case: Callable[..., Case]) -> None:
    """The resource manager's API is off, which says nothing of the project."""
    made = case({PROJECT: refusal(403, "Cloud Resource Manager API has not been used in project odcloud-local before.")})
    found = command.carried_out(project.project, made)
    assert found.state == "skipped"
    assert str(found.fix).startswith("`gcloud services enable cloudresourcemanager.googleapis.com --project odcloud-local`")


def test_credentials_without_a_quota_project(case: Callable[..., Case]) -> None:
    found = project.credentials(
        case({PROJECT: refusal(403, "The … API requires a quota project, which is not set by default.")})
    )
    assert found.state == "error"
    assert "gcloud auth application-default set-quota-project odcloud-local" in str(found.fix)


def metric(name: str, *buckets: dict[str, Any]) -> dict[str, Any]:
    return {"metric": quota.PREFIX + name, "consumerQuotaLimits": [{"quotaBuckets": list(buckets)}]}


@pytest.mark.parametrize(
    ("job", "limit", "state", "said"),
    [
        (body(), "8", "ok", "cpus 32/unlimited, nvidia_t4_gpus 8/8"),
        (body(), "7", "error", "custom_model_training_nvidia_t4_gpus: 8 asked, 7 allowed in us-central1"),
        (body(None), "0", "ok", "cpus 32/unlimited"),
        (body(strategy="SPOT"), "100", "skipped", "no limit found of preemptible_cpus, preemptible_nvidia_t4_gpus"),
        (body(strategy="FLEX_START"), "100", "skipped", "no limit found of preemptible_cpus, preemptible_nvidia_t4_gpus"),
        (body(None, machine_type="n2-standard-8"), "0", "skipped", "no limit found of n2_cpus"),
        (body("NVIDIA_H100_80GB", machine_type="a3-highgpu-8g"), "0", "skipped", "no limit found of a3_cpus, nvidia_h100_gpus"),
        (body("NVIDIA_A100_80GB", machine_type="a2-ultragpu-2g"), "0", "skipped", "found of a2_cpus, nvidia_a100_80gb_gpus"),
    ],
)
def test_quotas(case: Callable[..., Case], job: dict[str, Any], limit: str, state: str, said: str) -> None:
    metrics = [
        metric("cpus", {"effectiveLimit": "-1"}),
        metric("nvidia_t4_gpus", {"effectiveLimit": "1"}, {"effectiveLimit": limit, "dimensions": {"region": "us-central1"}}),
        {"metric": "aiplatform.googleapis.com/other"},
    ]
    found = quota.quotas(case({QUOTAS: (200, {"metrics": metrics})}, job))
    assert (found.state, said in found.text) == (state, True), found
    unoffered = quota.quotas(case({QUOTAS: refusal(501, "not offered by the local cloud")}, job))
    assert (unoffered.state, unoffered.text) == ("skipped", "the service tells no quotas")


def test_regions_with_an_accelerator(case: Callable[..., Case]) -> None:
    def there(*zones: str) -> dict[str, Answer]:
        items = {f"zones/{zone}": {"acceleratorTypes": [{"name": "nvidia-tesla-t4"}]} for zone in zones}
        return {GPUS: (200, {"items": {**items, "zones/us-central1-x": {"warning": {"code": "NO_RESULTS_ON_PAGE"}}}})}

    assert quota.region(case(there("us-central1-a"), body())).state == "ok"
    found = quota.region(case(there("europe-west4-a", "europe-west4-b", "asia-east1-c"), body()))
    assert found.text == "us-central1 has no NVIDIA_TESLA_T4; regions that have: asia-east1, europe-west4"
    assert quota.region(case({}, body(None))).state == "ok"
    # Compute Engine lists no TPUs.
    tpus = quota.region(case({}, body("TPU_V2", machine_type="cloud-tpu")))
    assert tpus.state == "skipped" and "not asked about TPU_V2" in tpus.text
    both = body()
    both["jobSpec"]["workerPoolSpecs"][1]["machineSpec"] = {"machineType": "cloud-tpu", "acceleratorType": "TPU_V3"}
    said = quota.region(case(there("us-central1-a"), both))
    assert said.state == "ok" and "has NVIDIA_TESLA_T4; " in said.text and "not asked about TPU_V3" in said.text


def test_images(case: Callable[..., Case]) -> None:
    tags = "artifactregistry.projects.locations.repositories.packages.tags.get"
    ours = "us-central1-docker.pkg.dev/odcloud-local/repo/some/trainer:1"
    version = {
        "name": "1",
        "version": "projects/odcloud-local/locations/us-central1/repositories/repo/packages/some/versions/sha256:a",
    }
    found = storage.images(case({tags: (200, version)}, executor_image_uri=ours))
    assert (found.state, found.text) == ("ok", ours)
    assert storage.images(case({}, executor_image_uri=ours)).text == f"{ours} does not exist"
    digest = ours.replace(":1", "@sha256:" + 64 * "a")
    images = "artifactregistry.projects.locations.repositories.dockerImages.get"
    assert storage.images(case({images: (200, {})}, executor_image_uri=digest)).state == "ok"
    assert storage.images(case({}, executor_image_uri="docker.io/x/y:1")).state == "skipped"
    # Google's own images cannot be seen by everybody; of some it is known that they are at their end.
    google = "us-docker.pkg.dev/vertex-ai/training"
    assert storage.images(case({}, executor_image_uri=f"{google}/pytorch-gpu.2-4.py310:latest")).state == "skipped"
    old = storage.images(case({}, executor_image_uri=f"{google}/tf-tpu.2-15.cp310:latest"))
    assert old.state == "warning" and "past its end of availability (2025-10-23" in old.text
    assert machines.outdated(f"{google}/tf-cpu.2-17.py310:latest", date(2026, 7, 11)) is None
    assert machines.outdated(f"{google}/tf-cpu.2-17.py310:latest", date(2026, 7, 12))


def test_the_worst_of_several_images_counts(case: Callable[..., Case]) -> None:
    tags = "artifactregistry.projects.locations.repositories.packages.tags.get"
    google, ours = "us-docker.pkg.dev/vertex-ai/training", "us-docker.pkg.dev/odcloud-local/repo/some:1"

    def found(*images: str, answer: Answer | None = None) -> Finding:
        made = body(None)
        pools = [{"machineSpec": {}, "replicaCount": "1", "containerSpec": {"imageUri": image}} for image in images]
        made["jobSpec"]["workerPoolSpecs"] = pools
        return storage.images(case({tags: answer} if answer else {}, made))

    missing = found("docker.io/x/y:1", f"{google}/tf-tpu.2-15.cp310:latest", ours)
    assert (missing.state, missing.text) == ("error", f"{ours} does not exist")
    old = found("docker.io/x/y:1", f"{google}/tf-tpu.2-15.cp310:latest")
    assert old.state == "warning" and "past its end" in old.text
    unseen = found("us-docker.pkg.dev/theirs/repo/some:1", "docker.io/x/y:1", answer=refusal(403, "No."))
    assert unseen.state == "skipped" and "is not seen" in unseen.text and "docker.io/x/y:1 is not in" in unseen.text


def test_parameter_servers_need_no_memory_for_training(case: Callable[..., Case]) -> None:
    job = body(None)
    pool = job["jobSpec"]["workerPoolSpecs"][1]
    job["jobSpec"]["workerPoolSpecs"].append({**pool, "machineSpec": {"machineType": "n1-highcpu-8"}})
    made = case({}, job)
    made.found.update({"config": {"imageSize": (640, 640), "shuffleBuffer": 2048, "batchSize": 32}, "train record": 2**20})
    found = estimates.memory(made)
    assert found.state == "ok" and found.text.endswith("n1-standard-8 has 30 GiB")
    pool["machineSpec"]["machineType"] = "n1-highcpu-8"
    assert estimates.memory(made).state == "warning"


def test_prices_come_from_the_catalogue(case: Callable[..., Case]) -> None:
    def sku(text: str, nanos: int) -> dict[str, Any]:
        return {
            "description": text,
            "category": {"usageType": "OnDemand"},
            "serviceRegions": ["us-central1"],
            "pricingInfo": [{"pricingExpression": {"tieredRates": [{"unitPrice": {"units": "0", "nanos": nanos}}]}}],
        }

    skus = [sku("N1 Predefined Instance Core running in Americas", 31611000)]
    google = case({"cloudbilling.services.skus.list": (200, {"skus": skus})}).session.google
    found, reason = prices.best(google, "2030-01-01")
    assert (found.date, reason, found.families) == ("2030-01-01", None, {("n1", "core"): 0.031611})
    found, reason = prices.best(case({}).session.google, "2030-01-01")
    assert found == prices.listed() and "could not be read" in str(reason)


@pytest.mark.parametrize(
    ("run", "start", "names", "state", "said"),
    [
        (None, None, [], "ok", "a new run begins anew"),
        ("r", None, ["train/r/ckpt-7.index", "train/r/ckpt-12.index"], "ok", "the run goes on from step 12"),
        ("r", None, [], "warning", "gs://b/train/r holds no checkpoint"),
        ("r", "gs://b/start/ckpt-1", ["start/ckpt-1.index"], "ok", "begins from gs://b/start/ckpt-1"),
        (None, "gs://b/start/ckpt-1", ["start/ckpt-1.index"], "ok", "begins from gs://b/start/ckpt-1"),
        (None, "gs://b/start", ["start/ckpt-1.index"], "ok", "begins from gs://b/start"),
        (None, "gs://b/start/ckpt-1", ["start/ckpt-10.index", "start/ckpt-1.data"], "error", "is no checkpoint"),
        (None, "/home/me/ckpt", [], "error", "replicas cannot see a path of this machine"),
    ],
)
def test_what_training_begins_from(
    case: Callable[..., Case], run: str | None, start: str | None, names: list[str], state: str, said: str
) -> None:
    made = replace(case({"storage.objects.list": (200, {"items": [{"name": name} for name in names]})}), run=run)
    if run is None:
        assert storage.checkpoint(made).state == "skipped"  # nobody has looked at the configuration
    made.found["config"] = {"start": start}
    found = storage.checkpoint(made)
    assert found.state == state and said in found.text
