"""A little disk space kept aside, so that the end of a job can be stored and told even when its output has filled the disk."""

from __future__ import annotations

import contextlib
from pathlib import Path

SIZE = 2 * 1024 * 1024  # bytes


def keep(home: Path) -> None:
    """Take the space unless it is taken already; without room for it, go on without."""
    path = _path(home)
    with contextlib.suppress(OSError):
        if not path.exists():
            try:
                path.write_bytes(b"\1" * SIZE)
            except OSError:
                path.unlink(missing_ok=True)


def release(home: Path) -> None:
    """Give the space back."""
    with contextlib.suppress(OSError):
        _path(home).unlink(missing_ok=True)


def _path(home: Path) -> Path:
    return home / "jobs" / "reserve"
