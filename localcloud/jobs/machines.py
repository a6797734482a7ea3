"""What a machine type has: memory, virtual CPUs, and what a worker pool's disk holds. Pure.

Source: Compute Engine's pages "General-purpose machine family", "Compute-optimized …" and "GPU machine types".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GIB = 2**30
DEFAULT_DISK_GIB = 100  # Vertex AI's bootDiskSizeGb when none is given

# GiB of memory for each virtual CPU, whose number ends the type's name
_PER_CPU: dict[str, float] = {
    "n1-standard": 3.75,
    "n1-highmem": 6.5,
    "n1-highcpu": 0.9,
    "c4-standard": 3.75,
    "c4-highmem": 7.75,
    "c4-highcpu": 2,
    **{f"{family}-standard": 4 for family in ("e2", "n2", "n2d", "c2", "c2d", "c3", "c3d", "g2", "t2d")},
    **{f"{family}-highmem": 8 for family in ("e2", "n2", "n2d", "c2d", "c3", "c3d")},
    **{f"{family}-highcpu": 1 for family in ("e2", "n2", "n2d")},
    **{f"{family}-highcpu": 2 for family in ("c2d", "c3", "c3d")},
}
# (virtual CPUs, GiB) for each GPU, whose number ends the type's name: `a2-highgpu-4g`
_PER_GPU: dict[str, tuple[float, float]] = {
    "a2-highgpu": (12, 85),
    "a2-megagpu": (6, 85),
    "a2-ultragpu": (12, 170),
    "a3-highgpu": (26, 234),
    "a3-megagpu": (26, 234),
}


@dataclass(frozen=True)
class Size:
    """Virtual CPUs and bytes of memory; None where the type is not known."""

    cpus: int | None = None
    memory: int | None = None


def size_of(machine_type: str) -> Size:
    """What a machine type has, e.g. `n1-standard-4`: 4 CPUs and 15 GiB."""
    match = re.fullmatch(r"(\w+-[a-z]+)-(\d+)(g?)(-lssd)?", machine_type)
    if match is None:
        return Size()
    kind, count = match[1], int(match[2])
    if match[3] and kind in _PER_GPU:
        cpus, memory = _PER_GPU[kind]
        return Size(int(cpus * count), int(memory * count * GIB))
    if not match[3] and kind in _PER_CPU:
        return Size(count, int(_PER_CPU[kind] * count * GIB))
    return Size()


def disk_of(pool: Mapping[str, Any]) -> int:
    """The bytes that the boot disk of a worker pool's machines holds."""
    return int(pool.get("diskSpec", {}).get("bootDiskSizeGb") or DEFAULT_DISK_GIB) * GIB


def gpus_of(pool: Mapping[str, Any]) -> int:
    """How many GPUs each machine of a worker pool has; TPUs do not count."""
    machine = pool.get("machineSpec", {})
    if str(machine.get("acceleratorType", "")).startswith("TPU"):
        return 0
    return int(machine.get("acceleratorCount", 0))
