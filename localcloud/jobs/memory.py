"""How much memory jobs need and this machine has, which decides how many run at once."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from localcloud.jobs import cluster
from localcloud.jobs.cluster import EVALUATOR_POOL

GIB = 2**30
# The chief, 9 workers and 3 parameter servers of a small detector took 6.1 GiB together, so half a GiB each; the first
# one, and an evaluator, hold more when they are the ones that compute.
MODEL_BYTES = 3 * GIB // 2
SERVER_BYTES = GIB // 2
SHARE = 0.8  # of the machine's memory; the rest is for the system, the local cloud itself and its user

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def estimate(spec: Mapping[str, Any]) -> int:
    """The bytes that a job's replicas are expected to need: what a CustomJobSpec's machines would have says nothing of it."""
    return sum(MODEL_BYTES if each.pool in (0, EVALUATOR_POOL) else SERVER_BYTES for each in cluster.replicas(spec))


def capacity() -> int:
    """The bytes that jobs may use together: a share of the machine's memory, or of the container's that this runs in."""
    total = int(psutil.virtual_memory().total)
    for path in _CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            total = min(total, int(Path(path).read_text()))
    return int(total * SHARE)


def gib(size: int) -> str:
    """`7.5 GiB`."""
    return f"{size / GIB:.1f} GiB"
