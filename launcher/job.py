"""What is to run, in words that belong to no engine: plain values, checked where they are made (jobfile/, launch/)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

ROLES = ("chief", "worker", "ps", "evaluator")  # in the order of Vertex AI's worker pools
OTHER_NAMES = {"master": "chief", "parameter_server": "ps"}
"""TensorFlow 1's and the old service's name of a role, and today's."""
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
class Disk:
    """A replica's boot disk; what is None is left to the engine (100 GB, pd-ssd)."""

    type: str | None = None
    size_gb: int | None = None


@dataclass(frozen=True)
class Reservation:
    """Which reservation of machines a pool draws on; Vertex AI's `ReservationAffinity`."""

    type: str
    key: str | None = None
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class PythonPackage:
    """A program that comes as Python packages: `python -m python_module args…` in a prebuilt image."""

    executor_image_uri: str
    package_uris: tuple[str, ...]
    python_module: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Container:
    """A program that comes as an image; an empty `command` leaves the image's own entry point."""

    image_uri: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


Program: TypeAlias = PythonPackage | Container


@dataclass(frozen=True)
class Pool:
    """`count` equal replicas with one role (one of ROLES). `program` None: they run the job's."""

    role: str
    machine: Machine
    count: int
    disk: Disk | None = None
    reservation: Reservation | None = None
    program: Program | None = None


@dataclass(frozen=True)
class Scheduling:
    """How the engine queues, restarts and ends a job; what is None is left to it."""

    timeout: str | None = None
    """Longest run time as Google writes durations: `3600s`; the engine's default is 7 days."""
    strategy: str | None = None
    """STANDARD, SPOT or FLEX_START."""
    restart_job_on_worker_restart: bool | None = None
    disable_retries: bool | None = None
    max_wait_duration: str | None = None
    """Longest wait for machines under FLEX_START."""


@dataclass(frozen=True)
class _Job:
    run: str
    display_name: str
    region: str
    pools: tuple[Pool, ...]
    program: Program
    output_uri: str | None
    service_account: str | None
    """None leaves the engine's own account."""
    labels: Mapping[str, str]
    scheduling: Scheduling = Scheduling()
    network: str | None = None
    tensorboard: str | None = None
    enable_web_access: bool | None = None
    kms_key: str | None = None
    """Resource name of the Cloud KMS key that encrypts the job."""


@dataclass(frozen=True)
class TrainingJob(_Job):
    """A chief and, when training is distributed, workers and parameter servers."""

    kind: ClassVar[str] = "train"


@dataclass(frozen=True)
class ProgramJob(TrainingJob):
    """A job of the old command line: any program, with folders of its own, and no run of the stack that could be evaluated."""

    kind: ClassVar[str] = "job"


@dataclass(frozen=True)
class EvaluationJob(_Job):
    """One replica, a chief, that evaluates a run's checkpoints."""

    kind: ClassVar[str] = "eval"


@dataclass(frozen=True)
class RecordedJob:
    """A job as the record of an earlier launch has it: `body` is the request itself, rendered."""

    run: str
    display_name: str
    body: Mapping[str, Any]
    kind: str = "train"


def evaluation_name(run: str) -> str:
    """The display name of a run's evaluation: `object_detection_17…` -> `object_detection_eval_17…`."""
    return f"{RUN_PREFIX}eval_{run.removeprefix(RUN_PREFIX)}"


def given(**fields: Any) -> dict[str, Any]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}
