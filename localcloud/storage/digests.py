"""The two checksums Cloud Storage keeps of an object, base64 as its API writes them."""

from __future__ import annotations

import base64
import hashlib
from typing import BinaryIO

import google_crc32c

CHUNK = 1 << 20


class Digests:
    """Feed it bytes in order. `size` counts them."""

    def __init__(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._crc = google_crc32c.Checksum()
        self.size = 0

    def update(self, data: bytes) -> None:
        self._md5.update(data)
        self._crc.update(data)
        self.size += len(data)

    @property
    def md5(self) -> str:
        return base64.b64encode(self._md5.digest()).decode()

    @property
    def crc32c(self) -> str:
        """Big-endian, as in the API's `crc32c` field."""
        return base64.b64encode(self._crc.digest()).decode()


def digest_file(file: BinaryIO) -> Digests:
    """The checksums of an open file from its current position to its end."""
    digests = Digests()
    while chunk := file.read(CHUNK):
        digests.update(chunk)
    return digests
