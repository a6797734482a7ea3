"""google-cloud-storage as installed, with nothing but the environment that the local cloud gives."""

from __future__ import annotations

import gzip
import io
import os
import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from client_environment import as_client
from google.api_core import exceptions
from google.cloud import storage
from google.cloud.storage import transfer_manager
from google.cloud.storage.fileio import BlobWriter

if TYPE_CHECKING:
    from conftest import LocalCloud


@pytest.fixture(scope="module")
def client(local_cloud: LocalCloud) -> Iterator[storage.Client]:
    with as_client(local_cloud):
        yield storage.Client()


@pytest.fixture
def bucket(client: storage.Client, request: pytest.FixtureRequest) -> storage.Bucket:
    return client.create_bucket("gcs-" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:50].strip("-"))


def test_the_environment_leads_to_the_local_cloud(client: storage.Client, local_cloud: LocalCloud) -> None:
    assert local_cloud.url == client._connection.API_BASE_URL
    assert client.project == "odcloud-local"
    assert "@" in client.get_service_account_email()


def test_bucket_settings(client: storage.Client) -> None:
    bucket = client.bucket("gcs-settings")
    bucket.storage_class = "STANDARD"
    bucket.labels = {"team": "vision", "odcloud-stack": "local"}
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    bucket.iam_configuration.public_access_prevention = "enforced"
    bucket.add_lifecycle_delete_rule(age=30, matches_prefix=["staging/"])
    bucket.add_lifecycle_set_storage_class_rule("NEARLINE", age=60)
    bucket.versioning_enabled = True
    bucket.soft_delete_policy.retention_duration_seconds = 8 * 86400
    bucket.cors = [{"origin": ["*"], "method": ["GET"], "maxAgeSeconds": 5}]
    bucket.default_event_based_hold = False
    client.create_bucket(bucket, location="us-central1")
    found = client.get_bucket("gcs-settings")
    assert found.location == "US-CENTRAL1" and found.labels == {"team": "vision", "odcloud-stack": "local"}
    assert found.iam_configuration.uniform_bucket_level_access_enabled
    assert found.iam_configuration.uniform_bucket_level_access_locked_time > datetime.now(timezone.utc)
    assert [rule["action"]["type"] for rule in found.lifecycle_rules] == ["Delete", "SetStorageClass"]
    assert found.versioning_enabled and found.soft_delete_policy.retention_duration_seconds == 8 * 86400
    found.labels = {"team": "vision"}
    found.clear_lifecycle_rules()
    found.patch(if_metageneration_match=found.metageneration)
    assert client.get_bucket("gcs-settings").labels == {"team": "vision"}
    assert not list(client.get_bucket("gcs-settings").lifecycle_rules)
    with pytest.raises(exceptions.PreconditionFailed):
        found.patch(if_metageneration_match=1)
    with pytest.raises(exceptions.Conflict):
        client.create_bucket("gcs-settings")
    assert "gcs-settings" in [each.name for each in client.list_buckets(prefix="gcs-")]
    found.delete()
    assert not found.exists() and client.lookup_bucket("gcs-settings") is None
    with pytest.raises(exceptions.NotFound):
        client.get_bucket("gcs-settings")


def test_bucket_policy(bucket: storage.Bucket) -> None:
    policy = bucket.get_iam_policy(requested_policy_version=3)
    stale = bucket.get_iam_policy(requested_policy_version=3)
    policy.bindings.append({"role": "roles/storage.objectViewer", "members": {"user:a@example.org"}})
    bucket.set_iam_policy(policy)
    assert bucket.get_iam_policy(requested_policy_version=3).bindings[0]["members"] == {"user:a@example.org"}
    with pytest.raises(exceptions.Conflict, match="concurrent policy changes"):
        bucket.set_iam_policy(stale)
    assert bucket.test_iam_permissions(["storage.objects.get"]) == ["storage.objects.get"]


@pytest.mark.parametrize("checksum", ["md5", "crc32c", None])
def test_upload_and_download(bucket: storage.Bucket, tmp_path: Path, checksum: str | None) -> None:
    content = os.urandom(3 * 2**20 + 7)
    (tmp_path / "up").write_bytes(content)
    whole = bucket.blob("a b/ü+%#?.bin")
    whole.metadata = {"step": "120"}
    whole.upload_from_filename(str(tmp_path / "up"), content_type="x/y", checksum=checksum)
    assert (whole.size, whole.content_type, whole.metadata) == (len(content), "x/y", {"step": "120"})
    chunked = bucket.blob("chunked", chunk_size=2**20)
    chunked.upload_from_filename(str(tmp_path / "up"), checksum=checksum)
    assert chunked.md5_hash == whole.md5_hash and chunked.crc32c == whole.crc32c
    for blob in (whole, chunked, bucket.get_blob("chunked")):
        blob.download_to_filename(str(tmp_path / "down"), checksum=checksum)
        assert (tmp_path / "down").read_bytes() == content
    assert whole.download_as_bytes(start=5, end=1004, checksum=checksum) == content[5:1005]
    with pytest.raises(exceptions.RequestRangeNotSatisfiable):
        whole.download_as_bytes(start=len(content))
    with pytest.raises(exceptions.NotFound):
        bucket.blob("absent").download_as_bytes()
    with pytest.raises(exceptions.NotFound, match="bucket does not exist"):
        bucket.client.bucket("gcs-absent").blob("x").upload_from_string("x")


def test_files(bucket: storage.Bucket) -> None:
    blob = bucket.blob("lines.txt")
    with blob.open("w") as file:
        file.write("one\ntwo\n")
    with blob.open("r") as file:
        assert list(file) == ["one\n", "two\n"]
    bucket.blob("empty").upload_from_string(b"")
    assert bucket.blob("empty", chunk_size=2**18).download_as_bytes() == b""
    content = os.urandom(700_000)
    with BlobWriter(bucket.blob("big"), chunk_size=256 * 1024) as writer:
        for start in range(0, len(content), 100_000):
            writer.write(content[start : start + 100_000])
    with bucket.blob("big").open("rb", chunk_size=2**18) as reader:
        reader.seek(300_000)
        assert reader.read(100) == content[300_000:300_100]
        reader.seek(0)
        assert reader.read() == content


def test_gzip_is_unpacked_on_the_way(bucket: storage.Bucket) -> None:
    plain = b"step,loss\n" * 200_000
    blob = bucket.blob("log.csv")
    blob.content_encoding = "gzip"
    blob.upload_from_string(gzip.compress(plain), content_type="text/csv")
    assert blob.download_as_bytes() == plain
    assert gzip.decompress(blob.download_as_bytes(raw_download=True)) == plain
    headers = {"Authorization": f"Bearer {bucket.client._credentials.token}", "Accept-Encoding": "identity"}
    answer = bucket.client._http.request("GET", blob.media_link, headers=headers)
    assert answer.content == plain and "Content-Encoding" not in answer.headers
    assert answer.headers["X-Goog-Stored-Content-Encoding"] == "gzip"


def test_listing(bucket: storage.Bucket) -> None:
    names = ["a.txt", "b/1.txt", "b/2.png", "b/c/3.txt", "d_", "d_1", "e.txt"]
    for name in names:
        bucket.blob(name).upload_from_string(name)

    def listed(**options: Any) -> tuple[list[str], set[str]]:
        pages = bucket.list_blobs(**options)
        return [blob.name for blob in pages], pages.prefixes

    assert listed() == (names, set())
    assert listed(page_size=2) == (names, set())
    assert listed(max_results=3)[0] == names[:3]
    assert listed(delimiter="/") == (["a.txt", "d_", "d_1", "e.txt"], {"b/"})
    assert listed(prefix="b/", delimiter="/") == (["b/1.txt", "b/2.png"], {"b/c/"})
    assert listed(match_glob="*.txt") == (["a.txt", "e.txt"], set())
    assert listed(match_glob="**.txt") == (["a.txt", "b/1.txt", "b/c/3.txt", "e.txt"], set())
    assert listed(match_glob="b/{1,2}.[tp]*") == (["b/1.txt", "b/2.png"], set())
    assert listed(match_glob="b/*/?.txt")[0] == ["b/c/3.txt"]
    assert listed(match_glob="b/[!1].*", page_size=1)[0] == ["b/2.png"]
    assert listed(start_offset="b/2", end_offset="d_1")[0] == ["b/2.png", "b/c/3.txt", "d_"]
    assert listed(delimiter="_", prefix="d") == ([], {"d_"})
    assert listed(delimiter="_", prefix="d", include_trailing_delimiter=True) == (["d_"], {"d_"})
    partial = list(bucket.list_blobs(fields="items(name,size),nextPageToken", page_size=3))
    assert [blob.name for blob in partial] == names
    assert set(partial[0]._properties) == {"name", "size"}
    with pytest.raises(exceptions.BadRequest, match="field selection"):
        list(bucket.list_blobs(fields="items(name"))
    with pytest.raises(exceptions.BadRequest, match="glob"):
        list(bucket.list_blobs(match_glob="a{b"))


def test_a_file_of_a_job_is_an_object(bucket: storage.Bucket, local_cloud: LocalCloud) -> None:
    folder = local_cloud.home / "buckets" / bucket.name / "train"
    folder.mkdir()
    (folder / "checkpoint").write_bytes(b"model-1")
    blob = bucket.get_blob("train/checkpoint")
    first = blob.generation
    assert blob.download_as_bytes() == b"model-1" and blob.crc32c and blob.md5_hash
    (folder / "checkpoint").write_bytes(b"model-2, longer")
    blob = bucket.get_blob("train/checkpoint")
    assert blob.download_as_bytes() == b"model-2, longer" and blob.generation > first
    blob.delete()
    assert not folder.exists()


def test_metadata_and_preconditions(bucket: storage.Bucket) -> None:
    blob = bucket.blob("x")
    blob.upload_from_string("one", if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        blob.upload_from_string("two", if_generation_match=0)
    blob.metadata, blob.cache_control = {"k": "v"}, "no-store"
    blob.patch()
    found = bucket.get_blob("x")
    assert (found.metadata, found.cache_control, found.metageneration) == ({"k": "v"}, "no-store", 2)
    found.reload(if_etag_match=found.etag)
    with pytest.raises(exceptions.NotModified):
        found.reload(if_etag_not_match=found.etag)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.get_blob("x", if_etag_match="other")
    found.metadata = {"k": None}
    found.patch(if_metageneration_match=2)
    assert not bucket.get_blob("x").metadata
    with pytest.raises(exceptions.PreconditionFailed):
        found.delete(if_generation_match=found.generation - 1)
    with pytest.raises(exceptions.NotFound):
        bucket.blob("x", generation=found.generation - 1).download_as_bytes()
    found.delete(if_generation_match=found.generation)
    assert not found.exists() and bucket.get_blob("x") is None


def test_copies(bucket: storage.Bucket, client: storage.Client) -> None:
    other = client.create_bucket("gcs-copies-target")
    blob = bucket.blob("a")
    blob.metadata = {"k": "v"}
    blob.upload_from_string("one", content_type="x/y")
    copied = bucket.copy_blob(blob, other, "deep/copy")
    assert (copied.content_type, copied.metadata, copied.md5_hash) == ("x/y", {"k": "v"}, blob.md5_hash)
    token, rewritten, total = other.blob("rewritten").rewrite(blob)
    assert (token, rewritten, total) == (None, 3, 3)
    blob.update_storage_class("NEARLINE")
    assert bucket.get_blob("a").storage_class == "NEARLINE"
    renamed = bucket.rename_blob(bucket.get_blob("a"), "b")
    moved = bucket.move_blob(renamed, "c")
    assert moved.download_as_bytes() == b"one" and [each.name for each in bucket.list_blobs()] == ["c"]
    bucket.blob("d").upload_from_string("two")
    joined = bucket.blob("joined")
    joined.content_type = "text/plain"
    joined.compose([moved, bucket.blob("d")])
    assert joined.download_as_bytes() == b"onetwo"
    with pytest.raises(exceptions.PreconditionFailed):
        joined.compose([moved], if_generation_match=0)
    with pytest.raises(exceptions.NotFound):
        bucket.copy_blob(bucket.blob("absent"), other)


def test_batches(bucket: storage.Bucket, client: storage.Client) -> None:
    blobs = [bucket.blob(f"f/{number}") for number in range(5)]
    for blob in blobs:
        blob.upload_from_string("x")
    with client.batch():
        for blob in blobs[:3]:
            blob.metadata = {"in": "batch"}
            blob.patch()
    assert bucket.get_blob("f/2").metadata == {"in": "batch"}
    with client.batch():
        for blob in blobs[:4]:
            blob.delete()
    assert [blob.name for blob in bucket.list_blobs()] == ["f/4"]
    with pytest.raises(exceptions.NotFound), client.batch():
        blobs[4].delete()
        bucket.blob("absent").delete()
    assert list(bucket.list_blobs()) == []
    bucket.blob("last").upload_from_string("x")
    bucket.delete(force=True)
    assert not bucket.exists()


def test_what_is_retained_stays(client: storage.Client) -> None:
    bucket = client.bucket("gcs-retained")
    client.create_bucket(bucket, enable_object_retention=True)
    bucket.retention_period = 3600
    bucket.patch()
    blob = bucket.blob("x")
    blob.upload_from_string("x")
    assert blob.retention_expiration_time
    for refused in (blob.delete, lambda: blob.upload_from_string("y"), lambda: bucket.rename_blob(blob, "z")):
        with pytest.raises(exceptions.Forbidden, match="retention"):
            refused()
    bucket.retention_period = 2
    bucket.patch()
    until = time.monotonic() + 120
    while True:
        try:
            blob.delete()
            break
        except exceptions.Forbidden:
            assert time.monotonic() < until
            time.sleep(0.2)
    bucket.lock_retention_policy()
    assert bucket.retention_policy_locked
    bucket.retention_period = 1
    with pytest.raises(exceptions.Forbidden, match="locked"):
        bucket.patch()
    held = bucket.blob("held")
    held.upload_from_string("x")
    held.temporary_hold = True
    held.patch()
    with pytest.raises(exceptions.Forbidden, match="hold"):
        held.upload_from_string("y")
    own = bucket.blob("own")
    own.upload_from_string("x")
    own.retention.mode = "Unlocked"
    own.retention.retain_until_time = datetime.now(timezone.utc) + timedelta(days=1)
    own.patch()
    own.retention.mode = own.retention.retain_until_time = None
    with pytest.raises(exceptions.Forbidden):
        own.patch()
    own.patch(override_unlocked_retention=True)


def test_many_files_at_once(bucket: storage.Bucket, tmp_path: Path) -> None:
    names = [f"shard-{number}" for number in range(12)]
    for name in names:
        (tmp_path / name).write_bytes(os.urandom(1000))
    results = transfer_manager.upload_many_from_filenames(
        bucket, names, source_directory=str(tmp_path), worker_type=transfer_manager.THREAD, max_workers=4
    )
    assert results == [None] * len(names)
    content = os.urandom(2**20)
    bucket.blob("big").upload_from_string(content)
    transfer_manager.download_chunks_concurrently(
        bucket.blob("big"), tmp_path / "big", chunk_size=2**18, worker_type=transfer_manager.THREAD, max_workers=4
    )
    assert (tmp_path / "big").read_bytes() == content
    target = io.BytesIO()
    bucket.client.download_blob_to_file(f"gs://{bucket.name}/shard-3", target)
    assert target.getvalue() == (tmp_path / "shard-3").read_bytes()


def test_what_is_not_offered_says_so(bucket: storage.Bucket) -> None:
    bucket.blob("x").upload_from_string("x")
    with pytest.raises(exceptions.MethodNotImplemented, match=r"storage\.objectAccessControls\.list"):
        bucket.blob("x").acl.reload()
    with pytest.raises(exceptions.MethodNotImplemented, match=r"storage\.notifications\.insert"):
        bucket.notification(topic_name="t").create()
    with pytest.raises(exceptions.BadRequest, match="objects are files"):
        bucket.blob("x/below").upload_from_string("x")
    with pytest.raises(exceptions.BadRequest, match="objects are files"):
        bucket.copy_blob(bucket.blob("x"), bucket, "folder/")


def test_generations(bucket: storage.Bucket) -> None:
    bucket.versioning_enabled = True
    bucket.patch()
    for content in ("one", "two", "three"):
        bucket.blob("train/checkpoint").upload_from_string(content)
    bucket.delete_blob("train/checkpoint")
    every = list(bucket.client.list_blobs(bucket, versions=True, page_size=2))
    assert [each.name for each in every] == ["train/checkpoint"] * 3 and all(each.time_deleted for each in every)
    assert list(bucket.client.list_blobs(bucket)) == []
    oldest = bucket.blob("train/checkpoint", generation=every[0].generation)
    assert oldest.download_as_bytes() == b"one" and oldest.exists()
    found = bucket.get_blob("train/checkpoint", generation=every[1].generation)
    assert found is not None and found.time_deleted == every[1].time_deleted
    bucket.copy_blob(found, bucket, "train/checkpoint", source_generation=every[1].generation)
    assert bucket.blob("train/checkpoint").download_as_bytes() == b"two"
    bucket.blob("train/checkpoint", generation=every[2].generation).delete()
    with pytest.raises(exceptions.NotFound):
        bucket.blob("train/checkpoint", generation=every[2].generation).reload()
    bucket.delete_blobs(list(bucket.list_blobs()))  # the current one becomes noncurrent
    with pytest.raises(exceptions.Conflict, match="not empty"):
        bucket.delete()
    bucket.delete_blobs(list(bucket.list_blobs(versions=True)), preserve_generation=True)
    bucket.delete()
