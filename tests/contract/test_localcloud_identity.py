"""Workload identity pools and providers: what is kept, what is refused, and that deleted ones come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import LocalCloud

POOLS = "iam.projects.locations.workloadIdentityPools"
PARENT = "projects/odcloud-local/locations/global"
CANONICAL = "projects/100000000001/locations/global/workloadIdentityPools"
PROVIDER: dict[str, Any] = {
    "displayName": "GitHub",
    "attributeMapping": {"google.subject": "assertion.sub", "attribute.repository": "assertion.repository"},
    "attributeCondition": "assertion.repository == 'me/mine'",
    "oidc": {"issuerUri": "https://token.actions.githubusercontent.com", "allowedAudiences": ["me"]},
}


def made(cloud: LocalCloud, pool: str) -> str:
    operation = cloud.call(f"{POOLS}.create", {"displayName": "CI"}, parent=PARENT, workloadIdentityPoolId=pool)
    assert operation["done"] and operation == cloud.call(f"{POOLS}.operations.get", name=operation["name"])
    name: str = operation["response"]["name"]
    return name


def test_a_pool_and_its_provider(local_cloud: LocalCloud) -> None:
    pool = made(local_cloud, "whole")
    assert local_cloud.call(f"{POOLS}.get", name=f"{PARENT}/workloadIdentityPools/whole") == {
        "name": f"{CANONICAL}/whole",
        "displayName": "CI",
        "state": "ACTIVE",
    }
    local_cloud.call(f"{POOLS}.providers.create", PROVIDER, parent=pool, workloadIdentityPoolProviderId="github")
    provider = f"{pool}/providers/github"
    assert local_cloud.call(f"{POOLS}.providers.get", name=provider) == {"name": provider, "state": "ACTIVE", **PROVIDER}

    # what the mask does not name stays, below a field too; what it names and the body lacks goes
    change = {"attributeCondition": "assertion.ref == 'main'", "oidc": {"issuerUri": "https://example.com"}, "displayName": "x"}
    mask = "attribute_condition,oidc.allowed_audiences"
    local_cloud.call(f"{POOLS}.providers.patch", change, name=provider, updateMask=mask)
    found = local_cloud.call(f"{POOLS}.providers.get", name=provider)
    assert found["oidc"] == {"issuerUri": PROVIDER["oidc"]["issuerUri"]}
    assert (found["attributeCondition"], found["displayName"]) == ("assertion.ref == 'main'", "GitHub")
    refused = local_cloud.refusal(400, f"{POOLS}.providers.patch", {}, name=provider, updateMask="attributeCondition")
    assert "condition must reference" in refused

    page = local_cloud.call(f"{POOLS}.providers.list", parent=pool, pageSize=1)
    assert [each["name"] for each in page["workloadIdentityPoolProviders"]] == [provider]
    assert local_cloud.call(f"{POOLS}.listAttestationRules", resource=pool) == {}


def test_a_deleted_pool_keeps_its_id_and_comes_back(local_cloud: LocalCloud) -> None:
    pool = made(local_cloud, "deleted")
    local_cloud.call(f"{POOLS}.delete", name=pool)
    found = local_cloud.call(f"{POOLS}.get", name=pool)
    assert found["state"] == "DELETED" and found["expireTime"].endswith("Z")

    def listed(**params: Any) -> list[str]:
        answer = local_cloud.call(f"{POOLS}.list", parent=PARENT, **params)
        return [each["name"] for each in answer.get("workloadIdentityPools", [])]

    assert pool not in listed() and pool in listed(showDeleted=True)
    create = {"parent": PARENT, "workloadIdentityPoolId": "deleted"}
    assert "already exists" in local_cloud.refusal(409, f"{POOLS}.create", {}, **create)
    in_pool = {"parent": pool, "workloadIdentityPoolProviderId": "late"}
    assert "is deleted" in local_cloud.refusal(400, f"{POOLS}.providers.create", PROVIDER, **in_pool)
    local_cloud.call(f"{POOLS}.undelete", {}, name=pool)
    assert pool in listed()
    assert "is not deleted" in local_cloud.refusal(400, f"{POOLS}.undelete", {}, name=pool)


@pytest.mark.parametrize("pool", ["abc", "gcp-pool", "With-Capitals", "a" * 33])
def test_ids_that_no_pool_can_have(local_cloud: LocalCloud, pool: str) -> None:
    assert "Invalid id" in local_cloud.refusal(400, f"{POOLS}.create", {}, parent=PARENT, workloadIdentityPoolId=pool)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"oidc": None}, "Exactly one of"),
        ({"oidc": {"issuerUri": "http://example.com"}}, "HTTPS"),
        ({"attributeMapping": {"attribute.a": "assertion.a"}}, "google.subject"),
        ({"attributeMapping": {"google.subject": "assertion.sub", "subject": "x"}}, "Invalid mapped attribute key: subject"),
        ({"attributeCondition": None}, "condition must reference"),
        ({"attributeCondition": "true"}, "condition must reference"),
        ({"displayName": "x" * 33}, "displayName cannot exceed 32"),
    ],
)
def test_what_no_provider_can_be(local_cloud: LocalCloud, change: dict[str, Any], said: str) -> None:
    pool = f"{CANONICAL}/checked"
    if local_cloud.answer(f"{POOLS}.get", name=pool).status_code == 404:
        made(local_cloud, "checked")
    body = {name: value for name, value in {**PROVIDER, **change}.items() if value is not None}
    refusal = local_cloud.refusal(400, f"{POOLS}.providers.create", body, parent=pool, workloadIdentityPoolProviderId="checked")
    assert said in refusal


def test_other_projects_and_locations_are_refused(local_cloud: LocalCloud) -> None:
    local_cloud.refusal(403, f"{POOLS}.list", parent="projects/other/locations/global")
    assert "global" in local_cloud.refusal(400, f"{POOLS}.list", parent="projects/odcloud-local/locations/us-central1")
    local_cloud.refusal(404, f"{POOLS}.providers.list", parent=f"{CANONICAL}/absent")
    # and keys of providers are not offered
    said = local_cloud.refusal(501, f"{POOLS}.providers.keys.list", parent=f"{CANONICAL}/a/providers/b")
    assert f"{POOLS}.providers.keys.list" in said
