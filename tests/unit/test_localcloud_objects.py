"""Objects as files: names, listing, generations, multipart bodies."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.api import ApiError
from localcloud.database import Database
from localcloud.services.downloads import byte_range
from localcloud.storage import objects
from localcloud.storage.digests import Digests
from localcloud.storage.listing import list_page
from localcloud.storage.multipart import Multipart, MultipartError, boundary_of
from localcloud.storage.names import bucket_fault, object_fault
from localcloud.storage.objects import NameRefused, ObjectStore, no_check

PARTS = st.text(alphabet="ab.-0é", min_size=1, max_size=3).filter(lambda part: part not in (".", ".."))
NAMES = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


def reference(names: list[str], prefix: str, delimiter: str) -> list[str]:
    """Cloud Storage's own definition of a listing: what stands under the prefix, cut after the first delimiter."""
    found = set()
    for name in names:
        if name.startswith(prefix):
            position = name.find(delimiter, len(prefix)) if delimiter else -1
            found.add(name if position < 0 else name[: position + len(delimiter)])
    return sorted(found, key=str.encode)


@settings(max_examples=150, deadline=None)
@given(
    names=st.lists(NAMES, max_size=12),
    prefix=st.one_of(st.just(""), NAMES, NAMES.map(lambda name: name + "/")),
    delimiter=st.sampled_from(["", "/", "-", "a/"]),
    limit=st.integers(1, 5),
)
def test_listing_is_what_cloud_storage_would_give(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], prefix: str, delimiter: str, limit: int
) -> None:
    root = tmp_path_factory.mktemp("bucket")
    made = []
    for name in names:
        path = root / name
        if not path.exists() and not any((root / parent).is_file() for parent in Path(name).parents if str(parent) != "."):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            made.append(name)
    (root / "an-empty-folder").mkdir()
    found: list[str] = []
    after = ""
    while True:
        page = list_page(root, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        assert len(page.names) + len(page.prefixes) <= limit
        found += sorted(page.names + page.prefixes, key=str.encode)
        if page.last is None:
            break
        after = page.last
    assert found == reference(made, prefix, delimiter)


@pytest.mark.parametrize("name", ["a", "a/b", "a b/ü", "..a", "a..", "x" * 255, "a/.b", "%2F", "a\\b", "-"])
def test_names_that_files_can_have(name: str) -> None:
    assert object_fault(name) is None


@pytest.mark.parametrize(
    "name", ["", "/", "a/", "/a", "a//b", ".", "..", "a/..", "./a", "a\0b", "a\nb", "é" * 128, "a/" * 512 + "a", "\udcff"]
)
def test_names_that_they_cannot(name: str) -> None:
    assert object_fault(name)


@pytest.mark.parametrize(
    ("name", "fine"),
    [
        ("abc", True),
        ("a.b-c_d", True),
        ("x" * 63, True),
        ("x" * 64, False),
        ("a..b", False),
        ("192.168.5.4", False),
        ("192.168.5", True),
        ("192.168.5.4a", True),
    ],
)
def test_bucket_names(name: str, fine: bool) -> None:
    assert (bucket_fault(name) is None) == fine


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    (tmp_path / "uploads").mkdir()
    (tmp_path / "buckets" / "b").mkdir(parents=True)
    (tmp_path / "uploads" / "part-left-by-a-killed-server").touch()
    return ObjectStore(tmp_path / "buckets", tmp_path / "uploads", Database(tmp_path / "db.sqlite"))


def put(store: ObjectStore, name: str, content: bytes) -> int:
    digests = Digests()
    digests.update(content)
    with store.scratch() as path:
        path.write_bytes(content)
        return store.commit("b", name, path, digests, {}).generation


def test_abandoned_parts_are_removed(store: ObjectStore, tmp_path: Path) -> None:
    assert list((tmp_path / "uploads").iterdir()) == []


def test_generations_only_grow(store: ObjectStore, tmp_path: Path) -> None:
    path = tmp_path / "buckets" / "b" / "x"
    generations = [put(store, "x", b"1"), put(store, "x", b"2")]
    path.write_bytes(b"three")
    os.utime(path, ns=(5000, 5000))  # a job that sets an old time
    found = store.get("b", "x", digests=True)
    assert found is not None and found.size == 5
    generations.append(found.generation)
    generations.append(put(store, "x", b"4"))
    assert generations == sorted(set(generations))


def test_a_file_replaced_while_it_is_read_stays_one_generation(store: ObjectStore) -> None:
    generation = put(store, "x", b"old" * 1000)
    opened = store.open("b", "x")
    assert opened is not None
    put(store, "x", b"new")
    with opened[1] as file:
        assert opened[0].generation == generation and file.read() == b"old" * 1000


def test_a_row_lost_does_not_change_the_generation(store: ObjectStore) -> None:
    """The server is killed between the file's last step and the row's."""
    generation = put(store, "x", b"1")
    store._db.execute("DELETE FROM objects")
    found = store.get("b", "x")
    assert found is not None and found.generation == generation


def test_clashes_and_links(store: ObjectStore, tmp_path: Path) -> None:
    put(store, "a/b", b"1")
    for name in ("a", "a/b/c"):
        with pytest.raises(NameRefused, match="objects are files"):
            put(store, name, b"2")
    (tmp_path / "outside").mkdir()
    (tmp_path / "buckets" / "b" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(NameRefused):
        put(store, "link/x", b"3")
    assert list((tmp_path / "outside").iterdir()) == []
    (tmp_path / "buckets" / "b" / "hollow" / "deep").mkdir(parents=True)
    put(store, "hollow", b"a file where an empty folder was")
    os.mkfifo(tmp_path / "buckets" / "b" / "pipe")
    with pytest.raises(NameRefused):
        put(store, "pipe/x", b"4")
    put(store, "link", b"a file where a link to an empty folder was")
    assert (tmp_path / "outside").is_dir()


def litter(folder: Path, outside: Path) -> None:
    """What a job may leave that is no object: links, a pipe, names that no object can have."""
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "link").symlink_to(outside)
    (folder / "broken").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    (folder / "two\nlines").touch()
    (folder / os.fsdecode(b"\xff")).mkdir()
    (folder / os.fsdecode(b"\xff") / "file").touch()


def test_what_is_no_object_goes_with_its_folder(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").touch()
    bucket = tmp_path / "buckets" / "b"
    litter(bucket / "out", tmp_path / "outside")
    assert list_page(bucket, limit=9).names == [] and store.is_empty("b")
    put(store, "out", b"a file where the folder was")
    assert not store.delete_bucket_folder("b")
    assert store.delete("b", "out", no_check)
    litter(bucket / "out", tmp_path / "outside")
    assert store.delete_bucket_folder("b") and not bucket.exists()
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["kept"]


def test_an_object_that_appears_while_its_folder_goes_stays(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "buckets" / "b" / "out"
    folder.mkdir()
    looked = objects.has_objects

    def look_and_write(path: Path) -> bool:
        found = looked(path)
        (folder / "written").touch()
        return found

    monkeypatch.setattr(objects, "has_objects", look_and_write)
    assert not store.delete_bucket_folder("b")
    (folder / "written").unlink()
    with pytest.raises(NameRefused, match="there are objects below"):
        put(store, "out", b"x")
    assert (folder / "written").exists()


@pytest.mark.parametrize(
    ("header", "size", "answer"),
    [
        ("bytes=0-0", 5, (0, 0)),
        ("bytes=1-", 5, (1, 4)),
        ("bytes=-9", 5, (0, 4)),
        ("bytes=a-b", 5, None),
        ("bytes=0-1,3-4", 5, None),
    ],
)
def test_byte_range(header: str, size: int, answer: tuple[int, int] | None) -> None:
    assert byte_range(header, size) == answer


@pytest.mark.parametrize(("header", "size"), [("bytes=5-", 5), ("bytes=3-2", 5), ("bytes=0-", 0), ("bytes=-0", 5)])
def test_byte_range_beyond(header: str, size: int) -> None:
    with pytest.raises(ApiError) as caught:
        byte_range(header, size)
    assert caught.value.code == 416


async def pieces(body: bytes, step: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), step):
        yield body[start : start + step]


async def take_apart(body: bytes, step: int) -> tuple[dict[str, object], bytes]:
    parts = Multipart(pieces(body, step), b"B")
    metadata = await parts.metadata()
    return metadata, b"".join([piece async for piece in parts.media()])


@settings(max_examples=200, deadline=None)
@given(
    content=st.lists(st.sampled_from([b"\r\n", b"--", b"B", b"\n", b"x", b"\r"]), max_size=12).map(b"".join),
    step=st.integers(1, 40),
)
def test_multipart_whatever_the_chunks(content: bytes, step: int) -> None:
    if b"\r\n--B" in b"\r\n" + content:
        return
    body = b'--B\r\nA: b\r\n\r\n{"name": "n"}\r\n--B\r\nContent-Type: t/t\r\n\r\n' + content + b"\r\n--B--\r\n"
    assert asyncio.run(take_apart(body, step)) == ({"name": "n"}, content)


@pytest.mark.parametrize("step", [1, 1000])
def test_multipart_cut_short(step: int) -> None:
    body = b'--B\r\n\r\n{"name": "n"}\r\n--B\r\nContent-Type: t/t\r\n\r\nabc\r\n--B--'
    for end in range(len(body) - len(b"--")):
        with pytest.raises(MultipartError):
            asyncio.run(take_apart(body[:end], step))


@pytest.mark.parametrize("written", ["x", '"x"', "'x'"])
def test_boundary(written: str) -> None:
    assert boundary_of(f"multipart/related; boundary={written}; charset=utf-8") == b"x"


def test_an_upload_and_the_deletion_of_a_bucket_do_not_wait_for_each_other(tmp_path: Path) -> None:
    for name in ("buckets/kept", "uploads"):
        (tmp_path / name).mkdir(parents=True)
    db = Database(tmp_path / "db.sqlite")
    store = ObjectStore(tmp_path / "buckets", tmp_path / "uploads", db)

    def upload() -> None:
        for _ in range(300):
            with store.scratch() as path:
                path.write_bytes(b"x")
                store.commit("kept", "x", path, Digests(), {})

    def delete() -> None:
        for _ in range(300):
            with db.transaction():
                store.create_bucket_folder("gone")
                assert store.delete_bucket_folder("gone")

    threads = [threading.Thread(target=work, daemon=True) for work in (upload, delete)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
