"""Every request of a whole run, and every answer to it, held against Google's discovery documents."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from launcher_stage import Stage
from recorder import Exchange, recording
from test_pulumi_stack import Project

pytestmark = pytest.mark.slow


def redirected(environment: dict[str, str], old: str, new: str) -> dict[str, str]:
    return {name: value.replace(old, new) for name, value in environment.items()}


def checked(exchanges: Iterable[Exchange]) -> set[str]:
    """Ids of the methods called. All faults are reported at once."""
    called, faults = set(), []
    for exchange in (call for each in exchanges for call in each.calls()):
        try:
            called.add(exchange.check())
        except AssertionError as fault:
            faults.append(f"{exchange.verb} {exchange.target} -> {exchange.status}\n{fault}")
    assert not faults, "\n\n".join(dict.fromkeys(faults))
    return called


def test_pulumi_up_and_destroy(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.start()
    try:
        address = project.environment["CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE"].rstrip("/")
        with recording(address) as (proxy, exchanges):
            project.environment = redirected(project.environment, address, proxy)
            project.succeed("up", "--yes", "--skip-preview")
            project.succeed("refresh", "--yes", "--skip-preview")
            project.succeed("destroy", "--yes", "--skip-preview")
    finally:
        project.localcloud("stop")
    assert checked(exchanges) >= {
        "storage.buckets.insert",
        "storage.buckets.setIamPolicy",
        "storage.buckets.delete",
        "storage.objects.insert",
        "storage.objects.delete",
        "iam.projects.serviceAccounts.create",
        "iam.projects.serviceAccounts.delete",
        "serviceusage.services.batchEnable",
        "cloudresourcemanager.projects.setIamPolicy",
        "artifactregistry.projects.locations.repositories.create",
        "artifactregistry.projects.locations.repositories.delete",
        "aiplatform.projects.locations.customJobs.list",
    }


def test_train_evaluate_and_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path)
    try:
        for name, value in stage.environment.items():
            monkeypatch.setenv(name, value)
        stage.fill_bucket()
        address = f"http://127.0.0.1:{stage.port}"
        with recording(address) as (proxy, exchanges):
            stage.environment = redirected(stage.environment, address, proxy)
            stage.run("train", "--config", "job.yaml", "--run", "object_detection_1511000000", check=True)
            stage.run("eval", "--run", "object_detection_1511000000", check=True)
            stage.behave(steps=3000)
            stage.run("train", "--config", "job.yaml", "--run", "object_detection_1511000001", "--detach", check=True)
            for command in ("list", "show object_detection_1511000001", "logs object_detection_1511000001"):
                stage.run("jobs", *command.split(), check=True)
            stage.run("jobs", "cancel", "object_detection_1511000001", check=True)
    finally:
        stage.close()
    assert checked(exchanges) >= {
        "aiplatform.projects.locations.customJobs.create",
        "aiplatform.projects.locations.customJobs.get",
        "aiplatform.projects.locations.customJobs.list",
        "aiplatform.projects.locations.customJobs.cancel",
        "logging.entries.list",
        "storage.objects.insert",
    }
