"""Which names buckets and objects may have.

Cloud Storage allows object names that no file can have; the local cloud refuses those before anything is written, and says why.
"""

from __future__ import annotations

import re
from functools import lru_cache

MAX_OBJECT_BYTES = 1024  # https://cloud.google.com/storage/docs/objects#naming
MAX_PART_BYTES = 255  # NAME_MAX of Linux and macOS file systems

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]*[a-z0-9]")


def bucket_fault(name: str) -> str | None:
    """Why this is no name for a bucket (https://cloud.google.com/storage/docs/buckets#naming), or None."""
    longest = 222 if "." in name else 63
    if not 3 <= len(name) <= longest or any(len(part) > 63 for part in name.split(".")):
        return f"it must have 3 to 63 characters (each part between dots, and {longest} in all)"
    if not _BUCKET.fullmatch(name):
        return "only lowercase letters, digits, '-', '_' and '.' are allowed, with a letter or a digit at both ends"
    if ".." in name:
        return "two dots stand side by side"
    if re.fullmatch(r"\d+(\.\d+){3}", name):
        return "it looks like an IP address"
    if name.startswith("goog") or "google" in name:
        return "it begins with 'goog' or contains 'google'"
    return None


@lru_cache(1024)
def object_fault(name: str) -> str | None:
    """Why a file below a bucket's folder cannot have this name, or None."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if not 1 <= len(encoded) <= MAX_OBJECT_BYTES:
        return f"it must have 1 to {MAX_OBJECT_BYTES} bytes"
    if any(character in name for character in "\0\r\n"):
        return "it contains a NUL, carriage return or line feed character"
    if name.startswith("/"):
        return "it begins with '/', and a file's path below the bucket cannot"
    if name.endswith("/"):
        return "it ends with '/', so it could only be a folder, and folders are no objects"
    for part in encoded.split(b"/"):
        if not part:
            return "it contains '//', and a folder needs a name"
        if part in (b".", b".."):
            return f"'{part.decode()}' as a part of it means another folder"
        if len(part) > MAX_PART_BYTES:
            return f"a part between slashes is longer than the {MAX_PART_BYTES} bytes a file's name can have"
    return None
