"""TFRecord files: a sequence of byte strings, each framed by its length and by checksums.

Per record (https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details), little-endian:
uint64 length · uint32 masked crc32c of those 8 bytes · length bytes · uint32 masked crc32c of them.

The framing is written out here because every library that has it costs more than it saves: TensorFlow takes seconds
to import, and TensorBoard's reader and writer compute the checksum in Python (some 0.1 s per MB).
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from trainer.errors import InputError

_HEADER = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8
_GZIP_MAGIC = b"\x1f\x8b"
_TAIL = 2**20  # in which the last record is looked for at first


def _masked_crc32c(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def write(path: Path, payloads: Iterable[bytes]) -> str:
    """Writes the records under a temporary name beside `path`, then renames: `path` is whole or absent.

    Returns the file's SHA-256 in hexadecimal digits. Raises InputError when the folder can't be written or the disk is full.
    """
    partial = path.with_name(f".{path.name}.partial")
    digest = hashlib.sha256()
    try:
        with partial.open("wb") as file:
            for data in payloads:
                header = struct.pack("<Q", len(data))
                parts = _HEADER.pack(len(data), _masked_crc32c(header)), data, _CHECKSUM.pack(_masked_crc32c(data))
                for part in parts:
                    file.write(part)
                    digest.update(part)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        partial.unlink(missing_ok=True)
    return digest.hexdigest()


def cannot_write(path: Path, error: OSError) -> InputError:
    """The error to show when writing `path` failed: what is wrong, where, what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError(f"{path}: no space left on the disk; free some and run the command again")
    return InputError(f"{path}: cannot be written: {error.strerror or error}; choose a folder that you may write to")


def read(path: str, payloads: int | None = None, *, unfinished: bool = False) -> Iterator[bytes]:
    """Yields the records of a file, each checked against its checksum.

    path: a local path, or a gs:// URI (read by TensorFlow, which is loaded for that).
    payloads: yield and check so many records; of the others only lengths and their checksums are followed to the end of
        the file, which finds a truncated file without reading all of it. None: every record.
    unfinished: the file may still be written to (event files), so an incomplete last record ends it quietly.

    Raises InputError naming the file and the record (counted from 1): not a TFRecord file, corrupt, truncated, unreadable.
    """
    try:
        with _open(path) as file:
            yield from _records(file, path, payloads, unfinished)
    except OSError as error:
        raise _unreadable(path, error) from error


def size(path: str) -> int:
    """Bytes of the file. Raises InputError when it cannot be read."""
    try:
        with _open(path) as file:
            return file.seek(0, os.SEEK_END)
    except OSError as error:
        raise _unreadable(path, error) from error


def check_end(path: str) -> None:
    """Checks that the file ends with a whole record, from the end back: of a large file little is read.

    The last record is found by its length, which says where the file ends, and is checked against its checksums.
    Raises InputError when there is none, as in a truncated file.
    """
    try:
        with _open(path) as file:
            whole = file.seek(0, os.SEEK_END)
            count = min(whole, _TAIL)
            while not _ends(_tail(file, whole, count)):
                if count == whole:
                    raise InputError(
                        f"{path}: its end is not that of a record: truncated or corrupt; make or copy the file again"
                    )
                count = min(whole, count * 16)
    except OSError as error:
        raise _unreadable(path, error) from error


def _tail(file: BinaryIO, whole: int, count: int) -> bytes:
    file.seek(whole - count)
    return file.read(count)


def _ends(tail: bytes) -> bool:
    """Whether a whole record begins somewhere in these bytes and ends where they end."""
    import numpy as np  # not for everyone who only reads records

    for shift in range(8):
        lengths = np.frombuffer(tail, "<u8", max(0, (len(tail) - shift) // 8), shift)
        starts = shift + 8 * np.arange(len(lengths), dtype=np.uint64)
        for start in starts[starts + lengths == len(tail) - _HEADER.size - _CHECKSUM.size].tolist():
            head, data = tail[start : start + _HEADER.size], tail[start + _HEADER.size : -_CHECKSUM.size]
            if _HEADER.unpack(head)[1] == _masked_crc32c(head[:8]):
                return _CHECKSUM.unpack(tail[-_CHECKSUM.size :])[0] == _masked_crc32c(data)
    return False


def _records(file: BinaryIO, path: str, payloads: int | None, unfinished: bool) -> Iterator[bytes]:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    number, offset = 0, 0
    while offset < size:
        number += 1
        head = file.read(_HEADER.size)
        if len(head) == _HEADER.size:
            length, checksum = _HEADER.unpack(head)
            if checksum != _masked_crc32c(head[:8]):
                raise _broken(path, number, offset, head)
        # The length is believed only after its checksum and the file's size agree: no allocation by a corrupt number.
        if len(head) < _HEADER.size or offset + _HEADER.size + length + _CHECKSUM.size > size:
            if unfinished:
                return
            if number == 1 and len(head) < _HEADER.size:
                raise _broken(path, number, offset, head)
            raise InputError(f"{path}: truncated in record {number} (at byte {offset} of {size}); make or copy the file again")
        offset += _HEADER.size + length + _CHECKSUM.size
        if payloads is not None and number > payloads:
            file.seek(offset)
            continue
        data = file.read(length)
        tail = file.read(_CHECKSUM.size)
        if len(data) < length or len(tail) < _CHECKSUM.size:
            raise InputError(f"{path}: became shorter while it was read (record {number}); is something still writing it?")
        if _CHECKSUM.unpack(tail)[0] != _masked_crc32c(data):
            raise InputError(f"{path}: record {number} is corrupt (checksum does not match); make or copy the file again")
        yield data


def _unreadable(path: str, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be read: {error.strerror or error}")


def _broken(path: str, number: int, offset: int, head: bytes) -> InputError:
    if number > 1:
        return InputError(f"{path}: corrupt at record {number} (byte {offset}); make or copy the file again")
    if head.startswith(_GZIP_MAGIC):
        return InputError(f"{path}: is gzip-compressed; records are read uncompressed, so decompress it first")
    return InputError(f"{path}: is not a TFRecord file (its first record has no valid length)")


def _open(path: str) -> BinaryIO:
    if "://" not in path:
        return Path(path).open("rb")
    return _RemoteFile(path)  # type: ignore[return-value]


class _RemoteFile:
    """TensorFlow's file object with the part of BinaryIO used here, and with OSError as Python's files raise it."""

    def __init__(self, path: str) -> None:
        import tensorflow as tf

        self._failures = (tf.errors.OpError,)
        self._file = tf.io.gfile.GFile(path, "rb")

    def __enter__(self) -> _RemoteFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, count: int) -> bytes:
        try:
            return self._file.read(count)
        except self._failures as error:
            raise OSError(error.message) from error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            self._file.seek(offset, whence)
            return self._file.tell()
        except self._failures as error:
            raise OSError(error.message) from error
