"""Kills the object store, as by kill -9, at each step of a write in turn: `python killed_store.py overwrite|delete FOLDER`.

In a process of its own, which has no threads, so that it may fork. Leaves a state per step, `FOLDER/1` killed first, and in the
last one the whole write done; prints how many there are.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from localcloud.database import Database
from localcloud.storage.digests import Digests
from localcloud.storage.objects import ObjectStore, no_check

STEPS = ("os.link", "os.rename", "os.remove", "os.utime", "store.write")


def opened(folder: Path) -> ObjectStore:
    """The store of a state, as a server that starts opens it."""
    for name in ("uploads", "buckets/b"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return ObjectStore(folder / "buckets", folder / "uploads", Database(folder / "db.sqlite"))


def put(store: ObjectStore, name: str, content: bytes) -> int:
    """Writes an object into a bucket with versioning; its generation."""
    digests = Digests()
    digests.update(content)
    with store.scratch() as path:
        path.write_bytes(content)
        return store.commit("b", name, path, digests, {}, keep=True).generation


def write(what: str, folder: Path) -> None:
    """What is interrupted."""
    store = opened(folder)
    if what == "overwrite":
        put(store, "a/x", b"third")
        return
    oldest = store.get_versions("b", ["a/x"])[0]
    store.delete("b", "a/x", no_check, keep=True)
    store.delete("b", "a/x", no_check, keep=True, generation=oldest.generation)


def die_at(step: int) -> None:
    """This process ends at its n-th change of a file or of a row from now on."""
    execute = Database.execute

    def audited(db: Database, sql: str, parameters: Sequence[Any] = ()) -> int:
        sys.audit("store.write", sql)
        return execute(db, sql, parameters)

    Database.execute = audited  # type: ignore[method-assign]
    left = step

    def hook(event: str, _: tuple[object, ...]) -> None:
        nonlocal left
        if event in STEPS:
            left -= 1
            if left == 0:
                os._exit(9)

    sys.addaudithook(hook)


def main(what: str, root: Path) -> None:
    step = 0
    code = 9
    while code == 9:
        step += 1
        folder = root / str(step)
        store = opened(folder)
        for content in (b"first", b"second"):
            put(store, "a/x", content)
        store._db.close()
        child = os.fork()
        if child == 0:
            die_at(step)
            try:
                write(what, folder)
            except BaseException as error:
                print(repr(error), file=sys.stderr)
                os._exit(1)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(step)
    sys.exit(code)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
