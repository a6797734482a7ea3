"""The provider's calls of the protocol, as Pulumi's engine sends them, on a real local cloud."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from pulumi.runtime.proto import provider_pb2 as proto

from localcloud.pulumi_provider.resources import KINDS
from localcloud.pulumi_provider.server import Provider
from localcloud.pulumi_provider.values import from_struct, to_struct

if TYPE_CHECKING:
    from conftest import LocalCloud

P = "odcloud-local"
MEMBER = "user:someone@example.com"
POLICY = {"id": "old", "action": "DELETE", "condition": {"tagState": "UNTAGGED", "olderThan": "30d"}}


class Refused(Exception):
    """What Pulumi would show for the resource."""


class Context:
    def abort(self, code: object, message: str) -> NoReturn:
        raise Refused(message)


class Stack:
    """A stack of Pulumi's: it checks, creates, reads and deletes resources by a name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.provider = Provider("1")

    def urn(self, token: str) -> str:
        return f"urn:pulumi:{self.name}::program::{token}::resource"

    def call(self, method: str, token: str, **fields: Any) -> Any:
        known = {name: to_struct(value) if isinstance(value, dict) else value for name, value in fields.items()}
        request = getattr(proto, f"{method}Request")(urn=self.urn(token), **known)
        return getattr(self.provider, method)(request, Context())

    def check(self, token: str, news: dict[str, Any], **more: Any) -> tuple[dict[str, Any], dict[str, str]]:
        answer = self.call("Check", token, news=news, **more)
        return from_struct(answer.inputs), {failure.property: failure.reason for failure in answer.failures}

    def create(self, token: str, inputs: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        checked, failures = self.check(token, inputs)
        assert not failures
        made = self.call("Create", token, properties=checked)
        return made.id, from_struct(made.properties)

    def read(self, token: str, given: str, properties: dict[str, Any], inputs: dict[str, Any]) -> Any:
        return self.call("Read", token, id=given, properties=properties, inputs=inputs)


@pytest.fixture
def stack(local_cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """A stack on the local cloud, with the environment that `odcloud local env` gives."""
    for name in ("IAM", "RESOURCE_MANAGER", "SERVICE_USAGE", "ARTIFACT_REGISTRY", "IAM_BETA", "BILLING"):
        monkeypatch.setenv(f"GOOGLE_{name}_CUSTOM_ENDPOINT", f"{local_cloud.url}/v1/")
    monkeypatch.setenv("GOOGLE_STORAGE_CUSTOM_ENDPOINT", f"{local_cloud.url}/storage/v1/")
    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", (local_cloud.home / "token").read_text())
    monkeypatch.setenv("GOOGLE_PROJECT", P)
    monkeypatch.setenv("GOOGLE_REGION", "europe-west1")
    monkeypatch.setenv("PULUMI_HOME", str(local_cloud.home / "pulumi-home"))
    return Stack("one")


def token(name: str) -> str:
    (found,) = [token for token in KINDS if token.endswith(f"/{name}")]
    return found


def test_what_others_removed_is_not_in_the_inputs_any_more(local_cloud: LocalCloud, stack: Stack) -> None:
    account, repository = token("account:Account"), token("repository:Repository")
    for kind, inputs in (
        (account, {"accountId": "drifts", "displayName": "One"}),
        (repository, {"location": "us-central1", "repositoryId": "drifts", "format": "DOCKER", "cleanupPolicies": [POLICY]}),
    ):
        checked, _ = stack.check(kind, inputs)
        made, outputs = stack.create(kind, inputs)
        assert from_struct(stack.read(kind, made, outputs, checked).inputs).keys() == checked.keys()
        if kind == account:
            change = {"serviceAccount": {"displayName": ""}, "updateMask": "displayName"}
            local_cloud.call("iam.projects.serviceAccounts.patch", change, name=made)
        else:
            api = "artifactregistry.projects.locations.repositories"
            local_cloud.call(f"{api}.patch", {}, name=made, updateMask="cleanupPolicies")
        removed = {"displayName", "cleanupPolicies"} & checked.keys()
        again = stack.read(kind, made, outputs, checked)
        assert checked.keys() - from_struct(again.inputs).keys() == removed
        assert not removed & from_struct(again.properties).keys()


@pytest.mark.parametrize(
    ("binding", "scope", "named"),
    [
        ("bucketIAMMember:BucketIAMMember", {"bucket": "scoped"}, {"bucket": "b/scoped"}),
        (
            "repositoryIamMember:RepositoryIamMember",
            {"location": "us-central1", "repository": "scoped"},
            {"repository": f"projects/{P}/locations/us-central1/repositories/scoped"},
        ),
    ],
)
def test_a_member_in_a_state_of_googles_provider_is_read_and_deleted(
    stack: Stack, binding: str, scope: dict[str, str], named: dict[str, str]
) -> None:
    of = {
        "bucket": ("bucket:Bucket", {"name": "scoped", "location": "EU"}),
        "repository": ("repository:Repository", {"location": "us-central1", "repositoryId": "scoped", "format": "DOCKER"}),
    }
    resource, inputs = of[list(scope)[-1]]
    made, outputs = stack.create(token(resource), inputs)
    kind = token(binding)
    condition = {"title": "until", "expression": "request.time < timestamp('2030-01-01T00:00:00Z')"}
    for more, suffix, title in (({}, "", ""), ({"condition": condition}, f"/until//{condition['expression']}", " until")):
        given, known = stack.create(kind, {**scope, "role": "roles/viewer", "member": MEMBER, **more})
        name = next(reversed(named.values()))
        assert given == f"{name}/roles/viewer/{MEMBER}{suffix}"
        assert stack.read(kind, given, {**known, **named}, known).id == given
        assert stack.read(kind, "an/older/id", known, known).id == "an/older/id"
        imported = stack.read(kind, f"{name} roles/viewer {MEMBER}{title}", {}, {})
        assert (imported.id, from_struct(imported.inputs)) == (given, known)
        stack.call("Delete", kind, id=given, properties={**known, **named})
        assert stack.read(kind, given, known, known).id == ""
    stack.create(kind, {**scope, "role": "roles/viewer", "member": MEMBER, "condition": condition})
    with pytest.raises(Refused, match="under a condition only: end the id with its title, which is one of 'until'"):
        stack.read(kind, f"{name} roles/viewer {MEMBER}", {}, {})
    assert stack.read(kind, f"{name} roles/viewer {MEMBER} never", {}, {}).id == ""
    stack.call("Delete", token(resource), id=made, properties=outputs)


def test_names_and_places_that_a_program_leaves_out(stack: Stack) -> None:
    bucket, repository = token("bucket:Bucket"), token("repository:Repository")
    checked, failures = stack.check(bucket, {"location": "EU"}, randomSeed=b"seed")
    assert not failures and re.fullmatch("resource-[0-9a-f]{7}", checked["name"])
    assert stack.check(bucket, {"location": "EU"}, randomSeed=b"other", olds=checked)[0] == checked
    proposed = proto.CheckRequest.AutonamingOptions(proposed_name="theirs")
    assert stack.check(bucket, {"location": "EU"}, autonaming=proposed)[0]["name"] == "theirs"
    off = proto.CheckRequest.AutonamingOptions(mode=proto.CheckRequest.AutonamingOptions.DISABLE)
    assert stack.check(bucket, {"location": "EU"}, autonaming=off)[1] == {"name": "required"}

    checked, failures = stack.check(repository, {"repositoryId": "r", "format": "DOCKER"})
    assert not failures and (checked["project"], checked["location"]) == (P, "europe-west1")
    stack.provider.Configure(proto.ConfigureRequest(args=to_struct({"region": "us-east1"})), Context())
    assert stack.check(repository, {"repositoryId": "r", "format": "DOCKER"})[0]["location"] == "us-east1"
    assert stack.check(bucket, {})[1] == {"location": "required"}


def test_get_with_a_part_of_the_properties(local_cloud: LocalCloud, bucket: str, stack: Stack) -> None:
    found = stack.read(token("bucket:Bucket"), bucket, {"forceDestroy": True}, {})
    assert found.id == bucket
    outputs = from_struct(found.properties)
    assert (outputs["name"], outputs["forceDestroy"], outputs["url"]) == (bucket, True, f"gs://{bucket}")
    local_cloud.upload(bucket, "o", b"content")
    known = {"bucket": bucket, "name": "o"}
    assert from_struct(stack.read(token("bucketObject:BucketObject"), f"{bucket}-o", known, {}).properties)["md5hash"]


UNIQUE: dict[str, dict[str, Any]] = {
    "bucket:Bucket": {"name": "taken", "location": "EU"},
    "account:Account": {"accountId": "taken-account"},
    "repository:Repository": {"location": "us-central1", "repositoryId": "taken", "format": "DOCKER"},
    "workloadIdentityPool:WorkloadIdentityPool": {"workloadIdentityPoolId": "taken-pool"},
}


@pytest.mark.parametrize("name", UNIQUE)
def test_what_is_there_already_is_taken_only_by_the_stack_that_began_it(stack: Stack, name: str) -> None:
    kind, inputs = token(name), UNIQUE[name]
    made, outputs = stack.create(kind, inputs)
    assert stack.create(kind, inputs) == (made, outputs)  # a killed `pulumi up` had noted nothing in its state
    with pytest.raises(Refused, match=r"409 .* \(`pulumi import` takes what is there already into a stack\)"):
        Stack("two").create(kind, inputs)
    with pytest.raises(Refused, match="409"):  # and it is not taken the second time either
        Stack("two").create(kind, inputs)
    if name == "bucket:Bucket":
        with pytest.raises(Refused, match="409"):
            stack.create(kind, {**inputs, "labels": {"others": "1"}})
    stack.call("Delete", kind, id=made, properties=outputs)


@pytest.mark.parametrize("end", ["deleted", "gone", "refused"])
def test_a_resource_that_is_no_more_is_not_the_stacks_own_when_it_comes_back(
    local_cloud: LocalCloud, stack: Stack, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    kind, inputs = token("bucket:Bucket"), {"name": f"again-{end}", "location": "EU"}
    if end == "refused":
        with monkeypatch.context() as wrong, pytest.raises(Refused, match="401"):
            wrong.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", "wrong")
            stack.create(kind, inputs)
    else:
        made, outputs = stack.create(kind, inputs)
        if end == "deleted":
            stack.call("Delete", kind, id=made, properties=outputs)
        else:
            local_cloud.call("storage.buckets.delete", bucket=made)
            assert stack.read(kind, made, outputs, inputs).id == ""
    other = Stack("other")
    made, outputs = other.create(kind, inputs)
    with pytest.raises(Refused, match="409"):
        stack.create(kind, inputs)
    other.call("Delete", kind, id=made, properties=outputs)


def test_a_preview_of_an_update_knows_what_stays(stack: Stack) -> None:
    """Or whatever depends on an account's e-mail address would be announced as replaced."""
    kind, inputs = token("account:Account"), {"accountId": "previewed", "displayName": "One"}
    old, _ = stack.check(kind, inputs)
    made, outputs = stack.create(kind, inputs)
    new, _ = stack.check(kind, {**inputs, "displayName": "Two"})
    previewed = stack.call("Update", kind, id=made, olds=outputs, old_inputs=old, news=new, preview=True)
    assert from_struct(previewed.properties) == {**outputs, "displayName": "Two"}
    updated = stack.call("Update", kind, id=made, olds=outputs, old_inputs=old, news=new)
    assert from_struct(updated.properties) == {**outputs, "displayName": "Two"}
    stack.call("Delete", kind, id=made, properties=outputs)


def test_a_repository_in_a_state_of_googles_provider_is_unchanged(stack: Stack) -> None:
    kind = token("repository:Repository")
    given = {"location": "us-central1", "repositoryId": "theirs", "format": "DOCKER"}
    made, outputs = stack.create(kind, given)
    news, _ = stack.check(kind, given)
    found = stack.call("Diff", kind, id=made, olds=outputs, old_inputs=given, news=news)
    assert found.changes == proto.DiffResponse.DIFF_NONE
    stack.call("Delete", kind, id=made, properties=outputs)
