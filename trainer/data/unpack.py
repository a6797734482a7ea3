"""Tar archives from elsewhere, unpacked below one folder and nowhere else."""

from __future__ import annotations

import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from trainer.errors import InputError

MAX_BYTES = 64 << 30  # of all members; VOC 2012 has 2 GiB
MAX_MEMBERS = 1_000_000


def unpack(path: Path, place: Path) -> int:
    """Unpacks files and folders; returns how many files. Existing files are replaced, so it may be repeated.

    Raises InputError naming archive and member: not a tar archive or damaged; a member that is neither file nor folder, whose
    name leads out of the folder, or that lies behind a symbolic link there; too much of it. Raises OSError: disk full, ….
    """
    count = size = members = 0
    root = place.resolve()
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                members += 1
                size += member.size
                target = _target(member, root, path)
                if size > MAX_BYTES or members > MAX_MEMBERS:
                    raise InputError(f"{path}: holds more than {MAX_BYTES} bytes or {MAX_MEMBERS} files; it is refused")
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                _write(archive, member, target)
                count += 1
    except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise InputError(f"{path}: is not a whole tar archive: {error}; remove it, and it is fetched again") from error
    return count


def _target(member: tarfile.TarInfo, root: Path, path: Path) -> Path:
    name = PurePosixPath(member.name)
    if not (member.isfile() or member.isdir()):
        raise InputError(f"{path}: {member.name!r} is neither a file nor a folder; the archive is refused")
    if name.is_absolute() or ".." in name.parts or not member.name.isprintable():
        raise InputError(f"{path}: {member.name!r} would be written outside of {root}; the archive is refused")
    target = root.joinpath(*name.parts)
    if not target.parent.resolve().is_relative_to(root) or target.is_symlink():
        raise InputError(f"{path}: {member.name!r} lies behind a symbolic link in {root}; remove that")
    return target


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = archive.extractfile(member)
    assert source is not None
    partial = target.with_name(f".{target.name}.partial")
    try:
        with source, partial.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
