"""infra/config.py: every mistake in a stack's configuration is told at once, and what is committed is right."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from infra.config import load
from infra.errors import StackError

ROOT = Path(__file__).parents[2]
LEAST = {"gcp:project": "my-project", "gcp:region": "europe-west4"}


def test_the_committed_local_stack_is_right_and_has_no_secret() -> None:
    text = (ROOT / "Pulumi.local.yaml").read_text()
    values = YAML(typ="safe").load(text)["config"]
    config = load("local", values)
    assert (config.project, config.region, config.bucket) == ("odcloud-local", "us-central1", "odcloud-local-odcloud-local")
    assert config.data_dir == Path("digits")
    assert config.on_destroy == "delete"
    assert "secure:" not in text


def test_defaults() -> None:
    config = load("dev", LEAST)
    assert config.bucket == "my-project-odcloud-dev"
    assert config.name == "odcloud-dev"
    assert config.labels == {"odcloud-stack": "dev"}
    assert config.on_destroy == "refuse"
    assert config.data_dir is None


def test_all_mistakes_at_once_each_with_its_key() -> None:
    values = {
        "gcp:region": "Europe",
        "odcloud:temporaryDays": "soon",
        "odcloud:ondestroy": "delete",
        "odcloud:project": "another",
        "odcloud:bucket": "Capitals",
        "odcloud:softDeleteDays": "3",
        "odcloud:existingBucket": "theirs",
        "odcloud:budget": "200",
        "other:setting": "is none of ours",
    }
    with pytest.raises(StackError) as caught:
        load("dev", values)
    first, *lines = str(caught.value).splitlines()
    assert "Pulumi.dev.yaml" in first
    assert {line.split()[0] for line in lines} == {
        "gcp:project:",
        "gcp:region:",
        "odcloud:temporaryDays:",
        "odcloud:ondestroy:",
        "odcloud:project:",
        "odcloud:bucket:",
        "odcloud:softDeleteDays:",
        "odcloud:bucket,",  # and others, and existingBucket exclude each other
        "odcloud:budget",  # and billingAccount belong together
    }
    assert "'3' (days a deleted object can be restored; 0 or 7–90): must be 0, or 7 to 90, for Cloud Storage." in str(
        caught.value
    )
    assert "pulumi config set gcp:project" in str(caught.value)
    assert "'soon'" in str(caught.value)
    assert "odcloud:onDestroy" in next(line for line in lines if "odcloud:ondestroy:" in line)


def test_a_list_given_as_one_value_is_told_how_to_be_set() -> None:
    with pytest.raises(
        StackError, match=r"'group:a@b.c' is no list .*; set each with `pulumi config set --path 'odcloud:launchers\[0\]'"
    ):
        load("dev", {**LEAST, "odcloud:launchers": "group:a@b.c"})


def test_a_missing_project_is_not_reported_as_a_wrong_bucket() -> None:
    with pytest.raises(StackError) as caught:
        load("dev", {"gcp:region": "us-central1"})
    assert "bucket" not in str(caught.value)


@pytest.mark.parametrize("stack", ["Dev", "dev_1", "a-stack-name-of-more-than-22-characters", "-dev"])
def test_a_stack_name_that_cannot_be_an_account_id_is_refused(stack: str) -> None:
    with pytest.raises(StackError, match="stack name"):
        load(stack, LEAST)


def test_an_existing_bucket_stays_as_it_is() -> None:
    config = load("dev", {**LEAST, "odcloud:existingBucket": "theirs"})
    assert (config.bucket, config.prefix) == ("theirs", "odcloud-dev/")
    assert load("dev", LEAST).prefix == ""
    for key, value in {"odcloud:bucket": "mine", "odcloud:versioning": "true", "odcloud:bucketLocation": "EU"}.items():
        with pytest.raises(StackError, match=f"{key} and odcloud:existingBucket exclude each other"):
            load("dev", {**LEAST, "odcloud:existingBucket": "theirs", key: value})


@pytest.mark.parametrize(
    ("key", "location", "right"),
    [
        ("europe-west4", None, True),
        ("us-central1", None, False),
        ("europe", "EU", True),
        ("eu", "EU", False),
        ("us", "US", True),
    ],
)
def test_a_key_must_be_where_the_bucket_is(key: str, location: str | None, right: bool) -> None:
    values = {**LEAST, "odcloud:kmsKey": f"projects/p/locations/{key}/keyRings/r/cryptoKeys/k"}
    values |= {"odcloud:bucketLocation": location} if location else {}
    if right:
        assert load("dev", values).kms_key
    else:
        with pytest.raises(StackError, match=f"odcloud:kmsKey is in {key}, the bucket in"):
            load("dev", values)


def test_a_budget_needs_its_billing_account() -> None:
    both = {"odcloud:billingAccount": "012345-6789AB-CDEF01", "odcloud:budget": "200"}
    assert load("dev", {**LEAST, **both}).budget == 200
    for key in both:
        with pytest.raises(StackError, match="belong together"):
            load("dev", {**LEAST, key: both[key]})


@pytest.mark.parametrize(("days", "right"), [("0", True), ("3", False), ("7", True), ("90", True), ("91", False)])
def test_soft_delete_takes_none_or_at_least_a_week(days: str, right: bool) -> None:
    values = {**LEAST, "odcloud:softDeleteDays": days}
    if right:
        assert load("dev", values).soft_delete_days == int(days)
    else:
        with pytest.raises(StackError, match="softDeleteDays"):
            load("dev", values)
