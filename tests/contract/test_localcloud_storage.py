"""Cloud Storage on the local cloud, as its clients use it."""

from __future__ import annotations

import base64
import concurrent.futures
import gzip
import hashlib
import os
import time
from typing import TYPE_CHECKING, Any

import google_crc32c
import pytest
from conftest import error_message
from discovery_check import check_response

if TYPE_CHECKING:
    from conftest import LocalCloud

PROJECT = "odcloud-local"


def md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()


def crc32c(content: bytes) -> str:
    return base64.b64encode(google_crc32c.Checksum(content).digest()).decode()


# -- buckets


def test_bucket_keeps_every_setting(local_cloud: LocalCloud) -> None:
    settings = {
        "name": "settings-bucket",
        "location": "us-central1",
        "labels": {"a": "b"},
        "iamConfiguration": {"publicAccessPrevention": "enforced", "uniformBucketLevelAccess": {"enabled": True}},
        "lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 1, "matchesPrefix": ["staging/"]}}]},
        "versioning": {"enabled": False},
        "softDeletePolicy": {"retentionDurationSeconds": "0"},
        "cors": [{"origin": ["*"], "method": ["GET"], "maxAgeSeconds": 5}],
    }
    created = local_cloud.call("storage.buckets.insert", settings, project=PROJECT)
    found = local_cloud.call("storage.buckets.get", bucket="settings-bucket")
    assert created == found
    for key in ("labels", "lifecycle", "versioning", "softDeletePolicy", "cors"):
        assert found[key] == settings[key]
    assert found["location"] == "US-CENTRAL1" and found["locationType"] == "region"
    assert found["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    assert found["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"] is True
    assert found["projectNumber"] == "100000000001" and found["metageneration"] == "1"
    local_cloud.call("storage.buckets.delete", bucket="settings-bucket")
    assert "does not exist" in local_cloud.refusal(404, "storage.buckets.get", bucket="settings-bucket")


def test_bucket_patch_merges_and_null_removes(local_cloud: LocalCloud, bucket: str) -> None:
    local_cloud.call("storage.buckets.patch", {"labels": {"a": "1", "b": "2"}}, bucket=bucket)
    answer = local_cloud.request("PATCH", f"/storage/v1/b/{bucket}", json={"labels": {"a": None, "c": "3"}})
    assert answer.json()["labels"] == {"b": "2", "c": "3"}
    assert answer.json()["metageneration"] == "3"
    answer = local_cloud.request("PATCH", f"/storage/v1/b/{bucket}", json={"labels": None})
    assert "labels" not in answer.json()
    local_cloud.refusal(412, "storage.buckets.patch", {"labels": {"z": "1"}}, bucket=bucket, ifMetagenerationMatch="1")
    updated = local_cloud.call("storage.buckets.update", {"labels": {"only": "this"}}, bucket=bucket)
    assert updated["labels"] == {"only": "this"} and updated["location"] == "US"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"labels": {"Big": "x"}}, "Label key 'Big'"),
        ({"labels": {"aB": "x"}}, "Label key 'aB'"),
        ({"labels": {"1a": "x"}}, "Label key '1a'"),
        ({"labels": {"a" * 64: "x"}}, "Label key 'aaa"),
        ({"labels": {"a": "X"}}, "Label value 'X' of 'a'"),
        ({"softDeletePolicy": {"retentionDurationSeconds": "3600"}}, "but is 3600"),
        ({"softDeletePolicy": {"retentionDurationSeconds": "7776001"}}, "but is 7776001"),
        ({"lifecycle": {"rule": [{"action": {"type": "Shrink"}, "condition": {"age": 1}}]}}, "'Shrink'"),
        ({"lifecycle": {"rule": [{"condition": {"age": 1}}]}}, "None"),
        ({"lifecycle": {"rule": [{"action": {"type": "SetStorageClass"}, "condition": {"age": 1}}]}}, "storage class"),
        (
            {"lifecycle": {"rule": [{"action": {"type": "SetStorageClass", "storageClass": "ICE"}, "condition": {"age": 1}}]}},
            "storage class: ICE",
        ),
        ({"lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": -1}}]}}, "negative, but is -1"),
        (
            {"lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"numNewerVersions": -2}}]}},
            "negative, but is -2",
        ),
    ],
)
def test_settings_that_no_bucket_can_have(local_cloud: LocalCloud, bucket: str, settings: dict[str, Any], said: str) -> None:
    absent = {"name": "not-made", **settings}
    assert said in local_cloud.refusal(400, "storage.buckets.insert", absent, project=PROJECT)
    for verb in ("patch", "update"):
        assert said in local_cloud.refusal(400, f"storage.buckets.{verb}", settings, bucket=bucket)
    local_cloud.refusal(404, "storage.buckets.get", bucket="not-made")
    assert local_cloud.call("storage.buckets.get", bucket=bucket)["metageneration"] == "1"


def test_settings_that_a_bucket_can_have(local_cloud: LocalCloud, bucket: str) -> None:
    cold = {"type": "SetStorageClass", "storageClass": "COLDLINE"}
    settings = {
        "labels": {"a" * 63: "", "größe": "1-a_b", "b": "x" * 63},
        "softDeletePolicy": {"retentionDurationSeconds": "7776000"},
        "lifecycle": {
            "rule": [
                {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 0}},
                {"action": cold, "condition": {"daysSinceNoncurrentTime": 0}},
            ]
        },
    }
    found = local_cloud.call("storage.buckets.patch", settings, bucket=bucket)
    assert (found["labels"], found["lifecycle"]) == (settings["labels"], settings["lifecycle"])
    local_cloud.call("storage.buckets.patch", {"labels": {"b": "y"}}, bucket=bucket)


def test_bucket_names_and_duplicates(local_cloud: LocalCloud, bucket: str) -> None:
    assert "already own it" in local_cloud.refusal(409, "storage.buckets.insert", {"name": bucket}, project=PROJECT)
    for name in ("ab", "Upper", "a_b-", "..", "goog-x", "a/b"):
        message = local_cloud.refusal(400, "storage.buckets.insert", {"name": name}, project=PROJECT)
        assert f"Invalid bucket name: '{name}'" in message
    assert "other-project" in local_cloud.refusal(403, "storage.buckets.insert", {"name": "fine"}, project="other-project")


def test_where_a_bucket_can_be(local_cloud: LocalCloud) -> None:
    for location, kind in (("europe-west10", "region"), ("eu", "multi-region"), ("nam4", "dual-region")):
        body = {"name": f"in-{location}", "location": location}
        made = local_cloud.call("storage.buckets.insert", body, project=PROJECT)
        assert (made["location"], made["locationType"]) == (location.upper(), kind)
    body = {"name": "nowhere", "location": "us-centrall1"}
    assert "US-CENTRALL1" in local_cloud.refusal(400, "storage.buckets.insert", body, project=PROJECT)


def test_objects_have_the_class_of_their_bucket(local_cloud: LocalCloud, bucket: str) -> None:
    body = {"name": "cold-bucket", "storageClass": "nearline"}
    assert local_cloud.call("storage.buckets.insert", body, project=PROJECT)["storageClass"] == "NEARLINE"
    assert local_cloud.upload("cold-bucket", "sent", b"x")["storageClass"] == "NEARLINE"
    (local_cloud.home / "buckets" / "cold-bucket" / "written").write_bytes(b"x")
    assert local_cloud.call("storage.objects.get", bucket="cold-bucket", object="written")["storageClass"] == "NEARLINE"
    there = {"destinationBucket": bucket, "destinationObject": "sent"}
    copied = local_cloud.call("storage.objects.copy", {}, sourceBucket="cold-bucket", sourceObject="sent", **there)
    assert copied["storageClass"] == "STANDARD"
    # what is there keeps its class when the bucket's own changes
    local_cloud.call("storage.buckets.patch", {"storageClass": "COLDLINE"}, bucket="cold-bucket")
    assert local_cloud.call("storage.objects.get", bucket="cold-bucket", object="sent")["storageClass"] == "NEARLINE"
    assert "FROZEN" in local_cloud.refusal(400, "storage.buckets.patch", {"storageClass": "FROZEN"}, bucket="cold-bucket")


def test_a_bucket_with_uniform_access_takes_no_lists_of_readers(local_cloud: LocalCloud, bucket: str) -> None:
    local_cloud.upload(bucket, "a", b"x", predefinedAcl="private")  # kept for nobody, and taken
    uniform = {"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}}}
    local_cloud.call("storage.buckets.patch", uniform, bucket=bucket)
    for kind in ("media", "resumable"):
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType={kind}&name=b&predefinedAcl=private"
        assert "legacy ACL" in error_message(local_cloud.request("POST", path), 400)
    there = {"destinationBucket": bucket, "destinationObject": "b", "destinationPredefinedAcl": "private"}
    refused = local_cloud.refusal(400, "storage.objects.copy", {}, sourceBucket=bucket, sourceObject="a", **there)
    assert "legacy ACL" in refused


def test_what_is_not_offered_is_not_left_out_silently(local_cloud: LocalCloud, bucket: str) -> None:
    folders = {"name": "with-folders", "hierarchicalNamespace": {"enabled": True}}
    assert "hierarchicalNamespace" in local_cloud.refusal(501, "storage.buckets.insert", folders, project=PROJECT)
    message = local_cloud.refusal(501, "storage.objects.list", bucket=bucket, filter='contexts."a":*')
    assert message.startswith("storage.objects.list with filter is not offered")
    for method_id, params in (
        ("storage.objects.list", {"bucket": bucket}),
        ("storage.objects.get", {"bucket": bucket, "object": "x", "generation": "1"}),
        ("storage.buckets.list", {"project": PROJECT}),
        ("storage.buckets.get", {"bucket": bucket, "generation": "1"}),
    ):
        message = local_cloud.refusal(501, method_id, **params, softDeleted=True)
        assert message.startswith(f"{method_id} with softDeleted is not offered")


def test_bucket_with_objects_is_not_deleted(local_cloud: LocalCloud, bucket: str) -> None:
    local_cloud.upload(bucket, "a/b", b"x")
    assert "not empty" in local_cloud.refusal(409, "storage.buckets.delete", bucket=bucket)
    local_cloud.call("storage.objects.delete", bucket=bucket, object="a/b")
    folder = local_cloud.home / "buckets" / bucket / "empty" / "folder"
    folder.mkdir(parents=True)
    (folder / "a-link-of-a-job").symlink_to(local_cloud.home)
    local_cloud.upload(bucket, "empty", b"x")  # takes the folder's place
    local_cloud.call("storage.objects.delete", bucket=bucket, object="empty")
    (local_cloud.home / "buckets" / bucket / "link").symlink_to("nowhere")
    local_cloud.call("storage.buckets.delete", bucket=bucket)
    assert not (local_cloud.home / "buckets" / bucket).exists()


def test_buckets_are_listed_in_pages(local_cloud: LocalCloud) -> None:
    names = [f"paged-{letter}" for letter in "abc"]
    for name in names:
        local_cloud.call("storage.buckets.insert", {"name": name}, project=PROJECT)
    first = local_cloud.call("storage.buckets.list", project=PROJECT, prefix="paged-", maxResults=2)
    second = local_cloud.call("storage.buckets.list", project=PROJECT, prefix="paged-", pageToken=first["nextPageToken"])
    assert [item["name"] for item in first["items"] + second["items"]] == names
    assert "nextPageToken" not in second


def test_bucket_policy_is_read_modify_write(local_cloud: LocalCloud, bucket: str) -> None:
    policy = local_cloud.call("storage.buckets.getIamPolicy", bucket=bucket, optionsRequestedPolicyVersion=3)
    change = {"bindings": [{"role": "roles/storage.objectViewer", "members": ["user:a@example.org"]}], "etag": policy["etag"]}
    changed = local_cloud.call("storage.buckets.setIamPolicy", change, bucket=bucket)
    assert changed["bindings"] == change["bindings"] and changed["etag"] != policy["etag"]
    assert "concurrent policy changes" in local_cloud.refusal(409, "storage.buckets.setIamPolicy", change, bucket=bucket)
    assert local_cloud.call("storage.buckets.getIamPolicy", bucket=bucket) == changed
    permissions = ["storage.objects.get", "storage.objects.list"]
    tested = local_cloud.call("storage.buckets.testIamPermissions", bucket=bucket, permissions=permissions)
    assert tested["permissions"] == permissions
    missing = {"bindings": [{"role": "roles/viewer", "members": [f"serviceAccount:none@{PROJECT}.iam.gserviceaccount.com"]}]}
    assert "does not exist" in local_cloud.refusal(400, "storage.buckets.setIamPolicy", missing, bucket=bucket)


def test_what_clients_ask_of_a_bucket_besides(local_cloud: LocalCloud, bucket: str) -> None:
    assert local_cloud.call("storage.anywhereCaches.list", bucket=bucket)["items"] == []
    assert local_cloud.request("GET", f"/storage/v1/b/{bucket}/anywhereCaches/").ok
    assert local_cloud.call("storage.buckets.getStorageLayout", bucket=bucket)["hierarchicalNamespace"] == {"enabled": False}
    for kind in ("managedFolders", "folders", "notifications"):
        assert local_cloud.call(f"storage.{kind}.list", bucket=bucket)["items"] == []
    assert "@" in local_cloud.call("storage.projects.serviceAccount.get", projectId=PROJECT)["email_address"]


# -- uploads


def unfinished(local_cloud: LocalCloud) -> set[str]:
    """Uploads under way; other tests may have left some of their own."""
    return {path.name for path in (local_cloud.home / "uploads").iterdir()}


def test_simple_upload_is_a_file_and_its_checksums_are_right(local_cloud: LocalCloud, bucket: str) -> None:
    before = unfinished(local_cloud)
    content = os.urandom(3_000_001)
    stored = local_cloud.upload(bucket, "train/a b+ü%.bin", content)
    assert (local_cloud.home / "buckets" / bucket / "train" / "a b+ü%.bin").read_bytes() == content
    assert (stored["size"], stored["md5Hash"], stored["crc32c"]) == (str(len(content)), md5(content), crc32c(content))
    assert local_cloud.call("storage.objects.get", bucket=bucket, object="train/a b+ü%.bin") == stored
    assert local_cloud.download(bucket, "train/a b+ü%.bin").content == content
    assert unfinished(local_cloud) == before


@pytest.mark.parametrize(
    ("boundary", "quote", "line"),
    [("simple", "", b"\r\n"), ("==with==equals==", '"', b"\r\n"), ("==gcloud's==", "'", b"\n")],
    ids=["plain", "quoted", "gcloud"],
)
def test_multipart_upload(local_cloud: LocalCloud, bucket: str, boundary: str, quote: str, line: bytes) -> None:
    content = b"\r\n--simpl\r\n--=="[:9] + os.urandom(200_000) + b"\r\n"
    mark = b"--" + boundary.encode()
    body = line.join(
        [
            mark,
            b"Content-Type: application/json; charset=UTF-8",
            b"",
            b'{"name": "m/x", "metadata": {"k": "v"}, "cacheControl": "no-store"}',
            mark,
            b"Content-Type: text/plain",
            b"",
            content,
            mark + b"--",
            b"",
        ]
    )
    pieces = (
        body[start : start + 777] for start in range(0, len(body), 777)
    )  # chunked transfer encoding, as Pulumi's provider
    answer = local_cloud.request(
        "POST",
        f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart&alt=json",
        data=pieces,
        headers={"Content-Type": f"multipart/related; boundary={quote}{boundary}{quote}"},
    )
    assert answer.ok, answer.text
    check_response("storage", "v1", "storage.objects.insert", answer.json())
    stored = answer.json()
    assert stored["md5Hash"] == md5(content)
    assert (stored["contentType"], stored["metadata"], stored["cacheControl"]) == ("text/plain", {"k": "v"}, "no-store")
    download = local_cloud.download(bucket, "m/x")
    assert download.content == content and download.headers["content-type"].startswith("text/plain")
    assert download.headers["cache-control"] == "no-store"


def test_malformed_multipart_leaves_nothing(local_cloud: LocalCloud, bucket: str) -> None:
    before = unfinished(local_cloud)
    path = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart"
    for content_type, body in (
        ("application/json", b"{}"),
        ("multipart/related; boundary=x", b"--x\r\n\r\n{}\r\n"),
        ("multipart/related; boundary=x", b'--x\r\n\r\n{"name": "a"}\r\n--x\r\n\r\nno end'),
        ("multipart/related; boundary=x", b"--x\r\n\r\nnot json\r\n--x\r\n\r\n\r\n--x--"),
    ):
        answer = local_cloud.request("POST", path, data=body, headers={"Content-Type": content_type})
        assert "Malformed multipart body" in error_message(answer, 400)
    assert "items" not in local_cloud.call("storage.objects.list", bucket=bucket)
    assert unfinished(local_cloud) == before


def test_wrong_checksums_are_refused(local_cloud: LocalCloud, bucket: str) -> None:
    path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name=a"
    answer = local_cloud.request("POST", path, data=b"abc", headers={"X-Goog-Hash": f"crc32c={crc32c(b'abd')}"})
    assert "doesn't match" in error_message(answer, 400)
    assert not (local_cloud.home / "buckets" / bucket / "a").exists()
    assert local_cloud.request("POST", path, data=b"abc", headers={"X-Goog-Hash": f"crc32c={crc32c(b'abc')}"}).ok


def test_resumable_upload_in_chunks(local_cloud: LocalCloud, bucket: str) -> None:
    content = os.urandom(1_000_000)
    begun = local_cloud.request(
        "POST",
        f"/upload/storage/v1/b/{bucket}/o?uploadType=resumable",
        json={"name": "big", "metadata": {"a": "b"}},
        headers={"X-Upload-Content-Type": "image/png", "X-Upload-Content-Length": "1000000"},
    )
    assert begun.status_code == 200
    session = begun.headers["location"].removeprefix(local_cloud.url)

    def put(body: bytes, content_range: str) -> Any:
        return local_cloud.request("PUT", session, data=body, headers={"Content-Range": content_range})

    assert put(b"", "bytes */1000000").status_code == 308 and "range" not in put(b"", "bytes */1000000").headers
    assert put(content[:262144], "bytes 0-262143/*").headers["range"] == "bytes=0-262143"
    # a chunk that begins too late is not taken, one that overlaps is
    assert put(content[500000:600000], "bytes 500000-599999/1000000").headers["range"] == "bytes=0-262143"
    assert put(content[200000:600000], "bytes 200000-599999/1000000").headers["range"] == "bytes=0-599999"
    assert put(b"", "bytes */1000000").headers["range"] == "bytes=0-599999"
    assert not (local_cloud.home / "buckets" / bucket / "big").exists()
    done = put(content[600000:], "bytes 600000-999999/1000000")
    check_response("storage", "v1", "storage.objects.insert", done.json())
    assert done.json()["md5Hash"] == md5(content) and done.json()["contentType"] == "image/png"
    assert put(b"", "bytes */1000000").json() == done.json()  # a client that missed the answer asks again
    assert local_cloud.download(bucket, "big").content == content


def test_a_chunk_that_is_not_what_its_range_says_is_refused(local_cloud: LocalCloud, bucket: str) -> None:
    begun = local_cloud.request("POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=resumable&name=x")
    session = begun.headers["location"].removeprefix(local_cloud.url)
    for content_range, content in (("0-9/10", b"five5"), ("0-2/10", b"five5"), ("5-2/10", b""), ("0-9/5", b"0123456789")):
        answer = local_cloud.request("PUT", session, data=content, headers={"Content-Range": f"bytes {content_range}"})
        assert content_range in error_message(answer, 400)
    state = local_cloud.request("PUT", session, headers={"Content-Range": "bytes */*"})
    assert state.status_code == 308 and "range" not in state.headers  # the upload goes on as if they had not been sent


def test_resumable_upload_in_one_request_and_cancel(local_cloud: LocalCloud, bucket: str) -> None:
    path = f"/upload/storage/v1/b/{bucket}/o?uploadType=resumable&name=one"
    session = local_cloud.request("POST", path).headers["location"].removeprefix(local_cloud.url)
    assert local_cloud.request("PUT", session, data=b"whole").json()["size"] == "5"
    session = local_cloud.request("POST", path).headers["location"].removeprefix(local_cloud.url)
    assert local_cloud.request("DELETE", session).status_code == 499
    assert local_cloud.request("PUT", session, data=b"late").status_code == 404
    assert local_cloud.download(bucket, "one").content == b"whole"


# -- preconditions


def test_exactly_one_of_many_writers_creates(local_cloud: LocalCloud, bucket: str) -> None:
    def write(number: int) -> int:
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name=record.json&ifGenerationMatch=0"
        return local_cloud.request("POST", path, data=str(number).encode() * 5000).status_code

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        codes = sorted(pool.map(write, range(16)))
    assert codes == [200] + [412] * 15
    content = local_cloud.download(bucket, "record.json").text
    assert content == content[: len(content) // 5000] * 5000  # one writer's, whole


def test_preconditions(local_cloud: LocalCloud, bucket: str) -> None:
    first = local_cloud.upload(bucket, "a", b"1", ifGenerationMatch="0")
    path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name=a"
    error_message(local_cloud.request("POST", f"{path}&ifGenerationMatch=0", data=b"2"), 412)
    error_message(local_cloud.request("POST", f"{path}&ifGenerationMatch=7", data=b"2"), 412)
    second = local_cloud.upload(bucket, "a", b"2", ifGenerationMatch=first["generation"])
    assert int(second["generation"]) > int(first["generation"])
    get = {"bucket": bucket, "object": "a"}
    assert local_cloud.answer("storage.objects.get", **get, ifGenerationNotMatch=second["generation"]).status_code == 304
    local_cloud.refusal(412, "storage.objects.get", **get, ifMetagenerationMatch="5")
    local_cloud.refusal(404, "storage.objects.get", **get, generation=first["generation"])
    local_cloud.refusal(412, "storage.objects.delete", **get, ifGenerationMatch=first["generation"])
    local_cloud.call("storage.objects.delete", **get, ifGenerationMatch=second["generation"])
    assert f"No such object: {bucket}/a" in local_cloud.refusal(404, "storage.objects.delete", **get)


def test_etags(local_cloud: LocalCloud, bucket: str) -> None:
    local_cloud.upload(bucket, "a", b"1")
    for path in (f"/storage/v1/b/{bucket}", f"/storage/v1/b/{bucket}/o/a", f"/storage/v1/b/{bucket}/o/a?alt=media"):
        etag = local_cloud.request("GET", path.partition("?")[0]).json()["etag"]
        for headers, code in (
            ({"If-None-Match": etag}, 304),
            ({"If-None-Match": f'"other", "{etag}"'}, 304),
            ({"If-None-Match": "other"}, 200),
            ({"If-Match": etag}, 200),
            ({"If-Match": "other"}, 412),
        ):
            assert local_cloud.request("GET", path, headers=headers).status_code == code, (path, headers)
    assert local_cloud.answer("storage.buckets.get", bucket=bucket, ifMetagenerationNotMatch="1").status_code == 304
    local_cloud.refusal(412, "storage.buckets.get", bucket=bucket, ifMetagenerationMatch="2")


# -- reading, listing, changing


def test_ranges(local_cloud: LocalCloud, bucket: str) -> None:
    local_cloud.upload(bucket, "r", b"0123456789")
    for header, content, answered in (
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
    ):
        answer = local_cloud.download(bucket, "r", Range=header)
        assert (answer.status_code, answer.content, answer.headers["content-range"]) == (206, content, answered)
    beyond = local_cloud.download(bucket, "r", Range="bytes=10-")
    assert error_message(beyond, 416) and beyond.headers["content-range"] == "bytes */10"
    answer = local_cloud.request("GET", f"/download/storage/v1/b/{bucket}/o/r?alt=media")
    assert answer.content == b"0123456789" and f"md5={md5(b'0123456789')}" in answer.headers["x-goog-hash"]


def test_a_file_that_a_job_writes_is_an_object(local_cloud: LocalCloud, bucket: str) -> None:
    folder = local_cloud.home / "buckets" / bucket / "train" / "run"
    folder.mkdir(parents=True)
    (folder / "checkpoint").write_bytes(b"one")
    found = local_cloud.call("storage.objects.get", bucket=bucket, object="train/run/checkpoint")
    assert (found["size"], found["md5Hash"], found["crc32c"]) == ("3", md5(b"one"), crc32c(b"one"))
    assert local_cloud.call("storage.objects.list", bucket=bucket)["items"] == [found]
    error_message(
        local_cloud.request(
            "POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name=train/run/checkpoint&ifGenerationMatch=0", data=b""
        ),
        412,
    )
    time.sleep(0.01)
    (folder / "checkpoint").write_bytes(b"two")
    changed = local_cloud.call("storage.objects.get", bucket=bucket, object="train/run/checkpoint")
    assert changed["md5Hash"] == md5(b"two") and int(changed["generation"]) > int(found["generation"])
    assert local_cloud.download(bucket, "train/run/checkpoint").content == b"two"
    patched = local_cloud.call("storage.objects.patch", {"metadata": {"k": "v"}}, bucket=bucket, object="train/run/checkpoint")
    assert patched["metadata"] == {"k": "v"} and patched["generation"] == changed["generation"]
    local_cloud.call("storage.objects.delete", bucket=bucket, object="train/run/checkpoint")
    assert list((local_cloud.home / "buckets" / bucket).iterdir()) == []


def test_listing(local_cloud: LocalCloud, bucket: str) -> None:
    names = ["a", "b.txt", "b/1", "b/2", "b/c/3", "b0", "z/y/x"]
    for name in reversed(names):
        local_cloud.upload(bucket, name, name.encode())

    def listed(**params: Any) -> tuple[list[str], list[str]]:
        page = local_cloud.call("storage.objects.list", bucket=bucket, **params)
        return [item["name"] for item in page.get("items", [])], page.get("prefixes", [])

    assert listed(versions=True) == (names, [])
    assert listed(delimiter="/") == (["a", "b.txt", "b0"], ["b/", "z/"])
    assert listed(delimiter="/", prefix="b/") == (["b/1", "b/2"], ["b/c/"])
    assert listed(prefix="b") == (["b.txt", "b/1", "b/2", "b/c/3", "b0"], [])
    assert listed(prefix="z/y") == (["z/y/x"], [])
    assert listed(prefix="z/y", delimiter="/") == ([], ["z/y/"])
    assert listed(prefix="../") == ([], [])
    assert listed(startOffset="b/2", endOffset="b0") == (["b/2", "b/c/3"], [])
    assert listed(prefix="nothing/here") == ([], [])
    for delimiter in ("", "/"):
        entries: list[str] = []
        token: dict[str, str] = {}
        while True:
            page = local_cloud.call("storage.objects.list", bucket=bucket, delimiter=delimiter, maxResults=2, **token)
            entries += [item["name"] for item in page.get("items", [])] + page.get("prefixes", [])
            if "nextPageToken" not in page:
                break
            token = {"pageToken": page["nextPageToken"]}
        assert sorted(entries) == (names if not delimiter else ["a", "b.txt", "b/", "b0", "z/"])


def test_metadata_copy_rewrite_compose(local_cloud: LocalCloud, bucket: str) -> None:
    local_cloud.upload(bucket, "a", b"one")
    local_cloud.upload(bucket, "b", b"two")
    updated = local_cloud.call(
        "storage.objects.update", {"contentType": "x/y", "metadata": {"k": "v"}}, bucket=bucket, object="a"
    )
    assert updated["metageneration"] == "2" and updated["contentType"] == "x/y"
    pair = {"sourceBucket": bucket, "sourceObject": "a", "destinationBucket": bucket}
    copied = local_cloud.call("storage.objects.copy", {}, **pair, destinationObject="c/copy")
    assert copied["metadata"] == {"k": "v"} and copied["md5Hash"] == md5(b"one")
    rewritten = local_cloud.call("storage.objects.rewrite", {}, **pair, destinationObject="d", ifGenerationMatch="0")
    assert rewritten["done"] and rewritten["resource"]["size"] == "3"
    local_cloud.refusal(412, "storage.objects.rewrite", {}, **pair, destinationObject="d", ifGenerationMatch="0")
    local_cloud.refusal(404, "storage.objects.copy", {}, **{**pair, "sourceObject": "none"}, destinationObject="e")
    composed = local_cloud.call(
        "storage.objects.compose",
        {"sourceObjects": [{"name": "a"}, {"name": "b"}], "destination": {"contentType": "t/t"}},
        destinationBucket=bucket,
        destinationObject="ab",
    )
    assert composed["crc32c"] == crc32c(b"onetwo") and local_cloud.download(bucket, "ab").content == b"onetwo"


def test_names_that_no_file_can_have_are_refused(local_cloud: LocalCloud, bucket: str) -> None:
    local_cloud.upload(bucket, "file", b"x")
    local_cloud.upload(bucket, "folder/file", b"x")
    bad = ["../x", "a/../b", "/abs", "a//b", "folder/", "a/.", "a\nb", "x" * 256, "a/" * 600 + "a", "file/below", "folder"]
    for name in bad:
        for kind in ("media", "resumable"):
            answer = local_cloud.request(
                "POST",
                f"/upload/storage/v1/b/{bucket}/o",
                params={"uploadType": kind, "name": name},
                data=b"" if kind == "media" else None,
            )
            message = error_message(answer, 400)
            assert name in message and "objects are files" in message
    listed = local_cloud.call("storage.objects.list", bucket=bucket)["items"]
    assert [item["name"] for item in listed] == ["file", "folder/file"]
    assert not (local_cloud.home / "x").exists() and not (local_cloud.home / "buckets" / "x").exists()
    local_cloud.refusal(404, "storage.objects.get", bucket=bucket, object="../x")


def test_absent_bucket(local_cloud: LocalCloud) -> None:
    answer = local_cloud.request("POST", "/upload/storage/v1/b/absent/o?uploadType=media&name=a", data=b"x")
    assert "bucket does not exist" in error_message(answer, 404)
    assert "bucket does not exist" in local_cloud.refusal(404, "storage.objects.list", bucket="absent")
    assert "bucket does not exist" in local_cloud.refusal(404, "storage.objects.get", bucket="absent", object="a")


def test_retention_of_an_object(local_cloud: LocalCloud) -> None:
    name = "object-retention"
    local_cloud.call("storage.buckets.insert", {"name": name}, project=PROJECT, enableObjectRetention=True)
    local_cloud.upload(name, "x", b"x")

    def retain(until: str | None, mode: str = "Unlocked") -> dict[str, Any]:
        return {"retention": {"mode": mode, "retainUntilTime": until}}

    local_cloud.refusal(400, "storage.objects.patch", retain("2999-99-01T00:00:00Z"), bucket=name, object="x")
    for until in ("2999-01-01T00:00:00.123456789Z", "2999-01-01T00:00:00.5+02:00", "2999-01-02t00:00:00z"):
        local_cloud.call("storage.objects.patch", retain(until), bucket=name, object="x", overrideUnlockedRetention=True)
        assert "retention" in local_cloud.refusal(403, "storage.objects.delete", bucket=name, object="x")
    local_cloud.call("storage.objects.patch", retain("2999-01-03T00:00:00Z", "Locked"), bucket=name, object="x")
    less = retain("2999-01-01T00:00:00Z", "Locked")
    local_cloud.refusal(403, "storage.objects.patch", less, bucket=name, object="x", overrideUnlockedRetention=True)
    local_cloud.call("storage.buckets.insert", {"name": f"{name}-off"}, project=PROJECT)
    local_cloud.upload(f"{name}-off", "x", b"x")
    message = local_cloud.refusal(
        400, "storage.objects.patch", retain("2999-01-01T00:00:00Z"), bucket=f"{name}-off", object="x"
    )
    assert "enableObjectRetention" in message


def test_globs_and_trailing_delimiters(local_cloud: LocalCloud, bucket: str) -> None:
    for name in ("a.txt", "b/c.txt", "b/d[1].txt", "e-", "e-f"):
        local_cloud.upload(bucket, name, b"x")

    def listed(**params: Any) -> tuple[list[str], list[str]]:
        names: list[str] = []
        prefixes: list[str] = []
        token: dict[str, str] = {}
        while True:
            page = local_cloud.call("storage.objects.list", bucket=bucket, maxResults=1, **params, **token)
            names += [item["name"] for item in page.get("items", [])]
            prefixes += page.get("prefixes", [])
            if "nextPageToken" not in page:
                return names, prefixes
            token = {"pageToken": page["nextPageToken"]}

    assert listed(matchGlob="*") == (["a.txt", "e-", "e-f"], [])
    assert listed(matchGlob="**/*.txt") == (["b/c.txt", "b/d[1].txt"], [])
    assert listed(matchGlob=r"b/d\[1\].txt") == (["b/d[1].txt"], [])
    assert listed(matchGlob="{a,b/c}.txt") == (["a.txt", "b/c.txt"], [])
    assert listed(matchGlob="[!a-d]*") == (["e-", "e-f"], [])
    assert listed(matchGlob="*", delimiter="/") == (["a.txt", "e-", "e-f"], ["b/"])
    assert listed(matchGlob="x*") == ([], [])
    assert listed(delimiter="-", includeTrailingDelimiter=True) == (["a.txt", "b/c.txt", "b/d[1].txt", "e-"], ["e-"])
    for glob in ("{a", "[z-a]"):
        assert "glob" in local_cloud.refusal(400, "storage.objects.list", bucket=bucket, matchGlob=glob)
    assert "delimiter" in local_cloud.refusal(400, "storage.objects.list", bucket=bucket, matchGlob="*", delimiter="-")


def test_gzip_goes_out_unpacked_to_who_cannot_unpack(local_cloud: LocalCloud, bucket: str) -> None:
    plain = b"loss 1.23\n" * 500_000
    packed = gzip.compress(plain)
    local_cloud.upload(bucket, "x", packed, contentEncoding="gzip")
    answer = local_cloud.download(bucket, "x", **{"Accept-Encoding": "identity", "Range": "bytes=0-9"})
    assert answer.status_code == 200 and answer.content == plain and "Content-Encoding" not in answer.headers
    raw = local_cloud.request(
        "GET", f"/storage/v1/b/{bucket}/o/x?alt=media", headers={"Accept-Encoding": "gzip", "Range": "bytes=0-9"}, stream=True
    ).raw
    assert raw.headers["Content-Encoding"] == "gzip" and raw.read(decode_content=False) == packed[:10]
    local_cloud.call("storage.objects.patch", {"cacheControl": "no-transform"}, bucket=bucket, object="x")
    untouched = local_cloud.request(
        "GET", f"/storage/v1/b/{bucket}/o/x?alt=media", headers={"Accept-Encoding": "identity"}, stream=True
    ).raw
    assert untouched.read(decode_content=False) == packed
