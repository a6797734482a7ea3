"""infra/policies.py over plans as `pulumi preview --json` prints them."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.policies import main

BUCKET = {
    "location": "US-CENTRAL1",
    "labels": {"odcloud-stack": "dev"},
    "publicAccessPrevention": "enforced",
    "uniformBucketLevelAccess": True,
}
BUDGET_TYPE = "gcp:billing/budget:Budget"
BUCKET_TYPE = "gcp:storage/bucket:Bucket"
MEMBER_TYPE = "gcp:projects/iAMMember:IAMMember"


def policy(role: str, *members: str) -> dict[str, Any]:
    return {"policyData": json.dumps({"bindings": [{"role": role, "members": members}]})}


def check(path: Path, capsys: pytest.CaptureFixture, *found: tuple[str, dict[str, Any]]) -> tuple[int, list[str]]:
    steps = [
        {"op": "create", "newState": {"type": kind, "urn": f"urn:pulumi:dev::odcloud::{kind}::it", "inputs": inputs}}
        for kind, inputs in found
    ]
    gone = {"op": "delete", "oldState": {"type": MEMBER_TYPE, "inputs": {"role": "roles/owner"}}}
    path.write_text(json.dumps({"steps": [*steps, gone]}))
    code = main([str(path)])
    return code, capsys.readouterr().out.splitlines()


def test_a_stack_that_keeps_the_rules(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    member = {"role": "roles/logging.logWriter", "member": "serviceAccount:a@p.iam.gserviceaccount.com"}
    later = {"policyData": "04da6b54-80e4-46f7-96ec-b56ff0331ba9"}  # what a preview prints for what it does not know yet
    found = ((BUCKET_TYPE, BUCKET), (MEMBER_TYPE, member), ("gcp:projects/iAMPolicy:IAMPolicy", later))
    assert check(tmp_path / "plan", capsys, *found) == (
        0,
        ["every resource keeps the rules"],
    )


@pytest.mark.parametrize(
    ("kind", "inputs", "reason"),
    [
        (BUCKET_TYPE, {**BUCKET, "publicAccessPrevention": "inherited"}, "can be made public"),
        (BUCKET_TYPE, {**BUCKET, "uniformBucketLevelAccess": False}, "uniformBucketLevelAccess"),
        (BUCKET_TYPE, {**BUCKET, "labels": {}}, "has no labels"),
        (BUCKET_TYPE, {**BUCKET, "location": None}, "has no location"),
        (MEMBER_TYPE, {"role": "roles/editor", "member": "user:a@example.com"}, "roles/editor"),
        (MEMBER_TYPE, {"role": "roles/storage.objectViewer", "member": "allUsers"}, "gives everybody"),
        ("gcp:storage/bucketIAMBinding:BucketIAMBinding", {"role": "r", "members": ["allAuthenticatedUsers"]}, "everybody"),
        ("gcp:projects/iAMPolicy:IAMPolicy", policy("roles/owner", "user:a@example.com"), "roles/owner"),
        ("gcp:artifactregistry/repositoryIamPolicy:RepositoryIamPolicy", policy("roles/r", "allUsers"), "everybody"),
        ("gcp:storage/bucketAccessControl:BucketAccessControl", {"role": "OWNER", "entity": "allUsers"}, "everybody"),
        ("gcp:storage/defaultObjectACL:DefaultObjectACL", {"roleEntities": ["READER:allAuthenticatedUsers"]}, "everybody"),
        ("gcp:storage/objectACL:ObjectACL", {"predefinedAcl": "publicRead"}, "predefined ACL"),
        ("gcp:storage/hmacKey:HmacKey", {}, "XML API"),
        ("gcp:serviceaccount/key:Key", {}, "key file"),
        (BUDGET_TYPE, {"budgetFilter": {"projects": ["projects/1"]}}, "thresholdRules"),
        (BUDGET_TYPE, {"thresholdRules": [{"thresholdPercent": 1}]}, "every project"),
    ],
)
def test_each_rule(kind: str, inputs: dict[str, Any], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    code, lines = check(tmp_path / "plan", capsys, (kind, inputs))
    assert code == 1
    (line,) = lines
    assert line.startswith(f"{kind} it ") and reason in line


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"steps": 1}'])
def test_what_is_no_plan_is_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "plan").write_text(text)
    assert main([str(tmp_path / "plan")]) == 2
    assert capsys.readouterr().err.startswith(f"odcloud: error: {tmp_path / 'plan'}: ")


def test_a_missing_plan_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err
