"""IAM, projects, services and repositories on the local cloud, as Pulumi's provider and gcloud use them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import LocalCloud

PROJECT = "projects/odcloud-local"
NUMBER = "100000000001"


def test_service_account_lifecycle(local_cloud: LocalCloud) -> None:
    body = {"accountId": "lifecycle", "serviceAccount": {"displayName": "Trainer"}}
    created = local_cloud.call("iam.projects.serviceAccounts.create", body, name=PROJECT)
    assert created["email"] == "lifecycle@odcloud-local.iam.gserviceaccount.com" and created["displayName"] == "Trainer"
    name = created["name"]
    assert "already exists" in local_cloud.refusal(409, "iam.projects.serviceAccounts.create", body, name=PROJECT)
    assert local_cloud.call("iam.projects.serviceAccounts.get", name=name) == created
    by_id = f"projects/-/serviceAccounts/{created['uniqueId']}"
    assert local_cloud.call("iam.projects.serviceAccounts.get", name=by_id) == created
    assert created in local_cloud.call("iam.projects.serviceAccounts.list", name=PROJECT)["accounts"]
    change = {"serviceAccount": {"displayName": "New", "description": "not in the mask"}, "updateMask": "display_name"}
    changed = local_cloud.call("iam.projects.serviceAccounts.patch", change, name=name)
    assert changed["displayName"] == "New" and "description" not in changed
    changed = local_cloud.call("iam.projects.serviceAccounts.update", {"description": "d"}, name=name)
    assert (changed["displayName"], changed["description"]) == ("New", "d")
    local_cloud.call("iam.projects.serviceAccounts.disable", {}, name=name)
    assert local_cloud.call("iam.projects.serviceAccounts.get", name=name)["disabled"] is True
    local_cloud.call("iam.projects.serviceAccounts.enable", {}, name=name)

    policy = local_cloud.call("iam.projects.serviceAccounts.getIamPolicy", resource=name)
    binding = {"role": "roles/iam.serviceAccountUser", "members": ["user:a@example.org"]}
    request = {"policy": {"bindings": [binding], "etag": policy["etag"], "version": 3}}
    local_cloud.call("iam.projects.serviceAccounts.setIamPolicy", request, resource=name)
    assert "concurrent" in local_cloud.refusal(409, "iam.projects.serviceAccounts.setIamPolicy", request, resource=name)
    assert local_cloud.call("iam.projects.serviceAccounts.getIamPolicy", resource=name)["bindings"] == [binding]
    asked = {"permissions": ["iam.serviceAccounts.actAs"]}
    assert local_cloud.call("iam.projects.serviceAccounts.testIamPermissions", asked, resource=name) == asked

    assert local_cloud.call("iam.projects.serviceAccounts.delete", name=name) == {}
    assert "lifecycle@" in local_cloud.refusal(404, "iam.projects.serviceAccounts.get", name=name)
    bad = {"accountId": "X"}
    assert "6 to 30" in local_cloud.refusal(400, "iam.projects.serviceAccounts.create", bad, name=PROJECT)


def test_an_account_made_again_does_not_have_the_bindings_of_the_one_deleted(local_cloud: LocalCloud, bucket: str) -> None:
    account = local_cloud.call("iam.projects.serviceAccounts.create", {"accountId": "made-again"}, name=PROJECT)
    member = f"serviceAccount:{account['email']}"
    bindings = [
        {"role": "roles/storage.objectUser", "members": [member, "user:a@example.org"]},
        {"role": "roles/storage.objectViewer", "members": [f"serviceAccount:not-{account['email']}", "allUsers"]},
    ]
    local_cloud.call("iam.projects.serviceAccounts.create", {"accountId": "not-made-again"}, name=PROJECT)
    written = local_cloud.call("storage.buckets.setIamPolicy", {"bindings": bindings}, bucket=bucket)
    local_cloud.call("iam.projects.serviceAccounts.delete", name=account["name"])
    local_cloud.call("iam.projects.serviceAccounts.create", {"accountId": "made-again"}, name=PROJECT)
    found = local_cloud.call("storage.buckets.getIamPolicy", bucket=bucket)
    deleted = f"deleted:{member}?uid={account['uniqueId']}"
    assert found["bindings"] == [{**bindings[0], "members": [deleted, "user:a@example.org"]}, bindings[1]]
    stale = {"bindings": bindings, "etag": written["etag"]}
    assert "concurrent policy changes" in local_cloud.refusal(409, "storage.buckets.setIamPolicy", stale, bucket=bucket)
    # as a client that adds a member writes it back, and as one that removes it
    both = [{**bindings[0], "members": [deleted, member]}]
    for changed in (both, [{**bindings[0], "members": [member]}]):
        written = local_cloud.call("storage.buckets.setIamPolicy", {"bindings": changed}, bucket=bucket)
        assert written["bindings"] == changed


def test_project(local_cloud: LocalCloud) -> None:
    found = local_cloud.call("cloudresourcemanager.projects.get", projectId="odcloud-local")
    assert (found["projectNumber"], found["lifecycleState"]) == (NUMBER, "ACTIVE")
    assert local_cloud.call("cloudresourcemanager.projects.list")["projects"] == [found]
    newer = local_cloud.call("cloudresourcemanager.projects.get", version="v3", name=f"projects/{NUMBER}")
    assert (newer["projectId"], newer["state"]) == ("odcloud-local", "ACTIVE")
    assert local_cloud.call("cloudresourcemanager.projects.search", version="v3")["projects"] == [newer]
    assert "other" in local_cloud.refusal(403, "cloudresourcemanager.projects.get", projectId="other")


def test_project_policy_has_one_etag_in_both_versions(local_cloud: LocalCloud, request: pytest.FixtureRequest) -> None:
    ask = {"options": {"requestedPolicyVersion": 3}}
    old = local_cloud.call("cloudresourcemanager.projects.getIamPolicy", ask, resource="odcloud-local")
    request.addfinalizer(  # the policy is every test's
        lambda: local_cloud.call(
            "cloudresourcemanager.projects.setIamPolicy",
            {"policy": {"bindings": old.get("bindings", [])}},
            resource="odcloud-local",
        )
    )
    binding = {"role": "roles/logging.logWriter", "members": ["user:a@example.org"]}
    change = {"policy": {"bindings": [binding], "etag": old["etag"]}, "updateMask": "bindings,etag,auditConfigs"}
    new = local_cloud.call("cloudresourcemanager.projects.setIamPolicy", change, resource="odcloud-local")
    assert local_cloud.call("cloudresourcemanager.projects.getIamPolicy", ask, version="v3", resource=PROJECT) == new
    stale = {"policy": {"bindings": [], "etag": old["etag"]}}
    assert "concurrent" in local_cloud.refusal(
        409, "cloudresourcemanager.projects.setIamPolicy", stale, resource="odcloud-local"
    )
    unsafe = {"policy": {"bindings": [], "etag": new["etag"].replace("+", "-").replace("/", "_")}}
    assert local_cloud.call("cloudresourcemanager.projects.setIamPolicy", unsafe, resource="odcloud-local")["bindings"] == []
    for binding, word in (
        ({"role": "owner", "members": ["user:a@b.c"]}, "owner"),
        ({"role": "roles/x", "members": ["me"]}, "me"),
    ):
        wrong = {"policy": {"bindings": [binding]}}
        assert word in local_cloud.refusal(400, "cloudresourcemanager.projects.setIamPolicy", wrong, resource="odcloud-local")
    asked = {"permissions": ["resourcemanager.projects.get"]}
    assert local_cloud.call("cloudresourcemanager.projects.testIamPermissions", asked, resource="odcloud-local") == asked


def test_services(local_cloud: LocalCloud) -> None:
    names = ["storage.googleapis.com", "example.googleapis.com"]
    operation = local_cloud.call("serviceusage.services.batchEnable", {"serviceIds": names}, parent=PROJECT)
    assert operation["done"] is True
    assert local_cloud.call("serviceusage.operations.get", name=operation["name"]) == operation
    listed = local_cloud.call(
        "serviceusage.services.list",
        parent=PROJECT,
        filter="state:ENABLED",
        pageSize=200,
        fields="services/name,nextPageToken",
    )
    assert all(item.keys() == {"name"} for item in listed["services"])
    # other tests of this local cloud have switched on others
    assert {item["name"] for item in listed["services"]} >= {f"projects/{NUMBER}/services/{name}" for name in names}
    paged = local_cloud.call("serviceusage.services.list", parent=PROJECT, filter="state:ENABLED", pageSize=1)
    rest = local_cloud.call(
        "serviceusage.services.list", parent=PROJECT, filter="state:ENABLED", pageSize=200, pageToken=paged["nextPageToken"]
    )
    assert len(paged["services"]) == 1
    assert [{"name": item["name"]} for item in paged["services"] + rest["services"]] == listed["services"]
    assert "filter" in local_cloud.refusal(400, "serviceusage.services.list", parent=PROJECT, filter="state:WHAT")
    name = f"{PROJECT}/services/example.googleapis.com"
    assert local_cloud.call("serviceusage.services.get", name=name)["state"] == "ENABLED"
    local_cloud.call("serviceusage.services.disable", {}, name=name)
    assert local_cloud.call("serviceusage.services.get", name=name)["state"] == "DISABLED"
    assert local_cloud.call("serviceusage.services.enable", {}, name=name)["done"] is True
    both = local_cloud.call(
        "serviceusage.services.batchGet", parent=PROJECT, names=[name, f"{PROJECT}/services/never.googleapis.com"]
    )
    assert [item["state"] for item in both["services"]] == ["ENABLED", "DISABLED"]
    local_cloud.call("serviceusage.services.disable", {}, name=name)


def test_repositories(local_cloud: LocalCloud) -> None:
    parent = f"{PROJECT}/locations/us-central1"
    prefix = "artifactregistry.projects.locations.repositories"
    body = {"format": "DOCKER", "mode": "MODE_UNSPECIFIED", "labels": {"a": "b"}}
    operation = local_cloud.call(f"{prefix}.create", body, parent=parent, repositoryId="images")
    assert operation["done"] is True and operation["response"]["mode"] == "STANDARD_REPOSITORY"
    assert local_cloud.call("artifactregistry.projects.locations.operations.get", name=operation["name"]) == operation
    name = f"{parent}/repositories/images"
    found = local_cloud.call(f"{prefix}.get", name=name)
    assert operation["response"] == {**found, "@type": "type.googleapis.com/google.devtools.artifactregistry.v1.Repository"}
    assert found in local_cloud.call(f"{prefix}.list", parent=parent)["repositories"]
    assert "already exists" in local_cloud.refusal(409, f"{prefix}.create", body, parent=parent, repositoryId="images")
    # the provider spells the parameter as the protocol buffer does
    answer = local_cloud.request("POST", f"/v1/{parent}/repositories?repository_id=second", json={"format": "PYTHON"})
    assert answer.json()["response"]["name"] == f"{parent}/repositories/second"
    changed = local_cloud.call(f"{prefix}.patch", {"labels": {"c": "d"}}, name=name, updateMask="labels")
    assert changed["labels"] == {"c": "d"} and changed["format"] == "DOCKER"
    policy = local_cloud.call(f"{prefix}.getIamPolicy", resource=name)
    request = {
        "policy": {"bindings": [{"role": "roles/artifactregistry.reader", "members": ["allUsers"]}], "etag": policy["etag"]}
    }
    local_cloud.call(f"{prefix}.setIamPolicy", request, resource=name)
    assert "concurrent" in local_cloud.refusal(409, f"{prefix}.setIamPolicy", request, resource=name)
    asked = {"permissions": ["artifactregistry.repositories.get"]}
    assert local_cloud.call(f"{prefix}.testIamPermissions", asked, resource=name) == asked
    for version in ("v1", "v1beta2"):  # gcloud asks the latter
        places = local_cloud.call("artifactregistry.projects.locations.list", version=version, name=PROJECT)["locations"]
        assert {"us-central1", "europe-west4", "us"} <= {place["locationId"] for place in places}
    for repository in (name, f"{parent}/repositories/second"):
        assert local_cloud.call(f"{prefix}.delete", name=repository)["done"] is True
        local_cloud.refusal(404, f"{prefix}.get", name=repository)
    local_cloud.refusal(404, "artifactregistry.projects.locations.operations.get", name=f"{parent}/operations/1")
