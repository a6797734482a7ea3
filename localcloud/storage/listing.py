"""Lists the objects of a bucket's folder in the order Cloud Storage gives: by name, as UTF-8 bytes compare."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Any

# a name in a listing: of an object, of a group that a delimiter makes, or (at `includeTrailingDelimiter`) of both
OBJECT, GROUP, BOTH = "object", "group", "both"


@dataclass
class Page:
    """`names` and `prefixes` in order; `last` is where the next page begins after, or None at the end."""

    names: list[str] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    last: str | None = None


def list_page(
    root: Path,
    *,
    prefix: str = "",
    delimiter: str = "",
    start: str = "",
    end: str = "",
    after: str = "",
    limit: int,
    matches: Callable[[str], Any] | None = None,
    trailing: bool = False,
    besides: Iterable[str] = (),
) -> Page:
    """Up to `limit` names and prefixes: from `start` on, before `end`, without what earlier pages gave (up to `after`).

    `matches` chooses among names and prefixes. With `trailing` an object that ends with the delimiter is not only a prefix.
    `besides`: names in order, under the prefix, that are listed as if they were files.
    """
    page = Page()
    walked = _walk(root, prefix, delimiter, max(start, after))
    if besides:
        walked = _once(merge(walked, ((name, False) for name in besides)))
    entries = _grouped(walked, prefix, delimiter, trailing)
    wanted = ((name, kind) for name, kind in entries if name >= start and name > after and not (end and name >= end))
    if matches:
        chosen = matches
        wanted = ((name, kind) for name, kind in wanted if chosen(name) or (kind != OBJECT and chosen(name.rstrip(delimiter))))
    found = list(islice(wanted, limit + 1))
    for name, kind in found[:limit]:
        if kind != GROUP:
            page.names.append(name)
        if kind != OBJECT:
            page.prefixes.append(name)
    if len(found) > limit:
        page.last = found[limit - 1][0]
    return page


def has_objects(folder: Path) -> bool:
    """Whether there is any file in the folder or below it."""
    return any(True for _ in _files(str(folder), "", "", "", ""))


def _once(entries: Iterable[tuple[str, bool]]) -> Iterator[tuple[str, bool]]:
    previous = None
    for entry in entries:
        if entry != previous:
            previous = entry
            yield entry


def leads_out(bucket: str, folder: str) -> bool:
    """Whether a symbolic link is in the way to a folder of a bucket ("": the bucket's own)."""
    end = len(folder)
    while end > 0:
        if os.path.islink(f"{bucket}/{folder[:end]}"):  # noqa: PTH114 — a Path for each would take longer than the look
            return True
        end = folder.rfind("/", 0, end)
    return False


def is_nameable(name: str) -> bool:
    """Whether an object can have a name with what this file's or folder's is: one that is not UTF-8 JSON cannot even say."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\n" not in name and "\r" not in name


def _walk(root: Path, prefix: str, delimiter: str, after: str) -> Iterator[tuple[str, bool]]:
    """(name, is a group) for each object under the prefix. A folder that is one group for the delimiter '/' is not read."""
    folder, _, _ = prefix.rpartition("/")
    if folder and (any(part in ("", ".", "..") for part in folder.split("/")) or leads_out(str(root), folder)):
        return iter(())
    base = f"{folder}/" if folder else ""
    return _files(str(root / folder), base, prefix, delimiter, after)


def _files(folder: str, base: str, prefix: str, delimiter: str, after: str) -> Iterator[tuple[str, bool]]:
    try:
        with os.scandir(folder) as entries:
            # a folder's objects sort as its name with '/', which differs from its own place: "a.b" < "a/b"
            found = sorted(
                (entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name, entry)
                for entry in entries
                if is_nameable(entry.name)
            )
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:  # no folder has such a name
            raise
        return
    for name, entry in found:
        full = base + name
        if not (full.startswith(prefix) or prefix.startswith(full)):
            continue
        if not name.endswith("/"):
            if entry.is_file(follow_symlinks=False) and full.startswith(prefix):
                yield full, False
        elif full < after and not after.startswith(full):
            continue  # everything in it comes before what is wanted
        elif delimiter == "/" and len(full) > len(prefix):
            if any(True for _ in _files(entry.path, full, "", "", "")):
                yield full, True
        else:
            yield from _files(entry.path, full, prefix, delimiter, after)


def _grouped(entries: Iterator[tuple[str, bool]], prefix: str, delimiter: str, trailing: bool) -> Iterator[tuple[str, str]]:
    """Joins names that share their beginning up to the first delimiter after the prefix."""
    previous = None
    for name, group in entries:
        position = name.find(delimiter, len(prefix)) if delimiter and not group else -1
        if position < 0:
            previous = name if group else previous
            yield name, GROUP if group else OBJECT
            continue
        joined = name[: position + len(delimiter)]
        if joined != previous:
            previous = joined
            # in the order of names the object that has the group's own name comes first
            yield joined, BOTH if trailing and joined == name else GROUP
