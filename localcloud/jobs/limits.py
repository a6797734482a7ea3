"""Memory and disk of replicas, measured where nothing else holds them to their machine's: processes', and containers' disk.

A replica that takes more than its machine type has is stopped, as Vertex AI's would be. Why is kept in a file beside its exit
status, where the engine's word on a container that ran out of memory is kept too.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from localcloud.jobs.memory import gib

OUT_OF_MEMORY = "out-of-memory"
OUT_OF_DISK = "out-of-disk"
DISK_POLL = 10.0  # seconds between two looks at what a replica's files take
REASON = "stopped"  # the file: one of the words above, a space, and the details


def memory(sessions: Collection[int]) -> dict[int, int]:
    """The bytes of memory that the processes of each session hold for themselves."""
    found = dict.fromkeys(sessions, 0)
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):
            session = os.getsid(pid)
            if session in found:
                found[session] += _own(psutil.Process(pid))
    return found


def memory_exactly(session: int) -> int:
    """As `memory` of one session, but what its processes share with each other is counted once. Slow."""
    total = 0
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(pid) == session:
                process = psutil.Process(pid)
                own = _own(process)
                total += min(own, getattr(process.memory_full_info(), "pss", own))
    return total


def disk(folder: Path) -> int:
    """The bytes that files below a folder take on the disk; links are not followed."""
    total = 0
    folders = [str(folder)]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


def over_disk(taken: int, limit: int) -> str:
    """The details of OUT_OF_DISK, both in bytes."""
    return f"Its files take {gib(taken)}, and its boot disk holds {gib(limit)} (bootDiskSizeGb)."


def note(folder: Path, word: str, details: str) -> None:
    """Keep why a replica is stopped. A full disk is passed over."""
    with contextlib.suppress(OSError):
        (folder / REASON).write_text(f"{word} {details}")


def noted(folder: Path) -> tuple[str, str] | None:
    """The word and the details that `note` kept of a replica since it was last started."""
    try:
        word, _, details = (folder / REASON).read_text().partition(" ")
    except OSError:
        return None
    return word, details


def _own(process: psutil.Process) -> int:
    info = process.memory_info()
    return int(info.rss - getattr(info, "shared", 0))
