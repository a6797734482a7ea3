from __future__ import annotations

from pathlib import Path

import pytest

from trainer import files, paths


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GCS_ROOT", str(tmp_path))
    (tmp_path / "bucket").mkdir()
    return tmp_path


def test_a_mounted_bucket_is_a_folder(root: Path) -> None:
    assert paths.resolve("gs://bucket/a/b.txt") == f"{root}/bucket/a/b.txt"
    assert paths.resolve("gs://bucket/train-?????-of-?????.tfrecord") == f"{root}/bucket/train-?????-of-?????.tfrecord"
    assert paths.resolve("gs://bucket") == paths.resolve("gs://bucket/") == f"{root}/bucket"


def test_other_paths_stay_as_they_are(root: Path) -> None:
    for path in ("gs://elsewhere/a", "gs://", "/tmp/a", "relative/a", "hdfs://x/y"):
        assert paths.resolve(path) == path


def test_without_a_variable_the_mount_is_where_vertex_ai_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GCS_ROOT", raising=False)
    monkeypatch.setattr(Path, "is_dir", lambda self: str(self) == "/gcs/bucket")
    assert paths.resolve("gs://bucket/a") == "/gcs/bucket/a"


def test_remote_and_join() -> None:
    assert paths.is_remote("gs://b/x")
    assert not paths.is_remote("/gcs/b/x")
    assert paths.join("gs://b/x/", "y", "z") == "gs://b/x/y/z"


def test_files_are_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    assert files.read(str(path)) is None
    files.write(str(path), "text")
    assert files.read(str(path)) == "text"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]
