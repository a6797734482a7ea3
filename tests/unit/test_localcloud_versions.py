"""Noncurrent generations in the store: killed at any step nothing acknowledged is lost, and pages hold each one once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from killed_store import opened, put

from localcloud.storage.digests import Digests
from localcloud.storage.listing import Page
from localcloud.storage.objects import ObjectStore
from localcloud.storage.stored import StoredObject
from localcloud.storage.versions import cut

ROOT = Path(__file__).parents[2]


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


def killed(what: str, root: Path) -> list[Path]:
    """The state that a kill at each step of a write leaves, the whole write last."""
    command = [sys.executable, str(Path(__file__).with_name("killed_store.py")), what, str(root)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [root / str(step) for step in range(1, int(done.stdout) + 1)]


def kept_files(folder: Path) -> int:
    return len(list((folder / "generations" / "b").iterdir()))


def test_killed_at_any_step_of_an_overwrite(tmp_path: Path) -> None:
    states = killed("overwrite", tmp_path)
    for folder in states:
        store = opened(folder)
        found = contents(store, "a/x")
        assert found in ([b"first", b"second"], [b"first", b"second", b"third"])
        assert kept_files(folder) == len(found) - 1
        assert put(store, "a/x", b"fourth") and contents(store, "a/x") == [*found, b"fourth"]
    assert len(states) > 5 and b"third" in found


def test_killed_at_any_step_of_a_deletion(tmp_path: Path) -> None:
    states = killed("delete", tmp_path)
    for folder in states:
        store = opened(folder)
        found = contents(store, "a/x")
        assert found in ([b"first", b"second"], [b"second"])
        assert kept_files(folder) == len(found) - (store.get("b", "a/x") is not None)
    assert len(states) > 4 and found == [b"second"] and store.get("b", "a/x") is None


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
