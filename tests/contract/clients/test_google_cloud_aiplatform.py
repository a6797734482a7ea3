"""google-cloud-aiplatform as installed: `CustomJob` over REST, to the local cloud's endpoint, with the environment's token."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from client_environment import as_client
from google.api_core.exceptions import BadRequest, NotFound
from google.cloud import aiplatform
from google.cloud.aiplatform_v1 import JobServiceClient
from google.cloud.aiplatform_v1.types import JobState
from packed import old_sdist

if TYPE_CHECKING:
    from conftest import LocalCloud

IMAGE = "us-docker.pkg.dev/vertex-ai/training/tf-cpu.2-17.py310:latest"
MODULES = {"greet": "print('hello')\n", "wait": "import time\ntime.sleep(600)\n", "fail": "raise SystemExit(7)\n"}


@pytest.fixture(scope="module")
def staging(local_cloud: LocalCloud) -> Iterator[str]:
    """The library, told where the local cloud is, and a bucket with a package."""
    local_cloud.call("storage.buckets.insert", {"name": "aiplatform-staging"}, project="odcloud-local")
    local_cloud.upload("aiplatform-staging", "prog-0.1.tar.gz", old_sdist("prog", MODULES))
    with as_client(local_cloud):
        yield "gs://aiplatform-staging"


@pytest.fixture
def library(local_cloud: LocalCloud, staging: str) -> Any:
    aiplatform.init(
        project="odcloud-local",
        location="us-central1",
        api_endpoint=local_cloud.url,
        api_transport="rest",
        staging_bucket=staging,
    )
    return aiplatform


def pools(staging: str, module: str) -> list[dict[str, Any]]:
    return [
        {
            "machine_spec": {"machine_type": "n1-standard-4"},
            "replica_count": 1,
            "python_package_spec": {
                "executor_image_uri": IMAGE,
                "package_uris": [f"{staging}/prog-0.1.tar.gz"],
                "python_module": f"prog.{module}",
            },
        }
    ]


def test_a_job_runs_to_its_end(library: Any, staging: str) -> None:
    job = library.CustomJob("greets", pools(staging, "greet"), labels={"kind": "greeting"})
    job.run(sync=True)
    assert job.state == JobState.JOB_STATE_SUCCEEDED and job.end_time >= job.start_time
    again = library.CustomJob.get(job.resource_name)
    assert (again.display_name, dict(again.labels)) == ("greets", {"kind": "greeting"})
    assert job.resource_name in [each.resource_name for each in library.CustomJob.list(filter='labels.kind="greeting"')]
    assert library.CustomJob.list(filter='display_name="greets"', location="europe-west4") == []
    job.delete()
    with pytest.raises(NotFound):
        library.CustomJob.get(job.resource_name)


def test_a_job_fails_and_another_is_cancelled(library: Any, staging: str) -> None:
    waiting = library.CustomJob("waits", pools(staging, "wait"))
    waiting.submit()
    with pytest.raises(RuntimeError, match="exited with a non-zero status of 7"):
        library.CustomJob("fails", pools(staging, "fail")).run(sync=True)
    waiting.cancel()
    limit = time.monotonic() + 120
    while waiting.state != JobState.JOB_STATE_CANCELLED:
        assert time.monotonic() < limit and waiting.state != JobState.JOB_STATE_SUCCEEDED
        time.sleep(0.1)
    with pytest.raises(BadRequest, match="machine_type"):
        library.CustomJob("wrong", [{"machine_spec": {}, "replica_count": 1}]).submit()


def test_a_script_is_packed_uploaded_and_run(local_cloud: LocalCloud, library: Any, tmp_path: Path) -> None:
    script = tmp_path / "task.py"
    script.write_text("import sys\nprint('script', sys.argv[1:])\n")
    machine = {"container_uri": IMAGE, "machine_type": "n1-standard-4"}
    job = library.CustomJob.from_local_script("script", str(script), args=["--x=1"], **machine)
    job.run(sync=True)
    log = f'resource.labels.job_id="{job.name}" AND jsonPayload.message:script'
    found = local_cloud.call("logging.entries.list", {"resourceNames": ["projects/odcloud-local"], "filter": log}, version="v2")
    assert [entry["jsonPayload"]["message"] for entry in found["entries"]] == ["script ['--x=1']"]


def test_the_client_below_it(local_cloud: LocalCloud, library: Any) -> None:
    client = JobServiceClient(transport="rest", client_options={"api_endpoint": local_cloud.url})
    parent = "projects/odcloud-local/locations/us-central1"
    request = {"parent": parent, "page_size": 1, "filter": 'state="JOB_STATE_FAILED"', "read_mask": {"paths": ["display_name"]}}
    for job in client.list_custom_jobs(request=request):  # page by page
        assert job.display_name and not job.name
