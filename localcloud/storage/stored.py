"""What the store knows of one object, as a value and as a row of the database."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any


@dataclass(frozen=True)
class StoredObject:
    """One generation of an object. Times in microseconds since 1970: `deleted` is when it became noncurrent, None while it is
    the current one; `metadata`: the fields a client may set."""

    bucket: str
    name: str
    generation: int
    metageneration: int
    size: int
    mtime_ns: int
    created: int
    updated: int
    md5: str | None = None
    crc32c: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict, hash=False)
    deleted: int | None = None


COLUMNS = tuple(each.name for each in fields(StoredObject))
SCHEMA = """
        bucket TEXT NOT NULL, name TEXT NOT NULL,
        generation INTEGER NOT NULL, metageneration INTEGER NOT NULL,
        size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        created INTEGER NOT NULL, updated INTEGER NOT NULL,
        md5 TEXT, crc32c TEXT, metadata TEXT NOT NULL
"""
"""The columns' types, of all but `deleted`, which only a noncurrent generation has."""


def from_row(row: Any) -> StoredObject:
    """The object of a row, in which the metadata is JSON."""
    return StoredObject(**{**dict(row), "metadata": _metadata(row["metadata"])})


@lru_cache(1024)
def _metadata(text: str) -> dict[str, Any]:
    """Most objects have the same: it must not be changed."""
    read: dict[str, Any] = json.loads(text)
    return read


def values_of(stored: StoredObject, columns: tuple[str, ...]) -> tuple[Any, ...]:
    """An object as a row has it."""
    return tuple(json.dumps(stored.metadata) if column == "metadata" else getattr(stored, column) for column in columns)
