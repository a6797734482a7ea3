"""Noncurrent generations: what the API has overwritten or deleted in buckets with versioning.

Their contents are files below `generations/BUCKET`, beside the buckets' folders, which hold nothing but current objects. A row
says what each is; it is written before the current file goes, so that a server killed in between has lost nothing: the next one
finds a row of what is still current, or a file without a row, and forgets it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from localcloud.database import Database, register_schema
from localcloud.storage.stored import COLUMNS, SCHEMA, StoredObject, from_row, values_of

register_schema(
    f"""
    CREATE TABLE IF NOT EXISTS generations (
        {SCHEMA},
        deleted INTEGER NOT NULL,
        PRIMARY KEY (bucket, name, generation)
    ) WITHOUT ROWID;
    """
)

NAMES_AT_ONCE = 1000


class Generations:
    """The noncurrent generations of all buckets. The caller holds the database's lock at each write."""

    def __init__(self, root: Path, buckets: Path, db: Database) -> None:
        """`root`: where their files are, made when the first one is kept; `buckets`: where the current ones are."""
        self._root = root
        self._db = db
        self._forget_interrupted(buckets)
        self._used = {row["bucket"] for row in db.query("SELECT DISTINCT bucket FROM generations")}

    # -- reading

    def path(self, kept: StoredObject) -> Path:
        """The file of a generation; a name may be longer than a file's, so it is hashed."""
        digest = hashlib.sha256(kept.name.encode()).hexdigest()[:32]
        return self._root / kept.bucket / f"{digest}-{kept.generation}"

    def get(self, bucket: str, name: str, generation: int) -> StoredObject | None:
        row = self._db.one(
            "SELECT * FROM generations WHERE bucket = ? AND name = ? AND generation = ?", (bucket, name, generation)
        )
        return None if row is None else self._as_its_file(from_row(row))

    def of(self, bucket: str, names: Sequence[str]) -> list[StoredObject]:
        """Those of the objects with these names, each name's from the oldest on."""
        rows = self._db.query(
            "SELECT * FROM generations WHERE bucket = ? AND name IN (SELECT value FROM json_each(?)) ORDER BY name, generation",
            (bucket, json.dumps(names)),
        )
        return [self._as_its_file(from_row(row)) for row in rows]

    def names(self, bucket: str, start: str, prefix: str) -> Iterator[str]:
        """Names from `start` on that begin with the prefix, each once, as UTF-8 bytes compare."""
        start, after = max(start, prefix), ">="
        while bucket in self._used:
            rows = self._db.query(
                f"SELECT DISTINCT name FROM generations WHERE bucket = ? AND name {after} ? ORDER BY name LIMIT ?",
                (bucket, start, NAMES_AT_ONCE),
            )
            for row in rows:
                if not row["name"].startswith(prefix):
                    return
                yield row["name"]
            if len(rows) < NAMES_AT_ONCE:
                return
            start, after = rows[-1]["name"], ">"

    def last(self, bucket: str, name: str) -> int:
        """The newest one of a name; 0 when there is none."""
        if bucket not in self._used:
            return 0
        row = self._db.one("SELECT max(generation) AS last FROM generations WHERE bucket = ? AND name = ?", (bucket, name))
        return int(row["last"] or 0) if row else 0

    def any(self, bucket: str) -> bool:
        return bucket in self._used and self._db.one("SELECT 1 FROM generations WHERE bucket = ?", (bucket,)) is not None

    # -- writing

    def keep(self, current: StoredObject, file: Path) -> None:
        """Makes the current generation, which is about to go, a noncurrent one. Its file is still there afterwards."""
        path = self.path(current)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # left when a server was killed right here
        try:
            os.link(file, path)
        except FileNotFoundError:
            return  # a job has removed it this moment
        except OSError:  # the file system has no hard links, or the file is another user's
            shutil.copy2(file, path)
        self._used.add(current.bucket)
        self.write(self._as_its_file(replace(current, deleted=time.time_ns() // 1000)))

    def write(self, kept: StoredObject) -> None:
        """Keeps what is known of a generation."""
        self._db.execute(
            f"INSERT OR REPLACE INTO generations ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})",
            values_of(kept, COLUMNS),
        )

    def delete(self, kept: StoredObject) -> None:
        key = (kept.bucket, kept.name, kept.generation)
        self._db.execute("DELETE FROM generations WHERE bucket = ? AND name = ? AND generation = ?", key)
        self.path(kept).unlink(missing_ok=True)

    def forget_bucket(self, bucket: str) -> None:
        """After its last generation: the folder goes."""
        self._used.discard(bucket)
        with suppress(OSError):
            (self._root / bucket).rmdir()

    # -- inside

    def _as_its_file(self, kept: StoredObject) -> StoredObject:
        """A job that had the file open when it was kept may still write to it."""
        try:
            stat = self.path(kept).stat()
        except FileNotFoundError:
            return kept
        if (stat.st_size, stat.st_mtime_ns) == (kept.size, kept.mtime_ns):
            return kept
        return replace(kept, size=stat.st_size, mtime_ns=stat.st_mtime_ns, md5=None, crc32c=None)

    def _forget_interrupted(self, buckets: Path) -> None:
        """Drops what a killed server was about to keep or to delete."""
        known = set()
        for row in self._db.query("SELECT * FROM generations"):
            kept = from_row(row)
            path = self.path(kept)
            with suppress(OSError):
                if path.samefile(buckets / kept.bucket / kept.name):
                    self.delete(kept)
                    continue
            known.add(path)
        for path in self._root.glob("*/*"):
            if path not in known:
                path.unlink()
