"""The provider empties a bucket on a real local cloud: by batches, down to the last old generation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from localcloud.pulumi_provider import engine
from localcloud.pulumi_provider.emptying import empty
from localcloud.pulumi_provider.errors import ProviderError
from localcloud.pulumi_provider.rest import STORAGE

if TYPE_CHECKING:
    from conftest import LocalCloud


@pytest.fixture
def full(local_cloud: LocalCloud, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket with 120 objects, of which two have two old generations."""
    monkeypatch.setenv("GOOGLE_STORAGE_CUSTOM_ENDPOINT", f"{local_cloud.url}/storage/v1/")
    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", (local_cloud.home / "token").read_text())
    local_cloud.call("storage.buckets.patch", {"versioning": {"enabled": True}}, bucket=bucket)
    folder = local_cloud.home / "buckets" / bucket / "a b" / "c#?ü%"
    folder.mkdir(parents=True)
    for number in range(118):
        (folder / f"{number}+&").write_text("x")
    for content in (b"1", b"2", b"3"):
        local_cloud.upload(bucket, "twice", content)
        local_cloud.upload(bucket, "deep/twice", content)
    yield bucket
    engine.cancelled.clear()


def generations(local_cloud: LocalCloud, bucket: str) -> list[str]:
    found = local_cloud.call("storage.objects.list", bucket=bucket, versions=True, fields="items(name)").get("items", [])
    return [item["name"] for item in found]


def test_everything_goes(local_cloud: LocalCloud, full: str) -> None:
    assert len(generations(local_cloud, full)) == 124
    empty(full)
    local_cloud.call("storage.buckets.delete", bucket=full)
    empty(full)  # gone already


def test_what_is_held_is_named(local_cloud: LocalCloud, full: str) -> None:
    local_cloud.call("storage.objects.patch", {"temporaryHold": True}, bucket=full, object="twice")
    with pytest.raises(ProviderError, match=f"403 Object '{full}/twice' is under active Temporary hold"):
        empty(full)
    local_cloud.call("storage.objects.patch", {"temporaryHold": False}, bucket=full, object="twice")
    empty(full)
    assert generations(local_cloud, full) == []


def test_an_interrupted_one_says_what_is_left(local_cloud: LocalCloud, full: str) -> None:
    engine.cancelled.set()
    with pytest.raises(ProviderError, match=r"interrupted with 124 objects .* left; `pulumi destroy` again"):
        empty(full)
    assert len(generations(local_cloud, full)) == 124


def test_the_answers_of_a_batch_are_in_order(local_cloud: LocalCloud, full: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found, absent = STORAGE.batch("GET", [f"b/{full}/o/twice", f"b/{full}/o/none"])
    assert isinstance(found, dict) and found["name"] == "twice"
    assert isinstance(absent, ProviderError) and "404 No such object" in str(absent)
    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", "wrong")
    with pytest.raises(ProviderError, match="401"):
        list(STORAGE.batch("GET", [f"b/{full}/o/twice"]))
