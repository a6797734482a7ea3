"""gcloud on what surrounds a job: accounts, policies, services, repositories, workload identity, logs; as installed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from gcloud_client import Gcloud, needs_gcloud

if TYPE_CHECKING:
    from conftest import LocalCloud

pytestmark = needs_gcloud


@pytest.fixture(scope="module")
def gcloud(local_cloud: LocalCloud, tmp_path_factory: pytest.TempPathFactory) -> Gcloud:
    folder: Path = tmp_path_factory.mktemp("gcloud")
    return Gcloud(local_cloud, folder)


def test_service_accounts_and_policies(gcloud: Gcloud) -> None:
    email = gcloud.json("iam service-accounts create by-gcloud --display-name=One")["email"]
    assert email == "by-gcloud@odcloud-local.iam.gserviceaccount.com"
    assert "already exists" in gcloud.refusal("iam service-accounts create by-gcloud")
    assert gcloud.json(f"iam service-accounts update {email} --display-name=Two")["displayName"] == "Two"
    member, role = f"serviceAccount:{email}", "roles/logging.logWriter"

    # each of these reads the policy and writes it back with its etag
    gcloud.run(f"gcloud projects add-iam-policy-binding odcloud-local --member={member} --role={role}")
    assert {"role": role, "members": [member]} in gcloud.json("projects get-iam-policy odcloud-local")["bindings"]
    gcloud.run(f"gcloud projects remove-iam-policy-binding odcloud-local --member={member} --role={role}")
    user = "--member=user:someone@example.com --role=roles/iam.serviceAccountUser"
    gcloud.run(f"gcloud iam service-accounts add-iam-policy-binding {email} {user}")

    gcloud.run(f"gcloud iam service-accounts delete {email}")
    assert email not in gcloud.run("gcloud iam service-accounts list --format=value(email)").stdout
    # keys are not offered, which is what one hears
    assert "iam.projects.serviceAccounts.keys.list" in gcloud.refusal(f"iam service-accounts keys list --iam-account={email}")


def test_services(gcloud: Gcloud) -> None:
    gcloud.run("gcloud services enable aiplatform.googleapis.com cloudbuild.googleapis.com")
    listed = gcloud.run("gcloud services list --enabled --format=value(config.name)").stdout.split()
    assert {"aiplatform.googleapis.com", "cloudbuild.googleapis.com"} <= set(listed)
    gcloud.run("gcloud services disable cloudbuild.googleapis.com")


def test_artifacts_repositories(gcloud: Gcloud) -> None:
    where = "by-gcloud --location=europe-west4"
    gcloud.run(f"gcloud artifacts repositories create {where} --repository-format=docker --description=Images")
    found = gcloud.json(f"artifacts repositories update {where} --update-labels=a=b")
    assert (found["format"], found["description"]) == ("DOCKER", "Images")
    for place in ("--location=europe-west4", ""):
        listed = gcloud.json(f"artifacts repositories list {place}")
        assert ("Images", {"a": "b"}) in [(each.get("description"), each.get("labels")) for each in listed]
    role = "--member=allAuthenticatedUsers --role=roles/artifactregistry.reader"
    gcloud.run(f"gcloud artifacts repositories add-iam-policy-binding {where} {role}")
    gcloud.run(f"gcloud artifacts repositories delete {where}")
    assert "NOT_FOUND" in gcloud.refusal(f"artifacts repositories describe {where}")


def test_workload_identity_pools(gcloud: Gcloud) -> None:
    pools = "iam workload-identity-pools"
    pool, of_pool = "by-gcloud --location=global", "--location=global --workload-identity-pool=by-gcloud"
    gcloud.run(f"gcloud {pools} create {pool} --display-name=CI")
    provider = (
        f"{pools} providers create-oidc github {of_pool} --issuer-uri=https://token.actions.githubusercontent.com"
        " --attribute-mapping=google.subject=assertion.sub,attribute.repository=assertion.repository"
    )
    assert "attribute condition must reference" in gcloud.refusal(provider)
    gcloud.run(f"gcloud {provider} --attribute-condition=\"assertion.repository=='me/mine'\"")
    condition = "--attribute-condition=\"assertion.repository=='me/other'\""
    gcloud.run(f"gcloud {pools} providers update-oidc github {of_pool} {condition}")
    (found,) = gcloud.json(f"{pools} providers list {of_pool}")
    assert found["attributeCondition"] == "assertion.repository=='me/other'"
    assert found["attributeMapping"] == {
        "google.subject": "assertion.sub",
        "attribute.repository": "assertion.repository",
    }
    assert found["name"].startswith("projects/100000000001/locations/global/workloadIdentityPools/by-gcloud/providers/")

    gcloud.run(f"gcloud {pools} delete {pool}")
    assert not [each for each in gcloud.json(f"{pools} list --location=global") if each["name"].endswith("/by-gcloud")]
    assert "already exists" in gcloud.refusal(f"{pools} create {pool}")
    assert gcloud.json(f"{pools} undelete {pool}")["response"]["state"] == "ACTIVE"


def test_logging(gcloud: Gcloud) -> None:
    gcloud.run('gcloud logging write by-gcloud "Loss is 1.5" --severity=WARNING')
    gcloud.run('gcloud logging write by-gcloud \'{"message": "step", "step": 7}\' --payload-type=json')
    read = gcloud.json("logging read 'logName:by-gcloud AND textPayload =~ \"^Loss is [0-9.]+$\" AND severity>=WARNING'")
    assert [entry["textPayload"] for entry in read] == ["Loss is 1.5"]
    read = gcloud.json("logging read 'logName:by-gcloud AND jsonPayload.step=7'")
    assert [entry["jsonPayload"]["step"] for entry in read] == [7]
    gcloud.run("gcloud logging logs delete by-gcloud")
    assert "by-gcloud" not in gcloud.run("gcloud logging logs list").stdout
