"""What a job's fields may say together: the old page's guidelines and the service's own rules, checked before spending."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.errors import UserError
from launcher.job import ROLES, Disk, Machine, Pool, Reservation
from launcher.jobfile import machines
from launcher.jobfile.models import NativeJob, ProgramFields, WorkerPool

DEFAULT_MACHINE = "n1-standard-4"
# The service sets these in each replica, over whatever a job says.
_RESERVED = ("TF_CONFIG", "CLUSTER_SPEC")
RESERVED_LABELS = ("odcloud-run", "odcloud-kind", "odcloud-launch")
OWN_LABEL = "odcloud sets this label itself, to find the run's jobs; use another key"
NO_TIME = "would end the job at once; give it time, or remove it"
_PACKAGE_FIELDS = ("packageUris", "pythonModule", "executorImageUri")


@dataclass(frozen=True)
class Checked:
    """The machines a job asks for, in the order of ROLES, and what there is to say about them."""

    pools: tuple[Pool, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


def check(job: NativeJob, places: Mapping[tuple[Any, ...], str], name: str) -> Checked:
    """Checks a job. `places` says where a field was given, `name` is the file's name. Raises UserError."""

    def place(location: tuple[Any, ...]) -> str:
        for length in range(len(location), 0, -1):
            if location[:length] in places:
                return places[location[:length]]
        return f"{name}:1"

    given = job.workerPools or (WorkerPool(role="chief", machineType=DEFAULT_MACHINE),)
    for location, message in _refused(job, given):
        raise UserError(f"{place(location)}: {message}")
    pools, warnings = [], []
    for index, one in enumerate(given):
        machine, warning = _machine(one, ("workerPools", index), place, bool(job.anyMachineType))
        disk = Disk(one.bootDiskType, one.bootDiskSizeGb) if one.bootDiskType or one.bootDiskSizeGb else None
        affinity = one.reservationAffinity
        reservation = Reservation(affinity.reservationAffinityType, affinity.key, affinity.values or ()) if affinity else None
        if one.role == "ps" and machine.accelerator_type:
            field = "acceleratorType" if one.acceleratorType else "machineType"
            raise UserError(
                f"{place(('workerPools', index, field))}: parameter servers hold variables and compute nothing: "
                f"{machine} would be paid for and its GPU stand idle; choose one without accelerator, for example standard"
            )
        pools.append(Pool(one.role, machine, one.replicaCount, disk, reservation))
        if warning:
            warnings.append(warning)
    counts = {pool.role: pool.count for pool in pools}
    servers, workers = counts.get("ps", 0), counts.get("worker", 0)
    at = {pool.role: place(("workerPools", index, "replicaCount")) for index, pool in enumerate(pools)}
    if said := even(servers):
        warnings.append(f"{at['ps']}: {said}")
    if "evaluator" in counts:
        warnings.append(
            f"{at['evaluator']}: this project's trainer evaluates in a job of its own (odcloud eval) and refuses to run as an "
            "evaluator; a program of your own may have one"
        )
    for field in _unused(job, given):
        warnings.append(f"{place((field,))}: has no effect: every pool has its own program, image or value in its place")
    pools.sort(key=lambda pool: ROLES.index(pool.role))
    told = list(notes(workers, servers))
    if workers and not servers:
        told.append(
            "without parameter servers chief and workers of this project's trainer take each step together, and batch_size is "
            "of all of them (MultiWorkerMirroredStrategy)"
        )
    return Checked(tuple(pools), tuple(dict.fromkeys(warnings)), tuple(told))


def even(servers: int) -> str | None:
    """What the old page says of an even number of parameter servers."""
    if not servers or servers % 2:
        return None
    return (
        f"{servers} parameter servers: an odd number is better where variables are dealt out in turn, TensorFlow's way: with "
        f"an even one a server may get only weights and another only biases; make it {servers - 1} or {servers + 1} (this "
        "project's trainer places them by size, and takes any number)"
    )


def notes(workers: int, servers: int) -> Iterator[str]:
    """How many machines a job has: the old page's n + 1."""
    if workers:
        many = "s" if workers > 1 else ""
        beside = f", and {servers} parameter server{'s' if servers > 1 else ''}" if servers else ""
        yield f"{workers} worker{many} and the chief: {workers + 1} training machines{beside}"


def no_time(duration: str) -> bool:
    """Whether a duration, as Google writes them, is none at all."""
    return float(duration.removesuffix("s")) == 0


def pipeline_config(args: Sequence[str] | None) -> str | None:
    """What a program's own arguments give as --pipeline_config_path."""
    for index, arg in enumerate(args or ()):
        name, equals, value = arg.partition("=")
        if name == "--pipeline_config_path":
            return value if equals else "".join((args or ())[index + 1 : index + 2])
    return None


def _unused(job: NativeJob, pools: Sequence[WorkerPool]) -> Iterator[str]:
    """The job's own program fields that no pool uses."""
    for field in ("imageUri", "command", *_PACKAGE_FIELDS, "args", "env"):
        if getattr(job, field) is not None and not any(_uses(pool, job, field) for pool in pools):
            yield field


def _uses(pool: WorkerPool, job: NativeJob, field: str) -> bool:
    if getattr(pool, field) is not None or (pool.imageUri and field not in ("args", "env")):
        return False
    packages = any(getattr(pool, name) for name in _PACKAGE_FIELDS) or not job.imageUri
    return field in ("args", "env") or (field in _PACKAGE_FIELDS) == packages


def _refused(job: NativeJob, pools: tuple[WorkerPool, ...]) -> Iterator[tuple[tuple[Any, ...], str]]:
    """(location, message) of each contradiction."""
    yield from _refused_roles(pools)
    yield from _refused_program(job, ())
    for index, pool in enumerate(pools):
        at = ("workerPools", index)
        inherits_image = job.imageUri and not any(getattr(pool, field) for field in _PACKAGE_FIELDS)
        yield from _refused_program(pool, at, bool(inherits_image))
        if bool(pool.acceleratorType) != bool(pool.acceleratorCount):
            there = "acceleratorType" if pool.acceleratorType else "acceleratorCount"
            missing = "acceleratorCount: 1" if pool.acceleratorType else "acceleratorType: NVIDIA_TESLA_T4"
            yield (*at, there), f"an accelerator has a type and a count; add, for example, {missing}"
        affinity = pool.reservationAffinity
        if affinity:
            specific = affinity.reservationAffinityType == "SPECIFIC_RESERVATION"
            if specific and not (affinity.key and affinity.values):
                yield (
                    (*at, "reservationAffinity"),
                    "SPECIFIC_RESERVATION needs key (compute.googleapis.com/reservation-name) and values",
                )
            if not specific and (affinity.key or affinity.values):
                yield (
                    (*at, "reservationAffinity"),
                    f"{affinity.reservationAffinityType} takes no key and values; remove them or write SPECIFIC_RESERVATION",
                )
        if job.pipelineConfigPath and pipeline_config(pool.args):
            yield (*at, "args"), "--pipeline_config_path is given by the field pipelineConfigPath, too; keep one"
    if job.pipelineConfigPath and pipeline_config(job.args):
        yield ("args",), "--pipeline_config_path is given by the field pipelineConfigPath, too; keep one"
    timing = job.scheduling
    if timing.maxWaitDuration and timing.strategy != "FLEX_START":
        yield (
            ("scheduling", "maxWaitDuration"),
            "has an effect with strategy FLEX_START only; write strategy: FLEX_START, or remove it",
        )
    if timing.timeout and no_time(timing.timeout):
        yield ("scheduling", "timeout"), NO_TIME
    if timing.disableRetries and timing.restartJobOnWorkerRestart:
        yield (
            ("scheduling", "restartJobOnWorkerRestart"),
            "disableRetries switches restarts off; remove one of the two",
        )
    if job.tensorboard and job.region and f"/locations/{job.region}/" not in job.tensorboard:
        yield ("tensorboard",), f"the TensorBoard must be in the job's region, {job.region}"
    for label in RESERVED_LABELS:
        if label in job.labels:
            yield ("labels", label), OWN_LABEL


def _refused_roles(pools: tuple[WorkerPool, ...]) -> Iterator[tuple[tuple[Any, ...], str]]:
    seen: dict[str, int] = {}
    for index, pool in enumerate(pools):
        at = ("workerPools", index)
        if pool.role in seen:
            two = "two chiefs" if pool.role == "chief" else f"two pools of role {pool.role}"
            cure = "keep one" if pool.role == "chief" else "add up their replicaCount in one"
            yield (*at, "role"), f"{two}: the pool at workerPools[{seen[pool.role]}] has this role already; {cure}"
        seen[pool.role] = index
    chief = seen.get("chief")
    if chief is None:
        yield ("workerPools",), "there is no chief, which every job needs; add a pool with role: chief"
    elif pools[chief].replicaCount != 1:
        yield (
            ("workerPools", chief, "replicaCount"),
            f"{pools[chief].replicaCount} chiefs: a job has exactly one; put the others into a pool with role: worker",
        )
    if "ps" in seen and "worker" not in seen:
        yield (
            ("workerPools", seen["ps"]),
            "parameter servers serve workers, and there are none; add a pool with role: worker, or remove this one",
        )


def _refused_program(
    given: ProgramFields, at: tuple[Any, ...], inherits_image: bool = False
) -> Iterator[tuple[tuple[Any, ...], str]]:
    if given.imageUri:
        for field in _PACKAGE_FIELDS:
            if getattr(given, field):
                yield (*at, field), "imageUri and Python packages exclude each other: an image brings its own program; keep one"
    elif given.command and not inherits_image:
        yield (*at, "command"), "only an image of your own has a command; add imageUri, or use pythonModule and args"
    for arg in given.args or ():
        if arg.partition("=")[0] == "--train_dir":
            yield (*at, "args"), "--train_dir is the run's own folder and set by odcloud; remove it"
    for name in given.env or {}:
        if name in _RESERVED:
            yield (*at, "env", name), "the service sets this variable itself in every replica; use another name"


def _machine(pool: WorkerPool, at: tuple[Any, ...], place: Any, unlisted: bool) -> tuple[Machine, str | None]:
    """A pool's machine with its accelerators, and a warning. Raises UserError."""
    try:
        machine, warning = machines.machine(pool.machineType, unlisted=unlisted)
    except KeyError:
        said = machines.unknown(pool.machineType, "--any-machine-type (in a native job file anyMachineType: true)")
        raise UserError(f"{place((*at, 'machineType'))}: {said}") from None
    if warning:
        legacy = pool.machineType in machines.mapping()["machineTypes"]
        overrule = "; a machine type of today with an accelerator of your choice overrules it" if legacy else ""
        warning = f"{place((*at, 'machineType'))}: {warning}{overrule}"
    if not pool.acceleratorType:
        return machine, warning
    asked = Machine(machine.machine_type, pool.acceleratorType, pool.acceleratorCount or 1)
    tpus = pool.acceleratorType.startswith("TPU") and (machine.accelerator_type or "").startswith("TPU")
    if machine.accelerator_type and asked != machine and not tpus:
        raise UserError(
            f"{place((*at, 'acceleratorType'))}: {pool.machineType} means {machine}; remove acceleratorType and "
            "acceleratorCount, or choose another machineType"
        )
    if wrong := machines.misfit(asked):
        raise UserError(f"{place((*at, 'acceleratorType'))}: {wrong}")
    if reason := machines.retired(pool.acceleratorType):
        warning = f"{place((*at, 'acceleratorType'))}: {pool.acceleratorType} is {reason}; asked for all the same"
    return asked, warning
