"""The folder that holds everything the local cloud keeps, and the server that may be running on it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from localcloud.errors import LocalCloudError

HOST = "127.0.0.1"
DEFAULT_PORT = 8791
SPACE = 4 << 20  # bytes that must be free for a start
FOLDERS = ("buckets", "uploads", "jobs", "environments", "pulumi-home", "pulumi-state")
# Every name that a state folder may hold, with those that are made later and tools/demo.sh's own.
OWN = (
    *FOLDERS,
    "generations",
    "pulumi-home-*",
    *(f"server.{what}" for what in ("json", "new", "lock", "log", "space-*")),
    "token",
    "application_default_credentials.*",
    "cloud.sqlite*",
    "demo-run",
)


@dataclass(frozen=True)
class Running:
    """What a running server says of itself in server.json; `started` is RFC 3339 in UTC."""

    pid: int
    port: int
    started: str

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


@dataclass(frozen=True)
class Home:
    """Names of the files and folders below the state folder. Nothing is created before `prepare`."""

    path: Path

    @property
    def server_file(self) -> Path:
        return self.path / "server.json"

    @property
    def lock_file(self) -> Path:
        return self.path / "server.lock"

    @property
    def token_file(self) -> Path:
        return self.path / "token"

    @property
    def credentials_file(self) -> Path:
        """What GOOGLE_APPLICATION_CREDENTIALS names; it holds no secret."""
        return self.path / "application_default_credentials.json"

    @property
    def database_file(self) -> Path:
        return self.path / "cloud.sqlite"

    @property
    def log_file(self) -> Path:
        return self.path / "server.log"

    @property
    def pulumi_home(self) -> Path:
        return self.path / "pulumi-home"

    @property
    def pulumi_state(self) -> Path:
        return self.path / "pulumi-state"

    def prepare(self) -> None:
        """Makes the folders and the token (readable by its owner only) if they are not there.

        Raises LocalCloudError, also for a folder that holds other things and never was a state folder.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not self.database_file.exists() and (others := self.strangers()):
                raise LocalCloudError(
                    f"{self.path} holds what is not the local cloud's ({', '.join(others[:3])}{', …' if others[3:] else ''}), "
                    "which keeps its state in a folder of its own: set ODCLOUD_HOME to a new or empty one"
                )
            for name in FOLDERS:
                (self.path / name).mkdir(exist_ok=True)
            self._try_space()
            self._make_token()
        except OSError as error:
            advice = "free some, or set ODCLOUD_HOME" if error.errno == errno.ENOSPC else "set ODCLOUD_HOME"
            where = "" if error.filename in (None, self.path, str(self.path)) else f"{error.filename}: "
            raise LocalCloudError(
                f"{self.path}: the state folder cannot be made: {where}{error.strerror}; {advice} to a folder elsewhere"
            ) from error

    def strangers(self) -> list[str]:
        """The names in the folder that are not the local cloud's."""
        return sorted(path.name for path in self.path.iterdir() if not any(fnmatch(path.name, own) for own in OWN))

    def _make_token(self) -> None:
        """If there is none. Of several processes that do this at once all get the same, and none half of it."""
        with os.fdopen(os.open(self.token_file, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not file.read():
                file.write(secrets.token_urlsafe(32))

    def _try_space(self) -> None:
        """Raises OSError where there is no room for a database and a log, which could not even say so."""
        with tempfile.TemporaryFile(dir=self.path, prefix="server.space-") as file:  # some file systems have no nameless ones
            os.posix_fallocate(file.fileno(), 0, SPACE)

    def last_port(self) -> int | None:
        """The port of the server that was started last, by the credentials that it wrote: where its clients still look."""
        try:
            return urlsplit(json.loads(self.credentials_file.read_text())["token_url"]).port
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def token(self) -> str:
        return self.token_file.read_text().strip()

    def lock(self, patience: float = 0.0) -> IO[str] | None:
        """Takes the lock a server holds as long as it lives; None when another process has it. Closing it gives it back."""
        file = self.lock_file.open("a")
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return file
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    file.close()
                    return None
            time.sleep(0.02)

    def locked(self) -> bool:
        """Whether a server (starting, serving or ending) lives on this folder."""
        if not self.lock_file.exists():
            return False
        lock = self.lock()
        if lock is None:
            return True
        lock.close()
        return False

    def running(self) -> Running | None:
        """The server that lives on this folder, or None; a server.json left by one that was killed counts for nothing."""
        if not self.locked():
            return None
        try:
            return Running(**json.loads(self.server_file.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write_running(self, running: Running) -> None:
        temporary = self.server_file.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(running)) + "\n")
        temporary.replace(self.server_file)


def find_home(environ: Mapping[str, str], start: Path) -> Home:
    """$ODCLOUD_HOME, else `.odcloud` beside the nearest Pulumi.yaml upward of `start`, else `.odcloud` in `start`."""
    if chosen := environ.get("ODCLOUD_HOME"):
        return Home(Path(chosen).expanduser().absolute())
    start = start.absolute()
    for folder in (start, *start.parents):
        if (folder / "Pulumi.yaml").is_file():
            return Home(folder / ".odcloud")
    return Home(start / ".odcloud")
