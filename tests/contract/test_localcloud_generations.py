"""Object versioning: what the API overwrites or deletes stays as a noncurrent generation, beside the bucket's folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from conftest import LocalCloud


@pytest.fixture
def versioned(local_cloud: LocalCloud, bucket: str) -> str:
    local_cloud.call("storage.buckets.patch", {"versioning": {"enabled": True}}, bucket=bucket)
    return bucket


def listed(local_cloud: LocalCloud, bucket: str, **params: Any) -> list[tuple[str, str, bool]]:
    """(name, generation, whether it is noncurrent) of every generation."""
    items = local_cloud.call("storage.objects.list", bucket=bucket, versions=True, **params).get("items", [])
    return [(item["name"], item["generation"], "timeDeleted" in item) for item in items]


def read(local_cloud: LocalCloud, bucket: str, name: str, generation: str) -> bytes:
    path = f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media&generation={generation}"
    answer = local_cloud.request("GET", path)
    assert answer.ok and answer.headers["X-Goog-Generation"] == generation, answer.text
    return answer.content


def test_what_is_overwritten_or_deleted_can_still_be_read(local_cloud: LocalCloud, versioned: str) -> None:
    one, two, three = (local_cloud.upload(versioned, "a/b", content) for content in (b"1", b"22", b"333"))
    local_cloud.call("storage.objects.delete", bucket=versioned, object="a/b")
    generations = [each["generation"] for each in (one, two, three)]
    assert generations == sorted(generations, key=int)
    assert listed(local_cloud, versioned) == [("a/b", generation, True) for generation in generations]
    assert list((local_cloud.home / "buckets" / versioned).iterdir()) == []
    local_cloud.refusal(404, "storage.objects.get", bucket=versioned, object="a/b")
    assert "items" not in local_cloud.call("storage.objects.list", bucket=versioned)
    for generation, content in zip(generations, (b"1", b"22", b"333"), strict=True):
        assert read(local_cloud, versioned, "a/b", generation) == content
    kept = local_cloud.call("storage.objects.get", bucket=versioned, object="a/b", generation=two["generation"])
    assert kept.pop("timeDeleted") >= three["timeCreated"]
    assert kept == two
    ranged = local_cloud.request(
        "GET", f"/storage/v1/b/{versioned}/o/a%2Fb?alt=media&generation={three['generation']}", headers={"Range": "bytes=1-"}
    )
    assert (ranged.status_code, ranged.content) == (206, b"33")
    local_cloud.refusal(404, "storage.objects.get", bucket=versioned, object="a/b", generation="7")
    for none in ("last", "9999999999999999999"):  # more than 64 bits
        assert local_cloud.request("GET", f"/storage/v1/b/{versioned}/o/a%2Fb?generation={none}").status_code == 400


def test_a_noncurrent_generation_is_described_copied_and_deleted(local_cloud: LocalCloud, versioned: str) -> None:
    old = local_cloud.upload(versioned, "x", b"old")
    at = {"bucket": versioned, "object": "x", "generation": old["generation"]}
    live = local_cloud.upload(versioned, "x", b"live")
    changed = local_cloud.call("storage.objects.patch", {"metadata": {"why": "kept"}}, **at)
    assert (changed["metadata"], changed["metageneration"]) == ({"why": "kept"}, "2") and "timeDeleted" in changed
    assert local_cloud.call("storage.objects.get", **at) == changed
    assert local_cloud.call("storage.objects.get", bucket=versioned, object="x") == live
    local_cloud.refusal(412, "storage.objects.patch", {"metadata": {}}, **at, ifMetagenerationMatch="1")

    source = {"sourceBucket": versioned, "sourceObject": "x", "sourceGeneration": old["generation"]}
    back = local_cloud.call("storage.objects.rewrite", {}, **source, destinationBucket=versioned, destinationObject="x")
    restored = back["resource"]
    assert local_cloud.download(versioned, "x").content == b"old" and restored["metadata"] == {"why": "kept"}
    assert [each[1:] for each in listed(local_cloud, versioned)] == [
        (old["generation"], True),
        (live["generation"], True),
        (restored["generation"], False),
    ]
    parts = [{"name": "x", "generation": each["generation"]} for each in (live, old)]
    local_cloud.call("storage.objects.compose", {"sourceObjects": parts}, destinationBucket=versioned, destinationObject="both")
    assert local_cloud.download(versioned, "both").content == b"liveold"

    local_cloud.call("storage.objects.delete", **at)
    local_cloud.refusal(404, "storage.objects.get", **at)
    # the current one, named, goes for good as well, and no other takes its place
    local_cloud.call("storage.objects.delete", bucket=versioned, object="x", generation=restored["generation"])
    assert listed(local_cloud, versioned, prefix="x") == [("x", live["generation"], True)]
    local_cloud.refusal(404, "storage.objects.get", bucket=versioned, object="x")
    again = local_cloud.upload(versioned, "x", b"new", ifGenerationMatch="0")
    assert int(again["generation"]) > int(live["generation"])


def test_generations_are_listed_in_pages(local_cloud: LocalCloud, versioned: str) -> None:
    written = [
        ("x", local_cloud.upload(versioned, "x", b"1")["generation"]),
        *(("a/b", local_cloud.upload(versioned, "a/b", b"%d" % turn)["generation"]) for turn in range(4)),
        ("gone/deep", local_cloud.upload(versioned, "gone/deep", b"")["generation"]),
        ("a!", local_cloud.upload(versioned, "a!", b"")["generation"]),
    ]
    local_cloud.call("storage.objects.delete", bucket=versioned, object="gone/deep")
    found: list[tuple[str, str]] = []
    token: dict[str, str] = {}
    while True:
        page = local_cloud.call("storage.objects.list", bucket=versioned, versions=True, maxResults=2, **token)
        assert 1 <= len(page["items"]) <= 2
        found += [(item["name"], item["generation"]) for item in page["items"]]
        if "nextPageToken" not in page:
            break
        token = {"pageToken": page["nextPageToken"]}
    assert found == sorted(written, key=lambda each: (each[0], int(each[1])))
    grouped = local_cloud.call("storage.objects.list", bucket=versioned, versions=True, delimiter="/")
    assert grouped["prefixes"] == ["a/", "gone/"] and [item["name"] for item in grouped["items"]] == ["a!", "x"]
    first = local_cloud.call("storage.objects.list", bucket=versioned, versions=True, delimiter="/", maxResults=2)
    assert (first["prefixes"], [item["name"] for item in first["items"]]) == (["a/"], ["a!"])
    rest = local_cloud.call(
        "storage.objects.list", bucket=versioned, versions=True, delimiter="/", pageToken=first["nextPageToken"]
    )
    assert (rest["prefixes"], [item["name"] for item in rest["items"]]) == (["gone/"], ["x"])
    assert [each[0] for each in listed(local_cloud, versioned, matchGlob="gone/*")] == ["gone/deep"]


def test_what_a_job_writes_itself_replaces_without_a_trace(local_cloud: LocalCloud, versioned: str) -> None:
    """As documented: only a write through the API keeps what was there, whoever wrote that."""
    file = local_cloud.home / "buckets" / versioned / "ckpt"
    local_cloud.upload(versioned, "ckpt", b"by a client")
    file.write_bytes(b"by a job")
    by_job = local_cloud.call("storage.objects.get", bucket=versioned, object="ckpt")
    assert [each[1:] for each in listed(local_cloud, versioned)] == [(by_job["generation"], False)]
    local_cloud.upload(versioned, "ckpt", b"by a client again")
    assert read(local_cloud, versioned, "ckpt", by_job["generation"]) == b"by a job"
    kept = local_cloud.call("storage.objects.get", bucket=versioned, object="ckpt", generation=by_job["generation"])
    assert (kept["md5Hash"], kept["size"]) == (by_job["md5Hash"], "8")
    local_cloud.call("storage.objects.delete", bucket=versioned, object="ckpt")
    file.write_bytes(b"an old file, copied with its time")
    os.utime(file, ns=(5000, 5000))
    assert listed(local_cloud, versioned)[-1][2] is False  # current ones come last, whatever their file's time


def test_versioning_switched_off_keeps_what_is_kept(local_cloud: LocalCloud, versioned: str) -> None:
    old = local_cloud.upload(versioned, "x", b"1")
    local_cloud.upload(versioned, "x", b"2")
    local_cloud.call("storage.buckets.patch", {"versioning": {"enabled": False}}, bucket=versioned)
    live = local_cloud.upload(versioned, "x", b"3")
    assert [each[1] for each in listed(local_cloud, versioned)] == [old["generation"], live["generation"]]
    local_cloud.call("storage.objects.delete", bucket=versioned, object="x")
    assert "not empty" in local_cloud.refusal(409, "storage.buckets.delete", bucket=versioned)
    local_cloud.call("storage.objects.delete", bucket=versioned, object="x", generation=old["generation"])
    local_cloud.call("storage.buckets.delete", bucket=versioned)
    assert not (local_cloud.home / "generations" / versioned).exists()


def test_a_hold_keeps_a_noncurrent_generation(local_cloud: LocalCloud, versioned: str) -> None:
    old = local_cloud.upload(versioned, "x", b"1")
    local_cloud.upload(versioned, "x", b"2")
    at = {"bucket": versioned, "object": "x", "generation": old["generation"]}
    local_cloud.call("storage.objects.patch", {"temporaryHold": True}, **at)
    assert "under active Temporary hold" in local_cloud.refusal(403, "storage.objects.delete", **at)
    local_cloud.call("storage.objects.patch", {"temporaryHold": False}, **at)
    local_cloud.call("storage.objects.delete", **at)
