"""Where a path that somebody named really is: the one module that knows of bucket mounts.

Everything is named by `gs://BUCKET/OBJECT`. Vertex AI mounts each bucket as the folder `/gcs/BUCKET`; another place is named by
the variable GCS_ROOT. Where there is no such folder, `gs://` stays as it is, for TensorFlow's own reader.
"""

from __future__ import annotations

import os
from pathlib import Path

SCHEME = "gs://"
DEFAULT_ROOT = "/gcs"


def resolve(path: str) -> str:
    """The path to open: `gs://B/x` becomes `$GCS_ROOT/B/x` if the folder `$GCS_ROOT/B` exists; any other path is unchanged."""
    if not path.startswith(SCHEME):
        return path
    bucket, _, name = path.removeprefix(SCHEME).partition("/")
    mount = Path(os.environ.get("GCS_ROOT") or DEFAULT_ROOT) / bucket
    if not bucket or not mount.is_dir():
        return path
    return str(mount / name) if name else str(mount)


def is_remote(path: str) -> bool:
    """True for a path that only TensorFlow's file systems can open (gs:// without a mount)."""
    return "://" in path


def join(folder: str, *names: str) -> str:
    """A path below `folder`, which may be a gs:// URI."""
    return "/".join([folder.rstrip("/"), *names])
