"""`gcloud storage …` as installed, with nothing but the environment that the local cloud gives."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from client_environment import client_environment

if TYPE_CHECKING:
    from conftest import LocalCloud

pytestmark = pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")


class Gcloud:
    """Runs `gcloud storage …` in a folder of its own."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment = {**environment, "CLOUDSDK_CONFIG": str(folder / "gcloud")}
        # the real threshold is 8 MiB
        self._environment["CLOUDSDK_STORAGE_RESUMABLE_THRESHOLD"] = "1Mi"
        self.folder = folder

    def __call__(self, *words: str, given: bytes | None = None, code: int = 0) -> str:
        done = subprocess.run(
            ["gcloud", "storage", *words], input=given or b"", cwd=self.folder, env=self._environment, capture_output=True
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return (done.stdout if code == 0 else done.stderr).decode()

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--format=json"))


@pytest.fixture(scope="module")
def gcloud(local_cloud: LocalCloud, tmp_path_factory: pytest.TempPathFactory) -> Gcloud:
    return Gcloud(client_environment(local_cloud), tmp_path_factory.mktemp("gcloud"))


def test_buckets(gcloud: Gcloud) -> None:
    options = [
        "--location=us-central1",
        "--uniform-bucket-level-access",
        "--soft-delete-duration=8d",
        "--public-access-prevention",
    ]
    gcloud("buckets", "create", "gs://cli-buckets", *options)
    (gcloud.folder / "lifecycle.json").write_text('{"rule": [{"action": {"type": "Delete"}, "condition": {"age": 30}}]}')
    gcloud(
        "buckets",
        "update",
        "gs://cli-buckets",
        "--update-labels=team=vision",
        "--versioning",
        "--lifecycle-file=lifecycle.json",
    )
    found = gcloud.json("buckets", "describe", "gs://cli-buckets")
    assert found["location"] == "US-CENTRAL1" and found["labels"] == {"team": "vision"} and found["versioning_enabled"]
    assert found["uniform_bucket_level_access"] and found["public_access_prevention"] == "enforced"
    assert found["soft_delete_policy"]["retentionDurationSeconds"] == str(8 * 86400)
    assert found["lifecycle_config"]["rule"][0]["condition"] == {"age": 30}
    assert "cli-buckets" in [bucket["name"] for bucket in gcloud.json("buckets", "list")]
    role = ["--member=user:a@example.org", "--role=roles/storage.objectViewer"]
    gcloud("buckets", "add-iam-policy-binding", "gs://cli-buckets", *role)
    assert gcloud.json("buckets", "get-iam-policy", "gs://cli-buckets")["bindings"][0]["members"] == ["user:a@example.org"]
    gcloud("buckets", "delete", "gs://cli-buckets")
    assert "not found: 404" in gcloud("buckets", "describe", "gs://cli-buckets", code=1)


def test_objects(gcloud: Gcloud, local_cloud: LocalCloud, bucket: str) -> None:
    at = f"gs://{bucket}"
    content = os.urandom(3 * 2**20 + 1)
    data = gcloud.folder / "data"
    (data / "deep").mkdir(parents=True)
    (data / "big.bin").write_bytes(content)  # a resumable upload
    (data / "a b+ü.txt").write_text("one")
    (data / "deep" / "two.txt").write_text("two")
    gcloud("cp", "-r", "data", at)
    assert gcloud("ls", "-r", f"{at}/**").split("\n")[:-1] == [
        f"{at}/data/{name}" for name in ("a b+ü.txt", "big.bin", "deep/two.txt")
    ]
    assert gcloud("ls", f"{at}/data/").split("\n")[:-1] == [f"{at}/data/{name}" for name in ("a b+ü.txt", "big.bin", "deep/")]
    gcloud("cp", "-", f"{at}/stdin.txt", given=b"from stdin")
    assert gcloud("cat", f"{at}/stdin.txt") == "from stdin"
    assert gcloud("cat", "-r", "5-9", f"{at}/stdin.txt") == "stdin"
    described = gcloud.json("objects", "describe", f"{at}/data/big.bin")
    assert described["size"] == len(content) and described["crc32c_hash"] and described["md5_hash"]
    gcloud("cp", f"{at}/data/big.bin", "down.bin")
    assert (gcloud.folder / "down.bin").read_bytes() == content
    gcloud("objects", "update", f"{at}/stdin.txt", "--custom-metadata=step=120", "--content-type=text/x-log")
    described = gcloud.json("objects", "describe", f"{at}/stdin.txt")
    assert (described["custom_fields"], described["content_type"]) == ({"step": "120"}, "text/x-log")
    gcloud("mv", f"{at}/stdin.txt", f"{at}/moved/log.txt")
    gcloud("cp", f"{at}/data/big.bin", f"{at}/copy.bin")
    (local_cloud.home / "buckets" / bucket / "train").mkdir()
    (local_cloud.home / "buckets" / bucket / "train" / "checkpoint").write_text("by a job")
    assert gcloud("cat", f"{at}/train/checkpoint") == "by a job"
    gcloud("rm", f"{at}/data/**", f"{at}/copy.bin")
    assert gcloud("ls", f"{at}/**").split() == [f"{at}/moved/log.txt", f"{at}/train/checkpoint"]
    assert "matched no objects" in gcloud("cat", f"{at}/absent", code=1)
    assert "objects are files" in gcloud("cp", "data/deep/two.txt", f"{at}/train/checkpoint/below", code=1)
    gcloud("rm", "-r", at)
    assert not (local_cloud.home / "buckets" / bucket).exists()


def test_rsync(gcloud: Gcloud, local_cloud: LocalCloud, bucket: str) -> None:
    source = gcloud.folder / "shards"
    (source / "deep").mkdir(parents=True)
    for name in ("0", "1", "deep/2"):
        (source / name).write_text(f"shard {name}")
    gcloud("rsync", "-r", "shards", f"gs://{bucket}/shards")
    (source / "0").unlink()
    (source / "1").write_text("changed")
    gcloud("rsync", "-r", "--delete-unmatched-destination-objects", "shards", f"gs://{bucket}/shards")
    folder = local_cloud.home / "buckets" / bucket / "shards"
    assert {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()} == {
        "1": "changed",
        "deep/2": "shard deep/2",
    }
    (folder / "by-a-job").write_text("new")
    gcloud("rsync", "-r", f"gs://{bucket}/shards", "shards")
    assert (source / "by-a-job").read_text() == "new"


def test_generations(gcloud: Gcloud, local_cloud: LocalCloud, bucket: str) -> None:
    at = f"gs://{bucket}"
    local_cloud.call("storage.buckets.patch", {"versioning": {"enabled": True}}, bucket=bucket)
    made = [local_cloud.upload(bucket, "ckpt", content)["generation"] for content in (b"one", b"two", b"three")]
    urls = [f"{at}/ckpt#{generation}" for generation in made]
    assert gcloud("ls", "-a", at).split() == urls
    gcloud("cp", urls[1], "was.txt")
    assert (gcloud.folder / "was.txt").read_text() == "two"
    gcloud("cp", urls[0], f"{at}/ckpt")
    assert gcloud("cat", f"{at}/ckpt", urls[2]) == "onethree"
    gcloud("rm", urls[1])

    def generations() -> int:
        return len(local_cloud.call("storage.objects.list", bucket=bucket, versions=True).get("items", []))

    gcloud("rm", f"{at}/ckpt")
    assert generations() == 3  # two that were overwritten, and that one
    gcloud("rm", "-a", f"{at}/ckpt")
    assert generations() == 0
    local_cloud.upload(bucket, "deep/a", b"1")
    local_cloud.call("storage.objects.delete", bucket=bucket, object="deep/a")
    gcloud("rm", "-r", at)
    local_cloud.refusal(404, "storage.buckets.get", bucket=bucket)
