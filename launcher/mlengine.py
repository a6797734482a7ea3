"""ML Engine: flags and file to the old service's request body, and that body to the job of today. Pure functions.

The old body is a value of its own: `--engine ml-engine` prints it, `--engine vertex` renders the job that it describes. Shapes:
`GoogleCloudMlV1__Job` in the discovery document `ml.v1`; how the two services' words correspond is mapping.yaml's.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from launcher.errors import UserError
from launcher.job import Container, Disk, Machine, Pool, Program, ProgramJob, PythonPackage, Scheduling
from launcher.jobfile import checks, machines, oldfile, oldmachines

FLAGS = {
    "jobDir": "--job-dir",
    "pythonModule": "--module-name",
    "runtimeVersion": "--runtime-version",
    "pythonVersion": "--python-version",
    "scaleTier": "--scale-tier",
    "masterType": "--master-machine-type",
    "masterConfig.acceleratorConfig": "--master-accelerator",
    "masterConfig.imageUri": "--master-image-uri",
    "workerType": "--worker-machine-type",
    "workerCount": "--worker-count",
    "workerConfig.acceleratorConfig": "--worker-accelerator",
    "workerConfig.imageUri": "--worker-image-uri",
    "parameterServerType": "--parameter-server-machine-type",
    "parameterServerCount": "--parameter-server-count",
    "parameterServerConfig.acceleratorConfig": "--parameter-server-accelerator",
    "parameterServerConfig.imageUri": "--parameter-server-image-uri",
    "serviceAccount": "--service-account",
    "network": "--network",
    "enableWebAccess": "--enable-web-access",
    "useChiefInTfConfig": "--use-chief-in-tf-config",
    "encryptionConfig.kmsKeyName": "--kms-key",
    "packageUris": "--packages",
    "region": "--region",
}
"""A field of trainingInput and the flag that sets it."""


@dataclass(frozen=True)
class Choices:
    """What overrules the mapping: an image for every Python package, retired hardware and unknown machines as named."""

    executor_image_uri: str | None = None
    keep_retired: bool = False
    any_machine_type: bool = False


def is_name(name: str) -> bool:
    """Whether ML Engine took it as a job's name (`jobId`)."""
    return bool(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,127}", name))


def check_name(name: str) -> str:
    """`name`, if ML Engine took it as a job's. Raises UserError."""
    if not is_name(name):
        raise UserError(
            f"job name {name!r}: must begin with a letter and hold at most 128 letters, digits and underscores, as on ML Engine"
        )
    return name


def run_id(name: str) -> str:
    """The run that a job's name means: itself, or, where it cannot be a label, a short form of it that can."""
    if re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", name):
        return name
    return f"{name.lower()[:50]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def body(name: str, document: Mapping[str, Any], flags: Mapping[str, Any], args: Sequence[str]) -> dict[str, Any]:
    """The body of ML Engine's `projects.jobs.create`: the file's Job resource, overruled by flags.

    `flags`: values by dotted path (`trainingInput.masterConfig.imageUri`, or a single name for `labels`); None was not given.
    """
    job = copy.deepcopy(dict(document))
    job["jobId"] = check_name(name)
    training = job.setdefault("trainingInput", {})
    training.setdefault("enableWebAccess", False)
    if args:
        training["args"] = list(args)
    for path, value in flags.items():
        if value is None:
            continue
        *parents, field = path.split(".")
        node = job
        for parent in parents:
            node = node.setdefault(parent, {})
        node[field] = value
    return job


class _Where:
    """How a message names a field: by file and line if it came from there, else by its flag."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places

    def __call__(self, field: str) -> str:
        path = f"trainingInput.{field}"
        return self._places.get(path) or (f"{FLAGS[field]} ({path})" if field in FLAGS else path)

    def error(self, field: str, message: str) -> UserError:
        return UserError(f"{self(field)}: {message}")


def training_job(
    job: Mapping[str, Any], region: str, choices: Choices, places: Mapping[str, str]
) -> tuple[ProgramJob, list[str]]:
    """The job that an ML Engine body describes, and warnings to show. `places`: see `jobfile.reading.old`.

    Raises UserError.
    """
    training, where = job["trainingInput"], _Where(places)
    warnings: list[str] = []
    pools = tuple(_pools(training, choices, where, warnings))
    counts = {pool.role: pool.count for pool in pools}
    if said := checks.even(counts.get("ps", 0)):
        warnings.append(f"{where('parameterServerCount')}: {said}")
    if any(pool.role == "ps" and pool.machine.accelerator_type for pool in pools):
        attached = "acceleratorConfig" in training.get("parameterServerConfig", {})
        said = where("parameterServerConfig.acceleratorConfig" if attached else "parameterServerType")
        warnings.append(
            f"{said}: parameter servers hold variables and compute nothing: their accelerators are paid for and stand idle"
        )
    chief = pools[0].program
    assert chief is not None
    _require_use(training, pools, where)
    warnings += _idle(training, {pool.role for pool in pools}, where)
    warnings += _runtime(training, choices, where, pools)
    scheduling = training.get("scheduling", {})
    if (limit := scheduling.get("maxRunningTime")) and checks.no_time(limit):
        raise where.error("scheduling.maxRunningTime", checks.NO_TIME)
    for label in checks.RESERVED_LABELS:
        if label in job.get("labels", {}):
            raise UserError(f"{places.get(f'labels.{label}', f'--labels {label}')}: {checks.OWN_LABEL}")
    for field in ("useChiefInTfConfig", "scheduling.maxWaitTime", "scheduling.priority"):
        name = field.rpartition(".")[2]
        if name in (scheduling if "." in field else training):
            warnings.append(f"{where(field)}: has no effect: {oldfile.NO_EFFECT[f'trainingInput.{field}']}")
    made = ProgramJob(
        run=run_id(job["jobId"]),
        display_name=job["jobId"],
        region=region,
        pools=pools,
        program=chief,
        output_uri=training.get("jobDir"),
        service_account=training.get("serviceAccount"),
        labels=dict(job.get("labels", {})),
        scheduling=Scheduling(timeout=scheduling.get("maxRunningTime")),
        network=training.get("network"),
        enable_web_access=training["enableWebAccess"] or None,
        kms_key=training.get("encryptionConfig", {}).get("kmsKeyName"),
    )
    return made, list(dict.fromkeys(warnings))


def _pools(training: Mapping[str, Any], choices: Choices, where: _Where, warnings: list[str]) -> Iterator[Pool]:
    for asked in _asked(training, where):
        kind, field, prefix = asked.kind, asked.kind_field, oldmachines.ROLES[asked.role]
        config = training.get(f"{prefix}Config", {})
        try:
            machine, warning = machines.machine(kind, choices.keep_retired, choices.any_machine_type)
        except KeyError:
            raise where.error(field, machines.unknown(kind, "--any-machine-type")) from None
        if warning and kind not in machines.names():
            warnings.append(f"{where(field)}: {warning}")
        elif warning:
            overrule = f"overrule it with {FLAGS.get(f'{prefix}Type', prefix + 'Type')} and an accelerator"
            keep = (
                ""
                if choices.keep_retired or "was" not in machines.mapping()["machineTypes"].get(kind, {})
                else ", or keep it with --keep-retired"
            )
            warnings.append(f"{where(field)}: {warning}" + ("" if choices.keep_retired else f"; {overrule}{keep}"))
        if "acceleratorConfig" in config:
            machine, more = _accelerated(machine, config["acceleratorConfig"], f"{prefix}Config", choices, where)
            warnings += more
        disk = config.get("diskConfig")
        yield Pool(
            asked.role,
            machine,
            asked.count,
            disk=Disk(disk.get("bootDiskType"), disk.get("bootDiskSizeGb")) if disk else None,
            program=_program(training, prefix, machine, choices, where),
        )


def _idle(training: Mapping[str, Any], roles: Set[str], where: _Where) -> Iterator[str]:
    """What is said of a configuration of machines that there are none of: as gcloud's users could, one may leave it."""
    for field, said in oldmachines.idle_configs(training, roles):
        for part in training[field]:
            yield f"{where(f'{field}.{part}')}: has no effect: {said}"


def _require_use(training: Mapping[str, Any], pools: Sequence[Pool], where: _Where) -> None:
    """Raises UserError for packages, or a module of theirs, that no replica would run."""
    if any(isinstance(pool.program, PythonPackage) for pool in pools):
        return
    for field in ("packageUris", "pythonModule"):
        if training.get(field):
            raise where.error(field, "would not run: an image brings its own program; remove this, or the image")


def _asked(training: Mapping[str, Any], where: _Where) -> list[oldmachines.Asked]:
    """The machines of each pool that is not empty; the chief's first. Raises UserError."""
    try:
        return oldmachines.asked(training)
    except oldmachines.Contradiction as error:
        raise where.error(error.missing or error.field, str(error)) from None


def _accelerated(
    machine: Machine, config: Mapping[str, Any], field: str, choices: Choices, where: _Where
) -> tuple[Machine, list[str]]:
    """A machine with the accelerators that were asked for, in place of those it would have had."""
    path, kind = f"{field}.acceleratorConfig", str(config.get("type", ""))
    count = int(config.get("count", 1))
    if kind not in (known := machines.accelerator_types()):
        raise where.error(path, f"unknown accelerator type {kind!r}; one of {', '.join(known)}")
    asked = Machine(machine.machine_type, kind, count)
    if machine.machine_type in machines.mapping()["acceleratorMachines"] and asked != machine:
        has = f"{machine.machine_type} comes with {machine.accelerator_count} {machine.accelerator_type}"
        raise where.error(path, f"{has}, not {count} {kind}; remove this, or choose another machine type")
    if said := machines.misfit(asked):
        raise where.error(path, said)
    found, number, warning = machines.accelerator(kind, count, choices.keep_retired)
    overrule = "; keep it with --keep-retired" if machines.retired(kind) and not choices.keep_retired else ""
    text = f"{where(path)}: {warning}{overrule}"
    return Machine(machine.machine_type, found, number), [text] if warning else []


def _program(training: Mapping[str, Any], prefix: str, machine: Machine, choices: Choices, where: _Where) -> Program:
    """What a pool's replicas run. Raises UserError."""
    args = list(training.get("args", ()))
    job_dir = training.get("jobDir")
    if job_dir is not None and not any(arg == "--job-dir" or arg.startswith("--job-dir=") for arg in args):
        args += ["--job-dir", job_dir]  # as ML Engine did, after the program's own
    # Replicas without an image of their own run the master's.
    config = {**training.get("masterConfig", {}), **training.get(f"{prefix}Config", {})}
    if "imageUri" in config:
        own = training.get(f"{prefix}Config", {})
        said = config if "imageUri" not in own else own
        if "containerArgs" in said and training.get("args"):  # ML Engine refused it, too
            field = f"{prefix}Config" if "containerArgs" in own else "masterConfig"
            raise where.error(f"{field}.containerArgs", "the job's own args would not be handed on; keep one of the two")
        return Container(config["imageUri"], tuple(said.get("containerCommand", ())), tuple(said.get("containerArgs", args)))
    for field in ("containerCommand", "containerArgs"):
        if field in config:
            raise where.error(
                f"{prefix}Config.{field}", "is for an image of your own; add imageUri, or use pythonModule and args"
            )
    for field in ("pythonModule", "packageUris"):
        if not training.get(field):
            raise where.error(field, "missing; name the program's module and packages, or an image with --master-image-uri")
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", training["pythonModule"]):
        raise where.error("pythonModule", f"{training['pythonModule']!r} is no name of a Python module")
    return PythonPackage(
        executor_image_uri=choices.executor_image_uri or machines.executor_image(machine),
        package_uris=tuple(training["packageUris"]),
        python_module=training["pythonModule"],
        args=tuple(args),
    )


def _runtime(training: Mapping[str, Any], choices: Choices, where: _Where, pools: Sequence[Pool]) -> Iterator[str]:
    """What is said of the runtime and Python versions. Raises UserError for a version that there never was."""
    images = [pool.program.executor_image_uri for pool in pools if isinstance(pool.program, PythonPackage)]
    version = training.get("runtimeVersion")
    if version:
        try:
            retired = machines.runtime(version)
        except KeyError:
            known = ", ".join(version for group in machines.mapping()["runtimeVersions"] for version in group["versions"])
            raise where.error("runtimeVersion", f"ML Engine had no runtime {version!r}; one of {known}") from None
        if images and not choices.executor_image_uri:
            used = " and ".join(dict.fromkeys(images))
            yield (f"{where('runtimeVersion')}: {version} had {retired}; now: {used}; overrule it with --executor-image-uri")
    if images and training.get("pythonVersion") and not choices.executor_image_uri:
        yield f"{where('pythonVersion')}: has no effect: the image brings its own Python (3.10)"
    if not images:
        said = [where(field) for field in ("runtimeVersion", "pythonVersion") if training.get(field)]
        for flag in (*said, *(["--executor-image-uri"] if choices.executor_image_uri else ())):
            yield f"{flag}: has no effect: every replica runs an image of its own"
