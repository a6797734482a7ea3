"""What a machine type has: memory, virtual CPUs, GPUs, and what a worker pool's disk holds. Pure.

Source: Compute Engine's pages "General-purpose machine family", "Compute-optimized …" and "GPU machine types".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

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
# How many virtual CPUs there are types with, of a kind or else of its family.
_CPUS: dict[str, tuple[int, ...]] = {
    "n1-standard": (1, 2, 4, 8, 16, 32, 64, 96),
    "n1": (2, 4, 8, 16, 32, 64, 96),
    "e2-highmem": (2, 4, 8, 16),
    "e2": (2, 4, 8, 16, 32),
    "n2-highcpu": (2, 4, 8, 16, 32, 48, 64, 80, 96),
    "n2": (2, 4, 8, 16, 32, 48, 64, 80, 96, 128),
    "n2d-highmem": (2, 4, 8, 16, 32, 48, 64, 80, 96),
    "n2d": (2, 4, 8, 16, 32, 48, 64, 80, 96, 128, 224),
    "c2": (4, 8, 16, 30, 60),
    "c2d": (2, 4, 8, 16, 32, 56, 112),
    "c3": (4, 8, 22, 44, 88, 176),
    "c3d": (4, 8, 16, 30, 60, 90, 180, 360),
    "c4": (2, 4, 8, 16, 24, 32, 48, 96, 144, 192, 288),
    "t2d": (1, 2, 4, 8, 16, 32, 48, 60),
    "g2": (4, 8, 12, 16, 24, 32, 48, 96),
}
# (virtual CPUs, GiB) for each GPU, whose number ends the type's name, `a2-highgpu-4g`, and how many GPUs there are types with
_PER_GPU: dict[str, tuple[float, float, tuple[int, ...]]] = {
    "a2-highgpu": (12, 85, (1, 2, 4, 8)),
    "a2-megagpu": (6, 85, (16,)),
    "a2-ultragpu": (12, 170, (1, 2, 4, 8)),
    "a3-highgpu": (26, 234, (1, 2, 4, 8)),
    "a3-edgegpu": (26, 234, (8,)),
    "a3-megagpu": (26, 234, (8,)),
    "a3-ultragpu": (28, 369, (8,)),
    "a4-highgpu": (28, 496, (8,)),
}
# Vertex AI's names of the GPUs that machines of a kind, or else of its family, can have; any other has none.
_ACCELERATORS: dict[str, frozenset[str]] = {
    "n1": frozenset(f"NVIDIA_TESLA_{name}" for name in ("K80", "P4", "P100", "T4", "V100")),
    "g2": frozenset({"NVIDIA_L4"}),
    "g4": frozenset({"NVIDIA_RTX_PRO_6000"}),
    "a2-ultragpu": frozenset({"NVIDIA_A100_80GB"}),
    "a2": frozenset({"NVIDIA_TESLA_A100"}),
    "a3-megagpu": frozenset({"NVIDIA_H100_MEGA_80GB"}),
    "a3-ultragpu": frozenset({"NVIDIA_H200_141GB"}),
    "a3": frozenset({"NVIDIA_H100_80GB"}),
    "a4": frozenset({"NVIDIA_B200"}),
}
_FAMILIES = {kind.partition("-")[0] for kind in (*_PER_CPU, *_PER_GPU, *_ACCELERATORS)}


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
        cpus, memory, counts = _PER_GPU[kind]
        return Size(int(cpus * count), int(memory * count * GIB)) if count in counts else Size()
    if not match[3] and kind in _PER_CPU and count in _of(_CPUS, kind, ()):
        return Size(count, int(_PER_CPU[kind] * count * GIB))
    return Size()


def exists(machine_type: str) -> bool:
    """Whether there is such a type, as far as its kind is one whose sizes are known."""
    return _kind(machine_type) not in {*_PER_CPU, *_PER_GPU} or size_of(machine_type) != Size()


def can_have(machine_type: str, accelerator: str) -> bool:
    """Whether a machine of this type can have accelerators of this kind (Vertex AI's name), as far as its family is known."""
    if not accelerator.startswith("NVIDIA_") or machine_type.partition("-")[0] not in _FAMILIES:
        return True
    return accelerator in _of(_ACCELERATORS, _kind(machine_type), frozenset())


def _kind(machine_type: str) -> str:
    return "-".join(machine_type.split("-")[:2])


def _of(known: Mapping[str, T], kind: str, otherwise: T) -> T:
    """What is known of a kind of machines, or else of its family."""
    return known.get(kind, known.get(kind.partition("-")[0], otherwise))


def disk_of(pool: Mapping[str, Any]) -> int:
    """The bytes that the boot disk of a worker pool's machines holds."""
    return int(pool.get("diskSpec", {}).get("bootDiskSizeGb") or DEFAULT_DISK_GIB) * GIB


def gpus_of(pool: Mapping[str, Any]) -> int:
    """How many GPUs each machine of a worker pool has; TPUs do not count."""
    machine = pool.get("machineSpec", {})
    if str(machine.get("acceleratorType", "")).startswith("TPU"):
        return 0
    return int(machine.get("acceleratorCount", 0))
