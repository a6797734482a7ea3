"""One SQLite file for everything the local cloud remembers.

Each service registers the tables it needs when it is imported; the database creates them when it is opened. Writes go through
a write-ahead log, so what a client was told is kept even when the process is killed the next moment.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from localcloud.errors import LocalCloudError

SEEN = 4096  # rows that are remembered
T = TypeVar("T")

_schemas: list[str] = []


def register_schema(sql: str) -> None:
    """Adds `CREATE TABLE IF NOT EXISTS …` statements that every database opened from now on runs."""
    if sql not in _schemas:
        _schemas.append(sql)


def _regexp(pattern: str, value: Any) -> bool | None:
    """SQL's `value REGEXP pattern`."""
    return None if value is None else re.search(pattern, str(value)) is not None


class Database:
    """A thread-safe SQLite connection. Rows are `sqlite3.Row`: read columns by name.

    One lock, `lock`, orders all access: a transaction is never seen half-done by another thread. What must not change between
    a look at the database and a write of something else holds it as well, so that two threads never wait for each other.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file, and makes what is not there yet. Raises LocalCloudError when it is no database, or a damaged one."""
        self.lock = threading.RLock()
        self._depth = 0
        self._seen: dict[tuple[Any, ...], Any] = {}
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
        self._connection.row_factory = sqlite3.Row
        self._connection.create_function("regexp", 2, _regexp, deterministic=True)
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            for schema in _schemas:
                self._connection.executescript(schema)
        except sqlite3.DatabaseError as error:
            raise LocalCloudError(f"{path} cannot be used: {error}; `odcloud local reset` begins afresh") from error

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Runs one statement (a transaction of its own outside `transaction()`) and returns the number of rows it changed."""
        with self.lock:
            self._seen.clear()
            return self._connection.execute(sql, parameters).rowcount

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """All rows of a SELECT."""
        with self.lock:
            return self._connection.execute(sql, parameters).fetchall()

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Row | None:
        """The first row of a SELECT, or None."""
        with self.lock:
            row: sqlite3.Row | None = self._connection.execute(sql, parameters).fetchone()
            return row

    def look(self, read: Callable[[sqlite3.Row], T], sql: str, *parameters: Any) -> T | None:
        """What `read` makes of the first row of a SELECT, which must not be changed; None when there is no row.

        It is remembered until the next write: only one process, the server, writes.
        """
        key = (read, sql, *parameters)
        try:
            return self._seen[key]  # no lock: a write empties this before it is done
        except KeyError:
            pass
        with self.lock:
            row = self.one(sql, parameters)
            found = None if row is None else read(row)
            if not self._depth:  # what a transaction has written may still be undone
                if len(self._seen) >= SEEN:
                    self._seen.clear()
                self._seen[key] = found
            return found

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: commits at the end of the block, rolls back when it raises. A block inside another joins it."""
        with self.lock:
            if self._depth == 0:
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                if self._depth == 1 and self._connection.in_transaction:  # a full disk has rolled it back already
                    self._connection.execute("ROLLBACK")
                raise
            else:
                if self._depth == 1:
                    self._connection.execute("COMMIT")
            finally:
                self._depth -= 1

    def close(self) -> None:
        with self.lock:
            self._connection.close()
