"""gcsfs as installed (fsspec's `gs://`, which pandas and others use), with nothing but the local cloud's environment."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from client_environment import as_client

if TYPE_CHECKING:
    from conftest import LocalCloud


@pytest.fixture(scope="module")
def gs(local_cloud: LocalCloud) -> Iterator[Any]:
    with as_client(local_cloud):
        found = fsspec.filesystem("gs", skip_instance_cache=True)
        assert found._endpoint == local_cloud.url
        yield found


@pytest.fixture
def bucket(gs: Any, request: pytest.FixtureRequest) -> str:
    name = "fs-" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:50].strip("-")
    gs.mkdir(name)
    return name


def test_buckets(gs: Any, bucket: str) -> None:
    assert gs.exists(bucket) and gs.isdir(bucket) and bucket in [path.rstrip("/") for path in gs.ls("")]
    gs.rmdir(bucket)
    gs.invalidate_cache()
    assert not gs.exists(bucket)
    with pytest.raises(FileNotFoundError):
        gs.ls("fs-absent")


def test_files(gs: Any, bucket: str) -> None:
    content = os.urandom(700_000)
    with gs.open(f"{bucket}/train/model.bin", "wb", block_size=2**18) as file:  # several chunks of a resumable upload
        for start in range(0, len(content), 100_000):
            file.write(content[start : start + 100_000])
    with fsspec.open(f"gs://{bucket}/train/log.txt", "wt") as file:
        file.write("step 1\nstep 2\n")
    with fsspec.open(f"gs://{bucket}/train/log.txt", "rt") as file:
        assert list(file) == ["step 1\n", "step 2\n"]
    with gs.open(f"{bucket}/train/model.bin", "rb", block_size=2**16) as file:
        file.seek(300_000)
        assert file.read(1000) == content[300_000:301_000]
    assert gs.cat(f"{bucket}/train/model.bin") == content
    assert gs.cat_file(f"{bucket}/train/model.bin", start=5, end=10) == content[5:10]
    assert gs.info(f"{bucket}/train/model.bin")["size"] == len(content)
    assert gs.checksum(f"{bucket}/train/model.bin")
    with pytest.raises(FileNotFoundError):
        gs.cat(f"{bucket}/absent")
    with pytest.raises(Exception, match="objects are files"):
        gs.pipe(f"{bucket}/train/log.txt/below", b"x")


def test_listing(gs: Any, bucket: str) -> None:
    gs.pipe({f"{bucket}/{name}": b"x" for name in ("a.txt", "d/1.txt", "d/2.png", "d/e/3.txt")})
    gs.invalidate_cache()
    assert gs.ls(bucket) == [f"{bucket}/a.txt", f"{bucket}/d"]
    assert gs.find(bucket) == [f"{bucket}/{name}" for name in ("a.txt", "d/1.txt", "d/2.png", "d/e/3.txt")]
    assert gs.glob(f"{bucket}/**/*.txt") == [f"{bucket}/{name}" for name in ("a.txt", "d/1.txt", "d/e/3.txt")]
    assert gs.glob(f"{bucket}/d/?.*") == [f"{bucket}/d/1.txt", f"{bucket}/d/2.png"]
    assert gs.isdir(f"{bucket}/d") and gs.isfile(f"{bucket}/a.txt") and gs.du(bucket) == 4
    assert [folder for folder, _, _ in gs.walk(bucket)] == [bucket, f"{bucket}/d", f"{bucket}/d/e"]


def test_folders(gs: Any, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "up" / "deep").mkdir(parents=True)
    for name in ("one", "deep/two"):
        (tmp_path / "up" / name).write_text(name)
    gs.put(str(tmp_path / "up"), f"{bucket}/data", recursive=True)
    gs.get(f"{bucket}/data", str(tmp_path / "down"), recursive=True)
    assert (tmp_path / "down" / "deep" / "two").read_text() == "deep/two"
    gs.cp(f"{bucket}/data/one", f"{bucket}/copied")
    gs.mv(f"{bucket}/copied", f"{bucket}/moved")
    assert gs.find(bucket) == [f"{bucket}/data/deep/two", f"{bucket}/data/one", f"{bucket}/moved"]
    gs.rm(f"{bucket}/data", recursive=True)  # a batch request
    gs.invalidate_cache()
    assert gs.find(bucket) == [f"{bucket}/moved"]
    gs.rm(bucket, recursive=True)
    gs.invalidate_cache()
    assert not gs.exists(bucket)


def test_metadata(gs: Any, bucket: str) -> None:
    gs.pipe(f"{bucket}/x", b"one")
    gs.setxattrs(f"{bucket}/x", content_type="x/y", step="120")
    assert gs.getxattr(f"{bucket}/x", "step") == "120"
    assert gs.info(f"{bucket}/x")["contentType"] == "x/y"
    gs.merge(f"{bucket}/joined", [f"{bucket}/x", f"{bucket}/x"])
    assert gs.cat(f"{bucket}/joined") == b"oneone"
