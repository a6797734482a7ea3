"""Objects: files below a bucket's folder, and what is known of each beyond the file.

A row in the database belongs to a file as long as size and modification time are those it was written with. A file without
such a row (a job wrote it straight into the folder) is an object all the same: its generation is its modification time in
microseconds, its checksums are computed when they are first asked for.
"""

from __future__ import annotations

import errno
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, BinaryIO

from localcloud.database import Database, register_schema
from localcloud.storage.digests import Digests, digest_file
from localcloud.storage.generations import Generations
from localcloud.storage.listing import has_objects, is_nameable, leads_out
from localcloud.storage.names import object_fault
from localcloud.storage.stored import COLUMNS, SCHEMA, StoredObject, from_row, values_of

register_schema(
    f"""
    CREATE TABLE IF NOT EXISTS objects (
        {SCHEMA},
        PRIMARY KEY (bucket, name)
    ) WITHOUT ROWID;
    """
)


_UNREAD: Any = object()
_CURRENT = tuple(column for column in COLUMNS if column != "deleted")


class NameRefused(Exception):
    """No file can have this object's name."""


Check = Callable[["StoredObject | None"], None]


def no_check(_: StoredObject | None) -> None:
    """For writes without preconditions."""


Note = Callable[[StoredObject], None]


def no_note(_: StoredObject) -> None:
    """For writes that nobody asks about after a kill."""


class ObjectStore:
    """All objects of all buckets. Thread-safe. A `check` sees the object as it is at the write and refuses by raising.

    `keep` says that what a write replaces or removes stays as a noncurrent generation (the bucket has versioning).
    """

    def __init__(self, root: Path, uploads: Path, db: Database) -> None:
        self.root = root
        self.noncurrent = Generations(root.with_name("generations"), root, db)
        self._folder = str(root)  # strings are put together quicker than paths, at each call
        self._uploads = uploads
        self._db = db
        self._lock = db.lock
        for abandoned in uploads.glob("part-*"):  # by a server that was killed
            abandoned.unlink(missing_ok=True)

    # -- reading

    def get(self, bucket: str, name: str, *, generation: int | None = None, digests: bool = False) -> StoredObject | None:
        """The object (or one of its generations), or None. With `digests` its checksums are filled in (unless the file changes
        meanwhile)."""
        if object_fault(name):
            return None
        found = self._adopt(bucket, name, digests=digests)
        if generation is None or (found is not None and found.generation == generation):
            return found
        found = self.noncurrent.get(bucket, name, generation)
        return self._with_digests(found) if digests and found is not None and found.crc32c is None else found

    def get_many(self, bucket: str, names: Sequence[str], *, digests: bool = False) -> list[StoredObject]:
        """Those of the names that are objects, in their order."""
        rows = self._db.query(
            "SELECT * FROM objects WHERE bucket = ? AND name IN (SELECT value FROM json_each(?))", (bucket, json.dumps(names))
        )
        known = {row["name"]: from_row(row) for row in rows}
        looked_at_once = cache(leads_out)  # one look at each folder for all of its names
        found = (self._adopt(bucket, name, digests=digests, known=known.get(name), leads_out=looked_at_once) for name in names)
        return [each for each in found if each is not None]

    def get_versions(self, bucket: str, names: Sequence[str], *, digests: bool = False) -> list[StoredObject]:
        """Every generation of the names' objects, by name and each name's from the oldest on."""
        kept = self.noncurrent.of(bucket, names)
        if digests:
            kept = [self._with_digests(each) if each.crc32c is None else each for each in kept]
        # what was overwritten between the two looks is in both
        every = {(each.name, each.generation): each for each in (*self.get_many(bucket, names, digests=digests), *kept)}
        return [every[key] for key in sorted(every)]

    def open(self, bucket: str, name: str, generation: int | None = None) -> tuple[StoredObject, BinaryIO] | None:
        """The object and its opened content: what is read stays that of one generation when the object is overwritten."""
        for _ in range(10):
            found = self.get(bucket, name, generation=generation)
            if found is None:
                return None
            try:
                if found.deleted is None:
                    file = open(f"{self._folder}/{bucket}/{name}", "rb", buffering=0)  # noqa: PTH123, SIM115 — the reader closes it
                else:
                    file = self.noncurrent.path(found).open("rb", buffering=0)
            except (FileNotFoundError, IsADirectoryError):
                return None
            stat = os.fstat(file.fileno())
            if stat.st_mtime_ns == found.mtime_ns and stat.st_size == found.size:
                return found, file
            file.close()
        raise OSError(f"{bucket}/{name} changes faster than it can be read")

    def is_empty(self, bucket: str) -> bool:
        return not has_objects(self.root / bucket)

    # -- writing

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A path for a new temporary file; whatever is left there afterwards is removed."""
        path = self._uploads / f"part-{uuid.uuid4().hex}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def commit(
        self,
        bucket: str,
        name: str,
        content: Path,
        digests: Digests,
        metadata: dict[str, Any],
        check: Check = no_check,
        *,
        keep: bool = False,
        note: Note = no_note,
    ) -> StoredObject:
        """Makes the temporary file `content` the object, in one step. Raises NameRefused, what `check` raises, or OSError.

        `note` hears what the object will be right before: if the server is killed then, it is so if `content` is gone.
        """
        self.refuse_name(bucket, name)
        with self._lock:
            self.refuse_clash(bucket, name)
            current = self._adopt(bucket, name)
            check(current)
            target = self._path(bucket, name)
            now = time.time_ns() // 1000
            generation = max(now, (current.generation if current else self.noncurrent.last(bucket, name)) + 1)
            os.utime(content, ns=(generation * 1000, generation * 1000))
            stat = content.stat()
            stored = StoredObject(
                bucket, name, generation, 1, stat.st_size, stat.st_mtime_ns, now, now, digests.md5, digests.crc32c, metadata
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            while _is_folder(target) and not _remove_folder(target):
                self.refuse_clash(bucket, name)
            if keep and current is not None:
                self.noncurrent.keep(current, target)
            note(stored)
            content.replace(target)
            self._write_row(stored)
        return stored

    def complete(self, noted: StoredObject) -> None:
        """Keeps what is known of an object, where the server was killed after its file's last step and before the row's."""
        with self._lock:
            now = self._adopt(noted.bucket, noted.name)
            if now is not None and (now.generation, now.metageneration, now.metadata) == (noted.generation, 1, {}):
                self._write_row(noted)

    def update(
        self,
        bucket: str,
        name: str,
        change: Callable[[dict[str, Any]], dict[str, Any]],
        check: Check,
        generation: int | None = None,
    ) -> StoredObject | None:
        """Sets what `change` makes of the metadata; the content stays. None when there is no such object."""
        with self._lock:
            current = self.get(bucket, name, generation=generation)
            check(current)
            if current is None:
                return None
            changed = replace(
                current,
                metageneration=current.metageneration + 1,
                updated=time.time_ns() // 1000,
                metadata=change(current.metadata),
            )
            self._write_row(changed)
        return self.get(bucket, name, generation=changed.generation, digests=True)

    def delete(self, bucket: str, name: str, check: Check, *, keep: bool = False, generation: int | None = None) -> bool:
        """Removes the object and the folders that become empty; False when there is no such object.

        A `generation` that is named goes for good, the current one as well, and leaves the others as they are.
        """
        with self._lock:
            current = self.get(bucket, name, generation=generation)
            check(current)
            if current is None:
                return False
            if current.deleted is not None:
                self.noncurrent.delete(current)
                return True
            path = self._path(bucket, name)
            if keep and generation is None:
                self.noncurrent.keep(current, path)
            path.unlink(missing_ok=True)
            self._db.execute("DELETE FROM objects WHERE bucket = ? AND name = ?", (bucket, name))
            with suppress(OSError):
                for folder in path.parents:
                    if folder == self.root / bucket:
                        break
                    folder.rmdir()
        return True

    def create_bucket_folder(self, bucket: str) -> None:
        (self.root / bucket).mkdir(exist_ok=True)

    def delete_bucket_folder(self, bucket: str) -> bool:
        """Removes the folder unless the bucket has objects, current ones or not; False when it does."""
        with self._lock:
            if not self.is_empty(bucket) or self.noncurrent.any(bucket):
                return False
            folder = self.root / bucket
            if _is_folder(folder) and not _remove_folder(folder):
                return False
            self.noncurrent.forget_bucket(bucket)
            self._db.execute("DELETE FROM objects WHERE bucket = ?", (bucket,))
        return True

    # -- names

    def refuse_name(self, bucket: str, name: str) -> None:
        """Raises NameRefused when no file can have this name."""
        fault = object_fault(name)
        if fault:
            raise NameRefused(
                f"The object gs://{bucket}/{name} cannot be kept in the local cloud, where objects are files: {fault}."
            )

    def refuse_clash(self, bucket: str, name: str) -> None:
        """Raises NameRefused when the object would have to be a file where a folder is, or the other way round."""
        for folder in _folders(self.root / bucket, name):
            if os.path.lexists(folder) and not _is_folder(folder):
                there = folder.relative_to(self.root / bucket)
                raise NameRefused(
                    f"The object gs://{bucket}/{name} cannot be kept in the local cloud, where objects are files: "
                    f"gs://{bucket}/{there} is one already, so it cannot be a folder."
                )
        path = self._path(bucket, name)
        if _is_folder(path) and has_objects(path):
            raise NameRefused(
                f"The object gs://{bucket}/{name} cannot be kept in the local cloud, where objects are files: "
                f"there are objects below gs://{bucket}/{name}/, so it is a folder already."
            )

    # -- inside

    def _path(self, bucket: str, name: str) -> Path:
        return self.root / bucket / name

    def _adopt(
        self,
        bucket: str,
        name: str,
        *,
        digests: bool = False,
        known: Any = _UNREAD,
        leads_out: Callable[[str, str], bool] = leads_out,
    ) -> StoredObject | None:
        """The object as its file and its row (`known`; read here unless it is given) have it."""
        path = f"{self._folder}/{bucket}/{name}"
        try:
            stat = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not S_ISREG(stat.st_mode) or leads_out(f"{self._folder}/{bucket}", name.rpartition("/")[0]):
            return None
        if known is _UNREAD:
            known = self._db.look(from_row, "SELECT * FROM objects WHERE bucket = ? AND name = ?", bucket, name)
        if known is not None and known.mtime_ns == stat.st_mtime_ns and known.size == stat.st_size:
            found = known
        else:
            micros = stat.st_mtime_ns // 1000
            generation = max(micros, (known.generation if known is not None else self.noncurrent.last(bucket, name)) + 1)
            found = StoredObject(bucket, name, generation, 1, stat.st_size, stat.st_mtime_ns, micros, micros)
        if digests and found.md5 is None and found.crc32c is None:
            found = self._with_digests(found)
        return found

    def _with_digests(self, found: StoredObject) -> StoredObject:
        path = self._path(found.bucket, found.name) if found.deleted is None else self.noncurrent.path(found)
        try:
            with path.open("rb") as file:
                digests = digest_file(file)
                stat = os.fstat(file.fileno())
        except FileNotFoundError:
            return found
        if (stat.st_size, stat.st_mtime_ns, digests.size) != (found.size, found.mtime_ns, found.size):
            return found
        found = replace(found, md5=digests.md5, crc32c=digests.crc32c)
        with self._lock:
            now = self.get(found.bucket, found.name, generation=found.generation)
            if now is not None and (now.generation, now.metageneration) == (found.generation, found.metageneration):
                self._write_row(found)
        return found

    def _write_row(self, stored: StoredObject) -> None:
        if stored.deleted is not None:
            self.noncurrent.write(stored)
            return
        self._db.execute(
            f"INSERT OR REPLACE INTO objects ({', '.join(_CURRENT)}) VALUES ({', '.join('?' * len(_CURRENT))})",
            values_of(stored, _CURRENT),
        )


def _folders(bucket: Path, name: str) -> Iterator[Path]:
    """The folders below a bucket's in which an object's file is, outermost first."""
    for part in name.split("/")[:-1]:
        bucket = bucket / part
        yield bucket


def _is_folder(path: Path) -> bool:
    """Whether there is a folder itself, not a link to one."""
    try:
        return S_ISDIR(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _remove_folder(folder: Path) -> bool:
    """Removes a folder without objects; False when one has appeared meanwhile.

    What a job has left there that is no object goes with it: links, pipes, names that no object can have.
    """
    top = str(folder)
    try:
        for path, folders, files in os.walk(top, topdown=False):
            nameable = is_nameable(path[len(top) :])
            for name in (*folders, *files):  # a link to a folder is among the folders
                each = Path(path, name)
                if each.is_symlink() or (name in files and not (nameable and is_nameable(name) and each.is_file())):
                    each.unlink(missing_ok=True)
            Path(path).rmdir()
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        return False
    return True
