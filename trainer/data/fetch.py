"""Published data sets, downloaded and unpacked: `odcloud data fetch`.

A download goes on where it was interrupted (RFC 9110, section 14: range requests); what arrived is compared with the archive's
published MD5 before a byte of it is unpacked. The sums are those that torchvision checks (oxford_iiit_pet.py and voc.py in
torchvision/datasets); that of VOC 2007's test set is stated alike by many who use it.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import urlsplit

from trainer.data import folder, tfrecord, unpack
from trainer.errors import InputError

MARKER = ".fetched.json"
_COMMAND = "odcloud data fetch"
_PIECE = 1 << 18  # bytes read at once
_SECONDS = 60.0  # without a byte
_ATTEMPTS = 6  # in a row, none of which brought anything
_TRANSIENT = (408, 429, 500, 502, 503, 504)


class Archive(NamedTuple):
    url: str
    md5: str

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


class Published(NamedTuple):
    """form, source: what `odcloud data convert` is to be told, the source below the destination."""

    archives: tuple[Archive, ...]
    form: str
    source: str


_PETS = "https://www.robots.ox.ac.uk/~vgg/data/pets/data/"
_VOC = "http://host.robots.ox.ac.uk/pascal/VOC/"
DATASETS = {
    "pets": Published(
        (
            Archive(f"{_PETS}annotations.tar.gz", "95a8c909bbe2e81eed6a22bccdf3f68f"),
            Archive(f"{_PETS}images.tar.gz", "5c4f3ee8e5d25df40f4fd59a7f44e54c"),
        ),
        "pets",
        "",
    ),
    "voc2007": Published(
        (
            Archive(f"{_VOC}voc2007/VOCtrainval_06-Nov-2007.tar", "c52e279531787c972589f7e41ab4ae64"),
            Archive(f"{_VOC}voc2007/VOCtest_06-Nov-2007.tar", "b6e924de25625d8de591ea690078ad9f"),
        ),
        "voc",
        "VOCdevkit",
    ),
    "voc2012": Published(
        (Archive(f"{_VOC}voc2012/VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd"),), "voc", "VOCdevkit"
    ),
}


def fetch(name: str, destination: str, mirror: str | None, progress: Callable[[str, int, int], None]) -> dict[str, Any]:
    """Downloads and unpacks, or finds it done. mirror: an address that has the archives by their names.

    progress: called with (archive's name, bytes there, bytes in all or 0).
    Returns {"dataset", "destination", "files" unpacked, "source" for convert, "format", "up_to_date"}.
    Raises InputError: no network, no such file there, another checksum, an archive that would write elsewhere, disk full.
    """
    published = DATASETS[name]
    place = folder.prepare(destination)
    try:
        with folder.lock(place, _COMMAND):
            done = _marked(place)
            missing = [archive for archive in published.archives if done.get(archive.name, {}).get("md5") != archive.md5]
            for archive in missing:
                path = download(archive, place, mirror, progress)
                done[archive.name] = {"md5": archive.md5, "files": unpack.unpack(path, place)}
                folder.write_text(place / MARKER, json.dumps(done, indent=1) + "\n")
                path.unlink()
    except OSError as error:
        raise tfrecord.cannot_write(place, error) from error
    return {
        "dataset": name,
        "destination": destination,
        "files": sum(done[archive.name]["files"] for archive in published.archives),
        "source": str(place / published.source),
        "format": published.form,
        "up_to_date": not missing,
    }


def _marked(place: Path) -> dict[str, Any]:
    try:
        found = json.loads((place / MARKER).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) and all(isinstance(entry, dict) for entry in found.values()) else {}


def download(archive: Archive, place: Path, mirror: str | None, progress: Callable[[str, int, int], None]) -> Path:
    """The archive's file in `place`, its checksum compared; one that somebody has put there is taken. Raises InputError."""
    path = place / archive.name
    if path.is_file():
        if _md5(path) == archive.md5:
            return path
        raise InputError(f"{path}: has another checksum than the published {archive.md5}; remove it, and it is fetched again")
    url = f"{mirror.rstrip('/')}/{archive.name}" if mirror else archive.url
    partial = path.with_name(f"{archive.name}.partial")
    with partial.open("ab") as file:
        _receive(url, file, lambda there, total: progress(archive.name, there, total), path)
    found = _md5(partial)
    if found != archive.md5:
        partial.unlink()
        raise InputError(
            f"{url}: what arrived has the checksum {found}, published is {archive.md5}; it was thrown away. Run the command "
            "again; if that does not help, name another address with --from"
        )
    partial.replace(path)
    return path


def _receive(url: str, file: BinaryIO, progress: Callable[[int, int], None], path: Path) -> None:
    """Appends to the file what it lacks. Raises InputError when that fails for good, or too often in a row."""
    failures = 0
    while True:
        before = file.tell()
        try:
            if _receive_once(url, file, progress):
                return
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code not in _TRANSIENT:
                raise InputError(
                    f"{url}: the server answered {error.code} {error.reason}; name another address with --from"
                ) from error
            reason = f"the server answered {error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.filename is not None:  # the file's, not the connection's
                raise
            cause = getattr(error, "reason", None) or error
            reason = getattr(cause, "strerror", None) or str(cause) or type(error).__name__
            # Nobody there, or no network: waiting long helps no one.
            failures += isinstance(cause, ConnectionRefusedError | socket.gaierror)
        failures = 0 if file.tell() > before else failures + 1
        if failures >= _ATTEMPTS:
            host = urlsplit(url).netloc
            raise InputError(
                f"{url}: cannot be fetched: {reason}. Is there a network, and does it reach {host}? Otherwise copy the file to "
                f"{path}, or name a nearer address that has it with --from; what has arrived is kept"
            )
        time.sleep(random.uniform(0.2, 0.4) * 2 ** min(failures, 5))


def _receive_once(url: str, file: BinaryIO, progress: Callable[[int, int], None]) -> bool:
    """One request; whether the file is whole then."""
    there = file.tell()
    headers = {"User-Agent": "odcloud", "Accept-Encoding": "identity"}
    if there:
        headers["Range"] = f"bytes={there}-"
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if (error.headers.get("Content-Range") or "").rpartition("/")[2] == str(there):
            return True
        _restart(file)  # longer than what the server has: another file
        return False
    with answer:
        span = answer.headers.get("Content-Range") or ""
        if answer.status != 206 or not span.startswith(f"bytes {there}-"):
            _restart(file)  # the server knows no ranges
            there = 0
        length = answer.headers.get("Content-Length")
        total = there + int(length) if length and length.isdigit() else 0
        try:
            while piece := answer.read1(_PIECE):
                _append(file, piece)
                there += len(piece)
                progress(there, total)
        except http.client.IncompleteRead as error:
            _append(file, error.partial)
            return False
    return not total or there == total


def _append(file: BinaryIO, piece: bytes) -> None:
    try:
        file.write(piece)
        file.flush()
    except OSError as error:
        error.filename = file.name
        raise


def _restart(file: BinaryIO) -> None:
    file.truncate(0)
    file.seek(0)


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)  # what is published
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
