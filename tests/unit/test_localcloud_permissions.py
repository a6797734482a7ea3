"""What a job's account may do: by bindings, or as Vertex AI's own account."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localcloud import permissions
from localcloud.api import ApiError
from localcloud.cloud import Cloud, open_cloud
from localcloud.home import Home
from localcloud.policies import delete_account, set_policy
from localcloud.server import load_services

EMAIL = "trainer@odcloud-local.iam.gserviceaccount.com"
TEST = "storage.buckets.testIamPermissions"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    load_services()
    home = Home(tmp_path / "home")
    home.prepare()
    cloud = open_cloud(home, "")
    cloud.db.execute("INSERT INTO service_accounts VALUES (?, '1', '{}')", (EMAIL,))
    yield cloud
    cloud.close()


def bind(cloud: Cloud, resource: str, role: str, member: str = f"serviceAccount:{EMAIL}") -> None:
    set_policy(cloud, resource, {"bindings": [{"role": role, "members": [member]}]})


def may(cloud: Cloud, email: str, method_id: str, **params: Any) -> bool:
    try:
        permissions.check_call(cloud, email, method_id, params)
    except ApiError as error:
        assert error.code == 403
        return False
    return True


@pytest.mark.parametrize(
    ("method_id", "allowed"),
    [
        ("storage.buckets.get", True),
        ("storage.buckets.list", True),
        ("storage.buckets.insert", True),
        ("storage.buckets.delete", True),
        ("storage.buckets.patch", False),
        ("storage.buckets.setIamPolicy", False),
        ("storage.objects.insert", True),
        ("aiplatform.projects.locations.customJobs.create", True),
        ("aiplatform.projects.locations.customJobs.list", True),
        ("cloudresourcemanager.projects.get", True),
        ("cloudresourcemanager.projects.setIamPolicy", False),
        ("artifactregistry.projects.locations.repositories.list", True),
        ("artifactregistry.projects.locations.repositories.delete", False),
        ("iam.projects.serviceAccounts.get", True),
        ("iam.projects.serviceAccounts.create", False),
        ("logging.entries.write", True),
        ("logging.logs.delete", False),
        (TEST, True),
    ],
)
def test_vertex_ai_s_own_account_has_its_role(cloud: Cloud, method_id: str, allowed: bool) -> None:
    assert may(cloud, cloud.service_agent, method_id, bucket="b", project="odcloud-local") == allowed


def test_it_has_what_is_bound_to_it_besides(cloud: Cloud) -> None:
    permission, on = "storage.objects.setIamPolicy", permissions.bucket("b")
    assert not permissions.allowed(cloud, cloud.service_agent, permission, on)
    bind(cloud, on.key, "roles/storage.objectAdmin", f"serviceAccount:{cloud.service_agent}")
    assert permissions.allowed(cloud, cloud.service_agent, permission, on)


def test_its_role_can_be_bound_and_is_not_advised(cloud: Cloud) -> None:
    assert not may(cloud, EMAIL, "storage.buckets.get", bucket="b")
    told = permissions.refusal(cloud, EMAIL, "storage.objects.get", permissions.bucket("b"))
    assert told and "roles/storage.objectViewer" in told and "ServiceAgent" not in told
    bind(cloud, permissions.bucket("b").key, "roles/aiplatform.customCodeServiceAgent")
    assert may(cloud, EMAIL, "storage.buckets.get", bucket="b")
    assert not may(cloud, EMAIL, "storage.buckets.get", bucket="another")


def test_a_deleted_account_has_nothing(cloud: Cloud) -> None:
    on = permissions.bucket("b")
    bind(cloud, on.key, "roles/storage.objectViewer")
    assert permissions.allowed(cloud, EMAIL, "storage.objects.get", on)
    delete_account(cloud, EMAIL, "1")
    assert not permissions.allowed(cloud, EMAIL, "storage.objects.get", on)


def test_permissions_that_are_tested_are_those_that_the_caller_has(cloud: Cloud) -> None:
    asked = {"kind": "x", "permissions": ["storage.objects.get", "storage.objects.create", "storage.buckets.update"]}
    bind(cloud, permissions.bucket("b").key, "roles/storage.objectViewer")

    def told(email: str, **params: str) -> Any:
        return permissions.told(cloud, email, params, asked)

    assert may(cloud, EMAIL, TEST, bucket="b")
    assert told(EMAIL, bucket="b") == {"kind": "x", "permissions": ["storage.objects.get"]}
    assert told(EMAIL, bucket="another") == {"kind": "x"}
    assert told(EMAIL, resource="odcloud-local") == {"kind": "x"}
    assert told(cloud.service_agent, bucket="b")["permissions"] == ["storage.objects.get", "storage.objects.create"]
    assert permissions.is_test(TEST) and not permissions.is_test("storage.buckets.get")
