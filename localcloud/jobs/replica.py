"""One replica as a process of this machine: in a session of its own, found again after a restart of the server, ended whole.

Each replica runs under a shell that outlives the server and leaves the exit status in a file, so that a server that was killed
finds out what happened while it was away. Every process of a replica carries a marker in its environment, by which
even those that moved to another session are found.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from localcloud.jobs import limits

MARKER = "LOCALCLOUD_REPLICA"
KILLED = 128 + signal.SIGKILL
PREEMPTED = "preempted"  # the file that marks a replica whose machine is being taken away
# What of the server's own environment a replica must not see.
PRIVATE_PREFIXES = (
    "ODCLOUD_",
    "CLOUDSDK_",
    "PULUMI_",
    "GOOGLE_",
    "GCE_METADATA_",
    "API_ENDPOINT_OVERRIDE",
    "FSSPEC_",
    "GCSFS_",
    "LOCALCLOUD_",
    "VIRTUAL_ENV",
    "PYTHON",
)

# $0 is the file for the exit status. A signal to the group reaches the shell too: it must live until its child, which gets the
# default action back, has ended. The shell's own remarks ("Killed") are no output of the replica.
_SUPERVISOR = """
trap : TERM INT HUP QUIT
exec 3>&2 2>/dev/null
(exec "$@" 2>&3 3>&-)
status=$?
printf '%s\\n' "$status" > "$0.new" && mv -f "$0.new" "$0"
exit "$status"
"""


@dataclass
class Process:
    """A replica's supervising process: its id, when it was started (seconds since 1970, as psutil says), and its folder."""

    pid: int
    created: float
    folder: Path
    marker: str
    popen: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def exit_code(self) -> int | None:
        """None while the replica runs, else its exit code as a shell counts it (128+N when signal N ended it)."""
        status = self.popen.poll() if self.popen else None
        if status is None and (self.popen or self._is_running()):
            return None
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / "exit").read_text())
        if status is not None:  # the disk may be full
            return status if status >= 0 else 128 - status
        return KILLED  # the supervisor itself was killed

    def sessions(self) -> set[int]:
        """The session of the replica, when no other process can have got its id meanwhile."""
        return {self.pid} if self.popen else set()

    def kill(self) -> None:
        """End every process of the replica at once."""
        send(members(self.sessions(), lambda marker: marker == self.marker), signal.SIGKILL)

    @property
    def preempted(self) -> bool:
        """Whether its machine is being taken away."""
        return (self.folder / PREEMPTED).exists()

    def mark_preempted(self) -> None:
        """Keep that its machine is being taken away, also for another server. A full disk is passed over."""
        with contextlib.suppress(OSError):
            (self.folder / PREEMPTED).touch()

    def _is_running(self) -> bool:
        """Whether the process with this id is the one meant, not a later one with the same id."""
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            marker = _marker(process)  # some systems hide the environment; a clock that was set shifts the time of creation
            return marker == self.marker if marker is not None else abs(process.create_time() - self.created) < 2
        except psutil.Error:
            return False


def spawn(command: Sequence[str], folder: Path, environment: Mapping[str, str], marker: str) -> Process:
    """Start a replica: `command` in `folder`/work, its output appended to `folder`/stdout.log and stderr.log.

    It inherits the server's environment but for what is the server's alone. Raises OSError.
    """
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    for leftover in ("exit", "exit.new", limits.REASON, PREEMPTED):
        (folder / leftover).unlink(missing_ok=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE_PREFIXES)}
    with (folder / "stdout.log").open("ab") as out, (folder / "stderr.log").open("ab") as err:
        popen = subprocess.Popen(
            ["/bin/sh", "-c", _SUPERVISOR, str(folder / "exit"), *command],
            cwd=work,
            env={**inherited, **environment, MARKER: marker},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    try:
        created = psutil.Process(popen.pid).create_time()
    except psutil.Error:  # already gone
        created = 0.0
    return Process(popen.pid, created, folder, marker, popen)


def adopt(pid: int, created: float, folder: Path, marker: str) -> Process:
    """The process of a replica that another server started; it may have ended since."""
    return Process(pid, created, folder, marker)


def search_path() -> str:
    """The PATH that replicas inherit."""
    return os.environ.get("PATH", os.defpath)


def members(sessions: Collection[int], belongs: Callable[[str], bool]) -> list[psutil.Process]:
    """The living processes of some sessions, and those whose marker belongs, wherever they are."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                marker = _marker(process)
                if (marker is not None and belongs(marker)) or _session(process.pid) in sessions:
                    found.append(process)
    return found


def kill_all(home: Path, but: Collection[str] = ()) -> None:
    """End every process of a home's replicas at once, but for those with these markers."""
    send(members((), lambda marker: marker.startswith(f"{home}:") and marker not in but), signal.SIGKILL)


def send(processes: Iterable[psutil.Process], number: int) -> None:
    """Send a signal to processes; those that have ended meanwhile are passed over."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _marker(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARKER)
    except (psutil.Error, OSError):
        return None
