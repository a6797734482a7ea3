"""What is to run, in words that belong to no engine: plain values, checked where they are made (jobfile.py, launch.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

ROLES = ("chief", "worker", "ps", "evaluator")  # in the order of Vertex AI's worker pools
RUN_PREFIX = "object_detection_"


@dataclass(frozen=True)
class Machine:
    """A Compute Engine machine type with `accelerator_count` accelerators (Vertex AI's name of their type)."""

    machine_type: str
    accelerator_type: str | None = None
    accelerator_count: int = 0

    def __str__(self) -> str:
        return self.machine_type + (f" with {self.accelerator_count} {self.accelerator_type}" if self.accelerator_type else "")


@dataclass(frozen=True)
class Pool:
    """`count` equal replicas with one role (one of ROLES)."""

    role: str
    machine: Machine
    count: int


@dataclass(frozen=True)
class _Job:
    run: str
    display_name: str
    region: str
    pools: tuple[Pool, ...]
    package_uris: tuple[str, ...]
    python_module: str
    args: tuple[str, ...]
    executor_image_uri: str
    output_uri: str
    service_account: str
    labels: Mapping[str, str]
    timeout: str | None = None
    """Longest run time as Google writes durations: `3600s`; None leaves the engine's default (7 days)."""


@dataclass(frozen=True)
class TrainingJob(_Job):
    """A chief and, when training is distributed, workers and parameter servers."""

    kind: ClassVar[str] = "train"


@dataclass(frozen=True)
class EvaluationJob(_Job):
    """One replica, a chief, that evaluates a run's checkpoints."""

    kind: ClassVar[str] = "eval"


def evaluation_name(run: str) -> str:
    """The display name of a run's evaluation: `object_detection_17…` -> `object_detection_eval_17…`."""
    return f"{RUN_PREFIX}eval_{run.removeprefix(RUN_PREFIX)}"
