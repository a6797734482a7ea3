"""ML Engine jobs over HTTP: refusals, pages and filters. Running them is in clients/test_gcloud_ai_platform.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import LocalCloud

PARENT = "projects/odcloud-local"
INPUT = {
    "scaleTier": "CUSTOM",
    "masterType": "n1-standard-4",
    "packageUris": ["gs://absent-bucket/packages/none-0.1.tar.gz"],
    "pythonModule": "trainer.train",
    "region": "us-central1",
}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"jobId": "1job"}, "job.job_id"),
        ({"jobId": "a-b"}, "job.job_id"),
        ({"trainingInput": None}, "job.training_input"),
        ({"region": None}, "job.training_input.region"),
        ({"region": "europe-nowhere1"}, "job.training_input.region"),
        ({"masterType": None}, "job.training_input.master_type"),
        ({"masterType": "huge"}, "job.training_input.master_type"),
        ({"masterType": "n1-standard-3"}, "job.training_input.master_type"),
        (
            {"masterConfig": {"acceleratorConfig": {"type": "NVIDIA_TESLA_A100", "count": "1"}}},
            "job.training_input.master_config.accelerator_config",
        ),
        ({"workerCount": "2"}, "job.training_input.worker_type"),
        ({"workerCount": "2", "workerType": "tiny"}, "job.training_input.worker_type"),
        ({"workerCount": "-1"}, "job.training_input.worker_count"),
        ({"scaleTier": "BASIC"}, "job.training_input.master_type"),
        ({"packageUris": None}, "job.training_input.package_uris"),
        ({"packageUris": ["/tmp/x.tar.gz"]}, "job.training_input.package_uris[0]"),
        ({"pythonModule": "a b"}, "job.training_input.python_module"),
        ({"jobDir": "/tmp/x"}, "job.training_input.job_dir"),
        ({"labels": {"Big": "x"}}, "job.labels"),
    ],
)
def test_a_wrong_field_is_named(local_cloud: LocalCloud, changes: dict[str, Any], field: str) -> None:
    body: dict[str, Any] = {"jobId": "refused", "trainingInput": INPUT}
    for name, value in changes.items():
        place = body if name in ("jobId", "labels", "trainingInput") else body["trainingInput"]
        merged = {**place, name: value}
        cleaned = {key: kept for key, kept in merged.items() if kept is not None}
        body = cleaned if place is body else {**body, "trainingInput": cleaned}
    message = local_cloud.refusal(400, "ml.projects.jobs.create", body, parent=PARENT)
    assert message.startswith(f"Field: {field} Error: ")
    local_cloud.refusal(404, "ml.projects.jobs.get", name=f"{PARENT}/jobs/refused")


@pytest.mark.parametrize(
    "body",
    [
        {"jobId": "tpu", "trainingInput": {**INPUT, "masterType": "cloud_tpu"}},
        {"jobId": "tuned", "trainingInput": {**INPUT, "hyperparameters": {"goal": "MAXIMIZE"}}},
        {"jobId": "predicted", "predictionInput": {"region": "us-central1"}},
    ],
)
def test_what_is_not_offered_is_said(local_cloud: LocalCloud, body: dict[str, Any]) -> None:
    assert "not offered" in local_cloud.refusal(501, "ml.projects.jobs.create", body, parent=PARENT)


def test_another_project_is_not_seen(local_cloud: LocalCloud) -> None:
    local_cloud.refusal(403, "ml.projects.jobs.list", parent="projects/other")
    local_cloud.refusal(403, "ml.projects.jobs.get", name="projects/other/jobs/x")


def test_pages_and_filters(local_cloud: LocalCloud) -> None:
    for number in range(5):
        body = {"jobId": f"paged_{number}", "trainingInput": INPUT, "labels": {"parity": ("even", "odd")[number % 2]}}
        made = local_cloud.call("ml.projects.jobs.create", body, parent=PARENT)
        assert made["state"] == "QUEUED" and made["labels"] == body["labels"]

    def listed(**query: Any) -> list[str]:
        answer = local_cloud.call("ml.projects.jobs.list", parent=PARENT, **query)
        return [job["jobId"] for job in answer.get("jobs", [])]

    assert listed(filter="jobId:paged_*") == [f"paged_{number}" for number in (4, 3, 2, 1, 0)]
    assert listed(filter="jobId:paged_* AND labels.parity=odd") == ["paged_3", "paged_1"]
    assert listed(filter="jobId=paged") == []
    seen, token = [], {}
    while True:
        answer = local_cloud.call("ml.projects.jobs.list", parent=PARENT, filter="jobId:paged_*", pageSize=2, **token)
        seen += [job["jobId"] for job in answer["jobs"]]
        if "nextPageToken" not in answer:
            break
        token = {"pageToken": answer["nextPageToken"]}
    assert seen == [f"paged_{number}" for number in (4, 3, 2, 1, 0)]
    assert "createTime" in local_cloud.refusal(400, "ml.projects.jobs.list", parent=PARENT, filter="createTime>1")
    local_cloud.refusal(
        404, "aiplatform.projects.locations.customJobs.get", name=f"{PARENT}/locations/us-central1/customJobs/paged_0"
    )
