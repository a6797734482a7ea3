"""Noncurrent generations in the store: killed at any step nothing acknowledged is lost, and pages hold each one once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.database import Database
from localcloud.storage.digests import Digests
from localcloud.storage.listing import Page
from localcloud.storage.objects import ObjectStore, no_check
from localcloud.storage.stored import StoredObject
from localcloud.storage.versions import cut


def opened(folder: Path) -> ObjectStore:
    for name in ("uploads", "buckets/b"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return ObjectStore(folder / "buckets", folder / "uploads", Database(folder / "db.sqlite"))


def put(store: ObjectStore, name: str, content: bytes) -> int:
    digests = Digests()
    digests.update(content)
    with store.scratch() as path:
        path.write_bytes(content)
        return store.commit("b", name, path, digests, {}, keep=True).generation


def contents(store: ObjectStore, name: str) -> list[bytes]:
    """Of every generation, from the oldest on."""
    found = []
    for each in store.get_versions("b", [name], digests=True):
        held = store.open("b", name, each.generation)
        assert held is not None
        with held[1] as file:
            content = file.read()
        digests = Digests()
        digests.update(content)
        assert (each.size, each.md5, each.crc32c) == (len(content), digests.md5, digests.crc32c)
        found.append(content)
    return found


def killed_at(step: int, act: Callable[[], object]) -> bool:
    """Does `act` in a process that ends, as by kill -9, at its n-th change of a file or row; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = step

        def die_at(event: str, _: tuple[object, ...]) -> None:
            nonlocal left
            if event in ("os.link", "os.rename", "os.remove", "os.utime", "store.write"):
                left -= 1
                if left == 0:
                    os._exit(9)

        try:
            execute = Database.execute

            def audited(db: Database, sql: str, parameters: tuple[object, ...] = ()) -> int:
                sys.audit("store.write", sql)
                return execute(db, sql, parameters)

            Database.execute = audited  # type: ignore[method-assign, assignment]
            sys.addaudithook(die_at)
            act()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_killed_at_any_step_of_an_overwrite(tmp_path: Path) -> None:
    steps = 0
    while True:
        folder = tmp_path / str(steps)
        store = opened(folder)
        put(store, "a/x", b"first")
        put(store, "a/x", b"second")
        store._db.close()
        steps += 1
        came = killed_at(steps, lambda folder=folder: put(opened(folder), "a/x", b"third"))
        store = opened(folder)
        found = contents(store, "a/x")
        assert found in ([b"first", b"second"], [b"first", b"second", b"third"])
        assert len(list((folder / "generations" / "b").iterdir())) == len(found) - 1
        assert put(store, "a/x", b"fourth") and contents(store, "a/x") == [*found, b"fourth"]
        if not came:
            break
    assert steps > 5 and found[-1] == b"third"


def test_killed_at_any_step_of_a_deletion(tmp_path: Path) -> None:
    steps = 0
    while True:
        folder = tmp_path / str(steps)
        store = opened(folder)
        oldest = put(store, "a/x", b"first")
        put(store, "a/x", b"second")
        store._db.close()
        steps += 1

        def act(folder: Path = folder, oldest: int = oldest) -> None:
            store = opened(folder)
            store.delete("b", "a/x", no_check, keep=True)
            store.delete("b", "a/x", no_check, keep=True, generation=oldest)

        came = killed_at(steps, act)
        store = opened(folder)
        found = contents(store, "a/x")
        assert found in ([b"first", b"second"], [b"second"])
        live = store.get("b", "a/x")
        assert len(list((folder / "generations" / "b").iterdir())) == len(found) - (live is not None)
        if not came:
            break
    assert steps > 4 and found == [b"second"] and live is None


def test_a_file_that_a_job_goes_on_writing_is_what_it_is(tmp_path: Path) -> None:
    store = opened(tmp_path)
    path = tmp_path / "buckets/b/log"
    with path.open("wb") as file:
        file.write(b"one")
        file.flush()
        put(store, "log", b"new")
        file.write(b"two")
        file.flush()
        assert contents(store, "log") == [b"onetwo", b"new"]


def test_without_hard_links_the_content_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    store = opened(tmp_path)
    put(store, "x", b"1")
    put(store, "x", b"2")
    assert contents(store, "x") == [b"1", b"2"]


NAMES = ("a", "b", "c/", "d", "e/")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=5, max_size=5), st.integers(1, 4))
def test_pages_hold_each_generation_once(counts: list[int], limit: int) -> None:
    """A name with n generations; one that ends with a slash is a prefix if n is not 0."""
    every = [
        StoredObject("b", name, generation + 1, 1, 0, 0, 0, 0)
        for name, count in zip(NAMES, counts, strict=True)
        for generation in range(count)
        if not name.endswith("/")
    ]
    present = [name for name, count in zip(NAMES, counts, strict=True) if count]
    whole = sorted([(each.name, each.generation) for each in every] + [(name, 0) for name in present if name.endswith("/")])
    found: list[tuple[str, int]] = []
    after = ("", 0)
    while True:
        names = [name for name in present if (name >= after[0] if after[1] else name > after[0])]
        page = Page([name for name in names[:limit] if name[-1] != "/"], [name for name in names[:limit] if name[-1] == "/"])
        page.last = names[limit - 1] if len(names) > limit else None
        items, end = cut(page, [each for each in every if each.name in page.names], limit, after)
        entries = [(each.name, each.generation) for each in items] + [(name, 0) for name in page.prefixes]
        assert len(entries) <= limit
        found += sorted(entries)
        if end is None:
            break
        after = end
    assert found == whole
