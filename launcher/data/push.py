"""`odcloud data push`: a folder's files to a bucket, in parallel, each sent only if it isn't there with the same checksum."""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.errors import UserError
from launcher.google.api import ATTEMPTS, Google, GoogleError, pause, split
from launcher.stack.lookup import outputs
from launcher.terminal import size

_THREADS = 8
_PART = 8 << 20  # bytes of a part of a resumable upload, a multiple of 256 KiB; smaller files go in one request
_READ = 1 << 20


@dataclass(frozen=True)
class Target:
    """Where a file goes."""

    path: Path
    bucket: str
    name: str

    @property
    def uri(self) -> str:
        return f"gs://{self.bucket}/{self.name}"


class Progress:
    """A line that counts bytes: redrawn on a terminal, otherwise said every ten seconds. Also how threads are told to stop."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.stopped = total, 0, False
        self._lock, self._start, self._next = threading.Lock(), time.monotonic(), 0.0
        self._live = sys.stderr.isatty()

    def add(self, count: int) -> None:
        """Raises KeyboardInterrupt in the thread that sends, once the user has interrupted."""
        with self._lock:
            self.done += count
            now = time.monotonic() - self._start
            if now >= self._next:
                self._next = now + (0.1 if self._live else 10.0)
                if self._live or now > 1:
                    text = f"{size(self.done)} of {size(self.total)} · {size(self.done / max(now, 0.1))}/s"
                    print(
                        f"\r\033[K{text}" if self._live else text, end="" if self._live else "\n", file=sys.stderr, flush=True
                    )
        if self.stopped:
            raise KeyboardInterrupt

    def close(self) -> None:
        if self._live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def push(folder: Path, destination: str | None, stack: str | None, form: str) -> int:
    """The command; the exit code. Raises UserError, GoogleError."""
    files = _files(folder)
    google, place = _where(destination, stack)
    bucket, prefix = split(place)
    targets = [Target(path, bucket, f"{prefix}/{path.relative_to(folder).as_posix()}".lstrip("/")) for path in files]
    there = _there(google, bucket, prefix)
    progress = Progress(sum(path.stat().st_size for path in files))
    sent = _push_all(google, targets, there, progress)
    others = sorted(set(there) - {target.name for target in targets})
    strays = [name for name in others if name.startswith(f"{prefix}/" if prefix else "") and ".tfrecord" in name]
    result = {
        "destination": place,
        "files": len(targets),
        "bytes": progress.total,
        "sent": [target.uri for target in sent],
        "alreadyThere": len(targets) - len(sent),
    }
    if form == "json":
        print(json.dumps(result))
    else:
        already = len(targets) - len(sent)
        print(f"{place}: {len(targets)} files of {size(progress.total)}; {len(sent)} sent, {already} already there.")
    if strays:
        shown = ", ".join(strays[:3]) + (f" and {len(strays) - 3} more" if len(strays) > 3 else "")
        print(f"odcloud: warning: gs://{bucket} also has {shown}; if a pattern matches both, both are read", file=sys.stderr)
    return 0


def _files(folder: Path) -> list[Path]:
    """Every file below, but hidden ones. Raises UserError."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the one that `odcloud data convert` wrote to")
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not files:
        raise UserError(f"{folder}: is empty; make the dataset first (odcloud data --help)")
    for path in files:
        if not path.relative_to(folder).as_posix().isprintable():
            raise UserError(f"{str(path)!r}: has a character that no object's name may have; rename it")
    summary = folder / "dataset.json"
    if summary in files and '"complete": false' in summary.read_text(encoding="utf-8", errors="replace"):
        raise UserError(f"{folder}: the dataset is not finished; run the `odcloud data` command that makes it once more")
    return files


def _where(destination: str | None, stack: str | None) -> tuple[Google, str]:
    if destination is None:
        found = outputs(stack)
        return Google(found.region, found.endpoints), found.data_dir
    if not destination.startswith("gs://") or not destination.removeprefix("gs://").partition("/")[0]:
        raise UserError(f"{destination}: must be gs://BUCKET or gs://BUCKET/FOLDER")
    return Google("us-central1"), destination.rstrip("/")


def _there(google: Google, bucket: str, prefix: str) -> dict[str, Mapping[str, Any]]:
    """The objects under the prefix by name. Raises UserError when there is no such bucket, GoogleError."""
    params = {"prefix": f"{prefix}/"} if prefix else {}
    fields = "items(name,size,crc32c,generation),nextPageToken"
    try:
        items = google.pages("storage.objects.list", "items", bucket=bucket, fields=fields, **params)
        return {item["name"]: item for item in items}
    except GoogleError as error:
        if error.status == 404:
            raise UserError(f"the bucket gs://{bucket} does not exist; `pulumi up` makes the stack's") from error
        raise


def _push_all(
    google: Google, targets: list[Target], there: Mapping[str, Mapping[str, Any]], progress: Progress
) -> list[Target]:
    """Returns what was sent. The first error ends it; what was sent by then is kept."""
    pool = ThreadPoolExecutor(_THREADS)
    waiting = {pool.submit(_push_one, google, target, there.get(target.name), progress): target for target in targets}
    sent = []
    try:
        while waiting:
            done, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in done:
                target = waiting.pop(future)
                if future.result():
                    sent.append(target)
    finally:
        progress.stopped = True
        pool.shutdown(cancel_futures=True)
        progress.close()
    return sorted(sent, key=lambda target: target.name)


def _push_one(google: Google, target: Target, present: Mapping[str, Any] | None, progress: Progress) -> bool:
    """Whether the file had to be sent. Raises UserError, GoogleError."""
    checksum = crc32c(target.path)
    length = target.path.stat().st_size
    if present and present.get("crc32c") == checksum and int(present.get("size", -1)) == length:
        progress.add(length)
        return False
    try:
        made = _send(google, target, int(present["generation"]) if present else 0, length, progress)
    except GoogleError as error:
        if error.status != 412:
            raise
        # Somebody else's upload, or one's own whose answer was lost.
        made = google.call("storage.objects.get", bucket=target.bucket, object=target.name)
        if made.get("crc32c") != checksum:
            raise UserError(f"{target.uri}: somebody else has just written it; run the command again") from error
    if made.get("crc32c") != checksum:
        raise UserError(f"{target.path}: arrived with another checksum; is something still writing it? Run the command again")
    return True


def _send(google: Google, target: Target, generation: int, length: int, progress: Progress) -> Mapping[str, Any]:
    kind = "text/plain; charset=utf-8" if target.path.suffix in (".pbtxt", ".json") else "application/octet-stream"
    if length <= _PART:
        content = target.path.read_bytes()
        made: Mapping[str, Any] = google.upload(target.bucket, target.name, content, kind, if_generation=generation)
        progress.add(length)
        return made
    url = google.begin_upload(target.bucket, target.name, kind, if_generation=generation)
    with target.path.open("rb") as file:
        arrived, failures = 0, 0
        while True:
            try:
                answer = google.upload_part(url, _part(file.fileno(), arrived), arrived, length)
            except GoogleError as error:
                failures += 1
                if not error.transient or failures >= ATTEMPTS:
                    raise
                time.sleep(pause(failures, error.retry_after))
                answer = google.upload_part(url, b"", 0, length)  # how far did it come?
            if not isinstance(answer, int):
                progress.add(length - arrived)
                return answer
            failures = 0 if answer > arrived else failures
            progress.add(answer - arrived)
            arrived = answer


def _part(descriptor: int, start: int) -> bytes:
    return os.pread(descriptor, _PART, start)


def crc32c(path: Path) -> str:
    """A file's CRC32C as Cloud Storage writes it: base64 of four bytes, the highest first."""
    import google_crc32c

    digest = google_crc32c.Checksum()
    with path.open("rb") as file:
        for piece in _pieces(file):
            digest.update(piece)
    return base64.b64encode(digest.digest()).decode()


def _pieces(file: Any) -> Iterator[bytes]:
    while piece := file.read(_READ):
        yield piece
