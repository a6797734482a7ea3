"""The folder of a data set: shards, label map and dataset.json, written by one process at a time and never half."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer.data import tfrecord
from trainer.errors import InputError

SUMMARY = "dataset.json"
LABEL_MAP = "label_map.pbtxt"
MAX_SHARDS = 1000

_SHARD = re.compile(r"^\.?.+-\d{5}-of-\d{5}\.tfrecord(\.partial)?$")
_PIECE = 1 << 20  # bytes read at once


def shard_name(split: str, index: int, count: int) -> str:
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord"


def prepare(destination: str) -> Path:
    """The local folder, made if absent. Raises InputError when it is no local folder or can't be made."""
    if "://" in destination:
        raise InputError(f"{destination}: must be a local folder; the data is made there and uploaded afterwards")
    folder = Path(destination)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{destination}: is a file; name a folder for the data set")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise tfrecord.cannot_write(folder, error) from error
    return folder


@contextmanager
def lock(folder: Path, command: str) -> Iterator[None]:
    """Two at once would write the same temporary files. The kernel drops the lock however the process ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise InputError(f"{folder}: another `{command}` is writing there; wait for it to end") from error
    finally:
        os.close(descriptor)


def make_room(folder: Path, known: bool, keep: Container[str] = ()) -> None:
    """Removes the shards that an earlier or interrupted run left, but for `keep`; never files that are not from here.

    known: whether dataset.json says whose they are.
    """
    present = [path for path in folder.iterdir() if _SHARD.match(path.name) and path.name not in keep]
    if present and not known:
        raise InputError(f"{folder}: already holds TFRecords without {SUMMARY}, so not from here; name another folder")
    for path in present:
        path.unlink()


def read_summary(folder: Path, dataset: str) -> dict[str, Any]:
    """dataset.json's content, {} if there is none. Raises InputError when it isn't that of this kind of data set."""
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{folder / SUMMARY}: cannot be read ({why}); remove it, or name another folder") from error
    if not isinstance(summary, dict) or not isinstance(summary.get("parameters"), dict):
        raise InputError(f"{folder / SUMMARY}: was not written by `odcloud data`; name another folder")
    other = summary["parameters"].get("dataset", dataset)
    if other != dataset:
        raise InputError(f"{folder / SUMMARY}: here is a data set of another kind ({other}); name another folder")
    return summary


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    write_text(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise tfrecord.cannot_write(path, error) from error


def is_intact(path: Path, digest: str) -> bool:
    """Whether the file is there with this SHA-256."""
    return path.is_file() and sha256(path) == digest


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
