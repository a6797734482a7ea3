"""Objects of buckets as files, for the trainer's commands: laid out as a mount of the buckets, which is what the trainer reads.

(Its own reader of gs:// is TensorFlow's, which takes seconds to load and knows no other endpoint than Google's.)
"""

from __future__ import annotations

import fnmatch
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from launcher.errors import UserError
from launcher.google.api import Google, GoogleError, split
from launcher.terminal import say, size

_THREADS = 4
_SCHEME = "gs://"
_WILD = "*?["


def with_fetched(module: str, arguments: Sequence[str], below: bool = False) -> int:
    """Runs `python -m MODULE ARGUMENTS`, the gs:// among them fetched before. Returns its exit code, or is replaced by it.

    below: of a folder also what is in the folders below it.
    """
    command = [sys.executable, "-m", module, *arguments]
    uris = [word.partition("=")[2] if word.startswith("--") else word for word in arguments]
    uris = [uri for uri in uris if uri.startswith(_SCHEME) and not _is_mounted(uri)]
    if not uris:
        sys.stdout.flush()
        os.execv(sys.executable, command)
    with tempfile.TemporaryDirectory(prefix="odcloud-data-") as name:
        google = Google("us-central1")
        for uri in uris:
            fetch(google, uri, Path(name), below)
        return subprocess.run(command, env={**os.environ, "GCS_ROOT": name}, check=False).returncode


def _is_mounted(uri: str) -> bool:
    root = Path(os.environ.get("GCS_ROOT") or "/gcs")
    return (root / uri.removeprefix(_SCHEME).partition("/")[0]).is_dir()


def fetch(google: Google, uri: str, root: Path, below: bool = False) -> None:
    """Downloads an object, the objects of a folder (of those below only if asked for), or those that a pattern matches."""
    bucket, path = split(uri)
    path = path.rstrip("/")
    literal = path[: min((path.index(character) for character in _WILD if character in path), default=len(path))]
    try:
        items = list(google.pages("storage.objects.list", "items", bucket=bucket, prefix=literal, fields=_FIELDS))
    except GoogleError as error:
        if error.status == 404:
            raise UserError(f"{uri}: there is no bucket {bucket}") from error
        raise
    wanted = [item for item in items if _matches(item["name"], path, below)]
    if not wanted:
        raise UserError(f"{uri}: nothing is there; `odcloud data push DIR {uri}` uploads a folder")
    missing = [item for item in wanted if not (root / bucket / item["name"]).exists()]
    total = sum(int(item["size"]) for item in missing)
    free = os.statvfs(root).f_bavail * os.statvfs(root).f_frsize
    if total > free:
        raise UserError(f"{uri}: {size(total)} would be downloaded to {root}, which has {size(free)} left; set TMPDIR")
    say(f"Fetching {len(missing)} files of {size(total)} from {uri}")

    def download(item: Any) -> None:
        target = inside(root, bucket, item["name"], f"{bucket}/{item['name']}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(google.download(bucket, item["name"]))

    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(download, missing))


def inside(folder: Path, bucket: str, name: str, below: str) -> Path:
    """The file in `folder`, at `below`, that an object is copied to. Raises UserError where its name leads out of it."""
    path = (folder / below).resolve()
    if not path.is_relative_to(folder.resolve()):  # an object may be called ../../x
        raise UserError(f"gs://{bucket}/{name}: an object of that name cannot be a file; remove it")
    return path


_FIELDS = "items(name,size),nextPageToken"


def _matches(name: str, path: str, below: bool) -> bool:
    if name.endswith("/"):
        return False
    folder = f"{path}/" if path else ""
    if name == path or (name.startswith(folder) and (below or "/" not in name.removeprefix(folder))):
        return True
    return name.count("/") == path.count("/") and fnmatch.fnmatchcase(name, path)
