"""What the real Pulumi provider (9.35) was seen to send for one stack, sent again: the same calls, in the same order and form.

`call` checks requests and answers against Google's discovery documents.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import LocalCloud

P = "odcloud-local"
EMAIL = f"replayed@{P}.iam.gserviceaccount.com"
ACCOUNT = f"projects/{P}/serviceAccounts/{EMAIL}"
MEMBER = f"serviceAccount:{EMAIL}"
REPOSITORY = f"projects/{P}/locations/us-central1/repositories/replayed"
POOL = f"projects/{P}/locations/global/workloadIdentityPools/replayed"
BUCKET = {
    "name": "replayed",
    "location": "US-CENTRAL1",
    "storageClass": "STANDARD",
    "labels": {"goog-pulumi-provisioned": "true", "odcloud-stack": "local"},
    "iamConfiguration": {"publicAccessPrevention": "enforced", "uniformBucketLevelAccess": {"enabled": True}},
    "lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 7, "matchesPrefix": ["tmp/"]}}]},
    "softDeletePolicy": {"retentionDurationSeconds": "604800"},
}


@pytest.mark.parametrize("boundary", ["plain", '"quoted"'])
def test_objects_are_uploaded_in_chunks_of_unknown_number(local_cloud: LocalCloud, bucket: str, boundary: str) -> None:
    parts = [
        f"--{boundary.strip(chr(34))}\r\nContent-Type: application/json\r\n\r\n",
        json.dumps({"bucket": bucket, "name": "config/a b.config", "contentType": "text/plain"}),
        f"\r\n--{boundary.strip(chr(34))}\r\nContent-Type: text/plain\r\n\r\nmodel {{}}",
        f"\r\n--{boundary.strip(chr(34))}--\r\n",
    ]

    def chunks() -> Iterator[bytes]:  # no length: sent with chunked transfer encoding
        yield from (part.encode() for part in parts)

    path = f"/upload/storage/v1/b/{bucket}/o?alt=json&name=config%2Fa+b.config&prettyPrint=false&uploadType=multipart"
    headers = {"Content-Type": f"multipart/related; boundary={boundary}"}
    assert local_cloud.request("POST", path, data=chunks(), headers=headers).status_code == 200
    found = local_cloud.request("GET", f"/storage/v1/b/{bucket}/o/config%2Fa%20b.config?alt=json&prettyPrint=false").json()
    assert (found["size"], found["contentType"]) == ("8", "text/plain")
    assert local_cloud.request("DELETE", f"/storage/v1/b/{bucket}/o/config%2Fa%20b.config").status_code == 204


def test_a_bucket_from_up_to_destroy(local_cloud: LocalCloud) -> None:
    local_cloud.call("storage.buckets.insert", BUCKET, project=P)
    kept = local_cloud.call("storage.buckets.get", bucket="replayed")
    assert {name: kept[name] for name in BUCKET if name not in ("softDeletePolicy", "iamConfiguration")} == {
        name: value for name, value in BUCKET.items() if name not in ("softDeletePolicy", "iamConfiguration")
    }
    assert kept["softDeletePolicy"]["retentionDurationSeconds"] == "604800"
    assert kept["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    assert local_cloud.call("storage.anywhereCaches.list", bucket="replayed").get("items", []) == []
    assert local_cloud.call("storage.objects.list", bucket="replayed", versions=True).get("items", []) == []
    local_cloud.call("storage.buckets.delete", bucket="replayed")
    local_cloud.refusal(404, "storage.buckets.get", bucket="replayed")


def test_services_are_listed_until_they_are_there(local_cloud: LocalCloud) -> None:
    path = f"/v1/projects/{P}/services?alt=json&filter=state%3AENABLED&fields=services%2Fname%2CnextPageToken&pageSize=200"

    def listed() -> list[str]:
        answer = local_cloud.request("GET", path).json()
        assert answer.keys() <= {"services", "nextPageToken"}
        assert all(each.keys() == {"name"} for each in answer.get("services", []))
        return [each["name"].rpartition("/")[2] for each in answer.get("services", [])]

    wanted = {"serviceIds": ["replayed.googleapis.com", "aiplatform.googleapis.com"]}
    assert "replayed.googleapis.com" not in listed()
    operation = local_cloud.call("serviceusage.services.batchEnable", wanted, parent=f"projects/{P}")
    assert operation["done"] is True
    assert {"replayed.googleapis.com", "aiplatform.googleapis.com"} <= set(listed())
    project = local_cloud.call("cloudresourcemanager.projects.get", projectId=P)
    assert (project["projectNumber"], project["lifecycleState"]) == ("100000000001", "ACTIVE")


@pytest.fixture
def account(local_cloud: LocalCloud) -> Iterator[str]:
    made = {"accountId": "replayed", "serviceAccount": {"displayName": "Replayed"}}
    local_cloud.call("iam.projects.serviceAccounts.create", made, name=f"projects/{P}")
    assert local_cloud.call("iam.projects.serviceAccounts.get", name=ACCOUNT)["email"] == EMAIL
    yield ACCOUNT
    local_cloud.call("iam.projects.serviceAccounts.delete", name=ACCOUNT)
    local_cloud.refusal(404, "iam.projects.serviceAccounts.get", name=ACCOUNT)


@pytest.fixture
def repository(local_cloud: LocalCloud) -> Iterator[str]:
    repositories = "artifactregistry.projects.locations.repositories"
    body = {"format": "DOCKER", "mode": "STANDARD_REPOSITORY", "labels": {"goog-pulumi-provisioned": "true"}}
    # the query parameter by its other name
    path = f"/v1/projects/{P}/locations/us-central1/repositories?alt=json&repository_id=replayed"
    operation = local_cloud.request("POST", path, json=body).json()
    assert operation["done"] is True and operation["response"]["name"] == REPOSITORY
    assert local_cloud.call(f"{repositories}.get", name=REPOSITORY)["labels"] == body["labels"]
    yield REPOSITORY
    assert local_cloud.call(f"{repositories}.delete", name=REPOSITORY)["done"] is True


def rewrite(local_cloud: LocalCloud, api: str, resource: str, policy: dict[str, Any], **mask: str) -> None:
    """Adds a binding to a policy that was read, and writes it; then once more with the etag of before, which is refused."""
    changed = {
        "bindings": [*policy.get("bindings", []), {"role": "roles/viewer", "members": [MEMBER]}],
        "etag": policy["etag"],
        "version": 3,
    }
    written = local_cloud.call(f"{api}.setIamPolicy", {"policy": changed, **mask}, resource=resource)
    assert written["etag"] != policy["etag"]
    said = local_cloud.refusal(409, f"{api}.setIamPolicy", {"policy": changed, **mask}, resource=resource)
    assert "concurrent policy changes" in said


def test_a_role_on_the_account_the_repository_and_the_project(local_cloud: LocalCloud, account: str, repository: str) -> None:
    version = {"options.requestedPolicyVersion": 3}
    api = "iam.projects.serviceAccounts"
    rewrite(local_cloud, api, account, local_cloud.call(f"{api}.getIamPolicy", resource=account, **version))
    api = "artifactregistry.projects.locations.repositories"
    rewrite(local_cloud, api, repository, local_cloud.call(f"{api}.getIamPolicy", resource=repository, **version))
    api = "cloudresourcemanager.projects"
    policy = local_cloud.call(f"{api}.getIamPolicy", {"options": {"requestedPolicyVersion": 3}}, resource=P)
    rewrite(local_cloud, api, P, policy, updateMask="bindings,etag,auditConfigs")


def test_a_buckets_policy_is_put_back_whole(local_cloud: LocalCloud, bucket: str) -> None:
    policy = local_cloud.call("storage.buckets.getIamPolicy", bucket=bucket, optionsRequestedPolicyVersion=3)
    binding = {"role": "roles/storage.objectUser", "members": ["user:someone@example.com"]}
    changed = {"bindings": [*policy.get("bindings", []), binding], "etag": policy["etag"], "version": 3}
    local_cloud.call("storage.buckets.setIamPolicy", changed, bucket=bucket)
    stale = local_cloud.answer("storage.buckets.setIamPolicy", changed, bucket=bucket)
    assert stale.status_code == 409


def test_workload_identity_from_up_to_destroy(local_cloud: LocalCloud) -> None:
    pools = "iam.projects.locations.workloadIdentityPools"
    parent = f"projects/{P}/locations/global"
    for made in (
        local_cloud.call(f"{pools}.create", {"displayName": "CI"}, parent=parent, workloadIdentityPoolId="replayed"),
        local_cloud.call(
            f"{pools}.providers.create",
            {
                "attributeMapping": {"google.subject": "assertion.sub"},
                "attributeCondition": "assertion.repository == 'me/mine'",
                "oidc": {"issuerUri": "https://token.actions.githubusercontent.com"},
            },
            parent=POOL,
            workloadIdentityPoolProviderId="github",
        ),
    ):
        assert made["done"] is True
        assert local_cloud.request("GET", f"/v1/{made['name']}?alt=json").json() == made
    assert local_cloud.call(f"{pools}.get", name=POOL)["state"] == "ACTIVE"
    assert local_cloud.call(f"{pools}.listAttestationRules", resource=POOL) == {}
    assert local_cloud.call(f"{pools}.providers.get", name=f"{POOL}/providers/github")["state"] == "ACTIVE"
    local_cloud.call(f"{pools}.providers.delete", name=f"{POOL}/providers/github")
    local_cloud.call(f"{pools}.delete", name=POOL)
    assert local_cloud.call(f"{pools}.get", name=POOL)["state"] == "DELETED"
