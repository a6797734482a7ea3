"""What the provider decides without a network: checks, differences, drift, IAM policies, clear refusals."""

import re
import threading
from typing import Any

import pytest

from localcloud.pulumi_provider import iam
from localcloud.pulumi_provider.accounts import ACCOUNT
from localcloud.pulumi_provider.errors import ProviderError
from localcloud.pulumi_provider.kinds import (
    ASSET,
    SIGNATURE,
    UNKNOWN,
    Change,
    auto_name,
    check,
    diff,
    given_or_filled,
    previewed,
    refreshed,
)
from localcloud.pulumi_provider.projects import PROJECT_MEMBER
from localcloud.pulumi_provider.registry import REPOSITORY, REPOSITORY_MEMBER
from localcloud.pulumi_provider.resources import KINDS, kind_of
from localcloud.pulumi_provider.rest import STORAGE, Conflict, NotFound
from localcloud.pulumi_provider.storage import BUCKET, BUCKET_MEMBER, OBJECT, bucket_body
from localcloud.pulumi_provider.values import from_struct, to_struct

LIFECYCLE = [{"action": {"type": "Delete"}, "condition": {"age": 7, "matchesPrefixes": ["tmp/"]}}]


def bucket(**more: Any) -> dict[str, Any]:
    inputs, failures = check(BUCKET, {"name": "b", "project": "p", "location": "US-CENTRAL1", **more})
    assert not failures
    return inputs


def asset(hash: str, path: str = "/a") -> dict[str, str]:
    return {SIGNATURE: ASSET, "hash": hash, "path": path}


def test_check_fills_defaults_and_keeps_what_is_given() -> None:
    inputs = bucket(forceDestroy=True, labels=None)
    assert inputs["forceDestroy"] is True
    assert inputs["storageClass"] == "STANDARD"
    assert "labels" not in inputs


def test_check_names_missing_and_unknown_properties() -> None:
    _, failures = check(BUCKET, {"name": "b", "location": "", "websites": []})
    assert {name for name, _ in failures} == {"project", "location", "websites"}


def test_an_unknown_value_counts_as_given() -> None:
    assert check(ACCOUNT, {"project": "p", "accountId": UNKNOWN})[1] == []


def test_no_difference_between_equals_whatever_the_case_of_the_location() -> None:
    assert diff(BUCKET, bucket(location="us-central1"), bucket()).changes == {}


def test_differences_that_need_no_new_resource() -> None:
    found = diff(BUCKET, bucket(labels={"a": "1"}), bucket(labels={"a": "2"}, lifecycleRules=LIFECYCLE))
    assert found.changes == {"labels": Change.UPDATE, "lifecycleRules": Change.ADD}
    assert not found.replaces and not found.delete_first
    assert diff(BUCKET, bucket(labels={}), bucket()).changes == {"labels": Change.DELETE}


def test_a_moved_bucket_is_replaced_and_the_old_one_goes_first() -> None:
    found = diff(BUCKET, bucket(), bucket(location="EU"))
    assert found.replaces == {"location"} and found.delete_first


def test_a_renamed_bucket_is_replaced_and_the_old_one_goes_last() -> None:
    found = diff(BUCKET, bucket(), {**bucket(), "name": "c"})
    assert found.replaces == {"name"} and not found.delete_first


def test_a_member_of_an_unknown_account_is_replaced() -> None:
    old = {"project": "p", "role": "r", "member": "serviceAccount:a"}
    assert diff(PROJECT_MEMBER, old, {**old, "member": UNKNOWN}).replaces == {"member"}


def test_ignored_changes_are_none() -> None:
    assert not diff(BUCKET, bucket(labels={}), bucket(labels={"a": "1"}), frozenset({"labels"})).changes


def test_an_object_changes_with_its_content_and_not_with_where_its_file_was() -> None:
    old = {"bucket": "b", "name": "o", "source": asset("1"), "contentType": "text/plain"}
    assert not diff(OBJECT, old, {**old, "source": asset("1", "/elsewhere")}).changes
    found = diff(OBJECT, old, {**old, "source": asset("2")})
    assert found.changes == {"source": Change.UPDATE} and not found.replaces


def test_drift_shows_in_the_inputs_that_were_given() -> None:
    inputs = bucket(labels={"a": "1"})
    drifted = refreshed(BUCKET, inputs, {**inputs, "labels": {"a": "2"}, "url": "gs://b"})
    assert diff(BUCKET, drifted, inputs).changes == {"labels": Change.UPDATE}
    assert "url" not in drifted


def test_a_buckets_body_is_what_the_storage_api_takes() -> None:
    body = bucket_body(bucket(lifecycleRules=LIFECYCLE, softDeletePolicy={"retentionDurationSeconds": 0}))
    assert body["lifecycle"] == {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 7, "matchesPrefix": ["tmp/"]}}]}
    assert body["softDeletePolicy"] == {"retentionDurationSeconds": "0"}  # int64 travels as a string


def test_another_type_is_refused_by_name() -> None:
    with pytest.raises(ProviderError, match="gcp:compute/instance:Instance is not served"):
        kind_of("urn:pulumi:local::odcloud::odcloud:infra:Storage$gcp:compute/instance:Instance::vm")
    token = "gcp:storage/bucket:Bucket"
    assert kind_of(f"urn:pulumi:local::odcloud::odcloud:infra:Storage${token}::bucket") == (token, KINDS[token])


def test_identities_are_paths() -> None:
    assert ACCOUNT.identity({"project": "p", "accountId": "a"}) == "projects/p/serviceAccounts/a@p.iam.gserviceaccount.com"
    given = {"title": "until", "expression": "x < y"}
    member = {"bucket": "b", "role": "roles/r", "member": "m"}
    assert BUCKET_MEMBER.identity(member) == BUCKET_MEMBER.identity({**member, "bucket": "b/b"}) == "b/b/roles/r/m"
    assert BUCKET_MEMBER.identity({**member, "condition": given}) == "b/b/roles/r/m/until//x < y"
    assert (
        REPOSITORY.identity({"project": "p", "location": "l", "repositoryId": "r"}) == "projects/p/locations/l/repositories/r"
    )


def test_values_survive_the_protocol() -> None:
    values = {"text": "a", "whole": 3, "part": 0.5, "flag": True, "none": None, "list": [1, {"x": []}], "asset": asset("1")}
    found = from_struct(to_struct(values))
    assert found == values
    assert isinstance(found["whole"], int) and isinstance(found["flag"], bool)


def test_without_the_local_clouds_environment_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_STORAGE_CUSTOM_ENDPOINT", raising=False)
    with pytest.raises(ProviderError, match="odcloud local env"):
        STORAGE.call("GET", "b/x")
    monkeypatch.setenv("GOOGLE_STORAGE_CUSTOM_ENDPOINT", "http://127.0.0.1:9/storage/v1/")
    with pytest.raises(ProviderError, match="odcloud local start"):
        STORAGE.call("GET", "b/x")


CONDITIONAL = {"role": "r", "members": ["m"], "condition": {"expression": "false"}}


def test_a_member_joins_the_roles_binding_and_leaves_everything_else_alone() -> None:
    policy = {"etag": "e", "version": 3, "bindings": [CONDITIONAL, {"role": "r", "members": ["other"]}]}
    joined = iam.with_member(policy, "r", "m")
    assert joined == {**policy, "bindings": [CONDITIONAL, {"role": "r", "members": ["other", "m"]}]}
    assert iam.with_member(joined, "r", "m") == joined
    assert iam.without_member(joined, "r", "m") == policy
    assert not iam.has_member(policy, "r", "m")  # having it under a condition is not having it


def test_the_last_member_takes_the_binding_along() -> None:
    assert iam.without_member(iam.with_member({}, "r", "m"), "r", "m") == {"bindings": []}


class Store:
    """A policy with an etag, as a service keeps it: a stale write is a conflict."""

    def __init__(self) -> None:
        self.policy: dict[str, Any] = {"etag": "0", "bindings": []}
        self.lock = threading.Lock()

    def get(self, inputs: object) -> dict[str, Any]:
        return self.policy

    def set(self, inputs: object, policy: dict[str, Any]) -> None:
        with self.lock:
            if policy["etag"] != self.policy["etag"]:
                raise Conflict("stale etag")
            self.policy = {**policy, "etag": str(int(policy["etag"]) + 1)}


def test_members_added_at_the_same_time_all_get_in() -> None:
    store = Store()
    kind = iam.member_kind(iam.PolicyOf(("bucket",), "b/{bucket}", store.get, store.set, lambda given: None))
    inputs = [{"bucket": "b", "role": "r", "member": f"m{number}"} for number in range(8)]
    threads = [threading.Thread(target=kind.create, args=(one,)) for one in inputs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {member for binding in store.policy["bindings"] for member in binding["members"]} == {f"m{n}" for n in range(8)}
    assert all(kind.read(one) == {} for one in inputs)
    kind.delete(inputs[0])
    assert kind.read(inputs[0]) is None and kind.read(inputs[1]) == {}


def test_a_member_of_a_resource_that_is_gone_is_gone_too() -> None:
    def get(inputs: object) -> dict[str, Any]:
        raise NotFound("no such bucket")

    kind = iam.member_kind(iam.PolicyOf(("bucket",), "b/{bucket}", get, lambda inputs, policy: None, lambda given: None))
    inputs = {"bucket": "b", "role": "r", "member": "m"}
    assert kind.read(inputs) is None
    kind.delete(inputs)


def test_a_preview_knows_the_outputs_that_an_update_leaves_alone() -> None:
    old = {"project": "p", "accountId": "a", "displayName": "One", "description": "gone"}
    outputs = {"email": "a@p", "member": "serviceAccount:a@p"}
    new = {"project": "p", "accountId": "a", "displayName": "Two"}
    assert previewed(ACCOUNT, old, {**old, **outputs}, new) == {**new, **outputs}
    labelled = {**bucket(labels={"a": "1"}), "effectiveLabels": {"a": "1"}, "url": "gs://b", "lifecycleRules": []}
    known = previewed(BUCKET, bucket(labels={"a": "1"}), labelled, bucket())
    assert known == {**bucket(), "url": "gs://b", "lifecycleRules": []}


def test_what_the_service_has_no_longer_shows_and_what_was_empty_does_not() -> None:
    account = {"project": "p", "accountId": "a", "displayName": "One", "description": ""}
    drifted = refreshed(ACCOUNT, account, {"email": "a@p"})
    assert diff(ACCOUNT, drifted, account).changes == {"displayName": Change.ADD}
    given = bucket(versioning={"enabled": False}, encryption={"defaultKmsKeyName": "k"}, forceDestroy=True)
    assert diff(BUCKET, refreshed(BUCKET, given, {}), given).changes == {"encryption": Change.ADD}


def test_a_resource_named_in_full_is_the_same_resource() -> None:
    """As the real provider has it in its state."""
    short = {"project": "p", "location": "l", "repository": "r", "role": "roles/r", "member": "m"}
    full = {**short, "repository": "projects/p/locations/l/repositories/r"}
    assert not diff(REPOSITORY_MEMBER, full, short).changes
    assert REPOSITORY_MEMBER.identity(full) == REPOSITORY_MEMBER.identity(short) == f"{full['repository']}/roles/r/m"
    assert diff(REPOSITORY_MEMBER, full, {**short, "repository": UNKNOWN}).replaces == {"repository"}
    elsewhere = {**full, "repository": full["repository"].replace("/locations/", "/locations/other-")}
    assert diff(REPOSITORY_MEMBER, full, elsewhere).replaces == {"repository"}


def test_the_condition_of_a_member_is_found_by_its_title() -> None:
    until, other = {"title": "until", "expression": "a"}, {"title": "other", "expression": "b"}
    bound = [{"role": "r", "members": ["m"], "condition": condition} for condition in (until, other)]
    assert iam.condition_of({"bindings": bound}, "r", "m", "until") == until
    assert iam.condition_of({"bindings": [*bound, {"role": "r", "members": ["m"]}]}, "r", "m", "") is None
    assert iam.condition_of({}, "r", "m", "") is None
    with pytest.raises(ProviderError, match="a condition only: end the id with its title, which is one of 'until', 'other'"):
        iam.condition_of({"bindings": bound}, "r", "m", "")
    with pytest.raises(ProviderError, match="under 2 conditions titled 'until'"):
        iam.condition_of({"bindings": [bound[0], {**bound[0], "condition": {**until, "expression": "c"}}]}, "r", "m", "until")


def test_a_name_is_made_from_the_resources_own() -> None:
    made = auto_name("My-bucket", b"seed", 63)
    assert re.fullmatch(r"my-bucket-[0-9a-f]{7}", made)
    assert auto_name("My-bucket", b"seed", 63) == made != auto_name("My-bucket", b"other", 63)
    assert auto_name("x", b"", 63) != auto_name("x", b"", 63)
    assert len(auto_name("x" * 80, b"seed", 63)) == 63


def test_a_source_that_is_no_file_is_refused_before_anything_is_made() -> None:
    given = {"bucket": "b", "name": "o"}
    text = {SIGNATURE: ASSET, "hash": "1", "text": "x"}
    assert check(OBJECT, {**given, "source": text})[1] == [
        ("source", "the local cloud's provider takes a FileAsset, nothing else")
    ]
    for source in (asset("1"), UNKNOWN):
        assert check(OBJECT, {**given, "source": source})[1] == []


def test_a_soft_delete_policy_that_says_nothing_is_a_week() -> None:
    given = bucket(softDeletePolicy={})
    assert bucket_body(given)["softDeletePolicy"] == {"retentionDurationSeconds": "604800"}
    assert not diff(BUCKET, refreshed(BUCKET, given, {"softDeletePolicy": {"retentionDurationSeconds": 604800}}), given).changes
    assert diff(BUCKET, given, bucket(softDeletePolicy=UNKNOWN)).changes == {"softDeletePolicy": Change.UPDATE}


def test_what_the_real_provider_fills_in_by_itself_is_no_change() -> None:
    """Its state has project, place and defaults among the outputs only."""
    repository = {"repositoryId": "r", "format": "DOCKER"}
    outputs = {**repository, "project": "p", "location": "l", "mode": "STANDARD_REPOSITORY", "description": ""}
    assert (
        given_or_filled(REPOSITORY, repository, outputs)
        == check(REPOSITORY, {**repository, "project": "p", "location": "l"})[0]
    )
