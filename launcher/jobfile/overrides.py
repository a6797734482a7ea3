"""What goes before the job file: `odcloud train`'s flags, then the environment's ODCLOUD_… variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from launcher.errors import UserError
from launcher.jobfile import checks, complaint, models
from launcher.jobfile.models import NativeJob, WorkerPool
from launcher.jobfile.yamlfile import Location

_Packages = Annotated[tuple[models.Text, ...], BeforeValidator(lambda text: text.split(","))]
_Flag = Annotated[bool, Field()]  # "true" and "1" are fine in an environment variable
# Each value's key: its flag, its variable, its type, its place in the job.
_ROLES = {"workers": "worker", "parameter_servers": "ps"}
_VALUES: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "workers": ("--workers", models.Count, ()),
    "parameter_servers": ("--parameter-servers", models.Count, ()),
    "pipeline_config": ("--pipeline-config", models.GcsUri, ("pipelineConfigPath",)),
    "packages": ("--packages", _Packages, ("packageUris",)),
    "python_module": ("--python-module", models.Module, ("pythonModule",)),
    "executor_image": ("--executor-image", models.Image, ("executorImageUri",)),
    "image": ("--image", models.Image, ("imageUri",)),
    "service_account": ("--service-account", models.Email, ("serviceAccount",)),
    "network": ("--network", models.Network, ("network",)),
    "tensorboard": ("--tensorboard", models.Tensorboard, ("tensorboard",)),
    "kms_key": ("--kms-key", models.KmsKey, ("kmsKeyName",)),
    "any_machine_type": ("--any-machine-type", _Flag, ("anyMachineType",)),
    "enable_web_access": ("--enable-web-access", _Flag, ("enableWebAccess",)),
    "strategy": ("--strategy", models.Strategy, ("scheduling", "strategy")),
    "timeout": ("--timeout", models.Duration, ("scheduling", "timeout")),
    "max_wait": ("--max-wait", models.Duration, ("scheduling", "maxWaitDuration")),
    "restart_on_worker_restart": (
        "--restart-on-worker-restart",
        _Flag,
        ("scheduling", "restartJobOnWorkerRestart"),
    ),
}
_RIVALS = {
    "image": ("command", "packageUris", "pythonModule", "executorImageUri"),
    "packages": ("imageUri", "command"),
    "executor_image": ("imageUri", "command"),
    "python_module": ("imageUri", "command"),
}
"""What a job file may say of a program that an override leaves no room for."""
_PACKAGES = "the stack's packages"
_TRAINING = ("workers", "parameter_servers")


def variable(key: str, kind: str = "train") -> str:
    """The environment variable of a value: ODCLOUD_WORKERS, … Training and evaluation share all but the module."""
    return "ODCLOUD_EVAL_PYTHON_MODULE" if (key, kind) == ("python_module", "eval") else f"ODCLOUD_{key.upper()}"


@dataclass(frozen=True)
class Overrides:
    """Valid values by key, each with who gave it: `--workers`, `$ODCLOUD_WORKERS`."""

    values: Mapping[str, tuple[Any, str]]
    labels: Mapping[str, str]

    def applied(self, job: NativeJob, places: dict[Location, str]) -> tuple[NativeJob, dict[Location, str], list[str]]:
        """The job with these values, where its fields come from now, and what they took the place of. Raises UserError."""
        places, taken = dict(places), []
        # The environment first, so that a flag has the last word where two exclude each other.
        for key, (value, who) in sorted(self.values.items(), key=lambda item: item[1][1].startswith("--")):
            if key in _ROLES:
                job, places = _sized(job, places, _ROLES[key], value, who)
                continue
            location = _VALUES[key][2]
            if key in ("pipeline_config", *_RIVALS):
                lost = [places[place] for place in _rivals(job, key) if place in places]
                job = _without_rivals(job, key)
                if key == "image":
                    taken.append(f"{who}: the image's own program runs, not {', '.join(lost) or _PACKAGES}")
                elif lost:
                    taken.append(f"{who}: packages run, not {', '.join(lost)}")
            places[location] = who
            if len(location) == 2:
                job = job.model_copy(update={"scheduling": job.scheduling.model_copy(update={location[1]: value})})
            else:
                job = job.model_copy(update={location[0]: value})
        if self.labels:
            job = job.model_copy(update={"labels": {**job.labels, **self.labels}})
            places |= {("labels", key): "--label" for key in self.labels}
        return job, places, taken


def given(flags: Mapping[str, Any], environ: Mapping[str, str], kind: str = "train") -> Overrides:
    """The overrides of a command line and an environment for a kind of job, `train` or `eval`. Raises UserError."""
    values: dict[str, tuple[Any, str]] = {}
    for key, (flag, form, _) in _VALUES.items():
        if kind == "eval" and key in _TRAINING:
            continue
        said, who, name = flags.get(key), flag, variable(key, kind)
        if said is None and environ.get(name):
            said, who = environ[name], f"${name}"
        if said is not None:
            values[key] = (_valid(form, said, who, key), who)
    rivals = [who for key, (_, who) in values.items() if key in _RIVALS and key != "image" and who.startswith("--")]
    if rivals and "image" in values and values["image"][1] == "--image":
        raise UserError(f"--image and {rivals[0]} exclude each other: an image brings its own program; keep one")
    labels = {}
    for text in flags.get("labels") or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--label {text}: write it KEY=VALUE")
        _valid(dict[models.LabelKey, models.Label], {name: value}, "--label", "labels")
        labels[name] = value
    return Overrides(values, labels)


def _valid(kind: Any, said: Any, who: str, key: str) -> Any:
    try:
        return TypeAdapter(kind).validate_python(said)
    except ValidationError as error:
        field = _VALUES[key][2][-1] if key in _VALUES and _VALUES[key][2] else key
        raise UserError(f"{who}: {complaint.complaint(error.errors()[0], field, (key,))}") from None


def with_pipeline_config(job: NativeJob, path: str) -> NativeJob:
    """The job with another pipeline configuration, wherever it names one now."""
    return _without_rivals(job, "pipeline_config").model_copy(update={"pipelineConfigPath": path})


def _sized(
    job: NativeJob, places: dict[Location, str], role: str, count: int, who: str
) -> tuple[NativeJob, dict[Location, str]]:
    """The job with another number of replicas in a pool; 0 leaves the pool out."""
    pools = list(job.workerPools or ())
    at = next((index for index, pool in enumerate(pools) if pool.role == role), None)
    if at is None:
        if count == 0:
            return job, places
        raise UserError(f"{who}: the job file has no pool of role {role}, so there is no machine type; add one to it")
    if count:
        pools[at] = pools[at].model_copy(update={"replicaCount": count})
        places[("workerPools", at, "replicaCount")] = who
    else:
        del pools[at]
        places = _moved(places, at)
    return job.model_copy(update={"workerPools": tuple(pools)}), places


def _moved(places: Mapping[Location, str], removed: int) -> dict[Location, str]:
    """Places when a pool is gone: those of later ones move up."""
    moved: dict[Location, str] = {}
    for location, place in places.items():
        if location[:1] == ("workerPools",) and len(location) > 1:
            if location[1] == removed:
                continue
            location = ("workerPools", location[1] - (location[1] > removed), *location[2:])
        moved[location] = place
    return moved


def _rivals(job: NativeJob, key: str) -> Iterator[Location]:
    """Where a job file says something of a program that an override leaves no room for."""
    for at, holder in (((), job), *((("workerPools", index), pool) for index, pool in enumerate(job.workerPools or ()))):
        yield from ((*at, name) for name in _RIVALS.get(key, ()) if getattr(holder, name) is not None)


def _without_rivals(job: NativeJob, key: str) -> NativeJob:
    """The job without what the job file says, for all replicas or for some, in the place of an override."""
    if key == "pipeline_config":
        strip = {"args": lambda holder: _without_config(holder.args)}
    else:
        strip = dict.fromkeys((_VALUES[key][2][0], *_RIVALS[key]), lambda holder: None)

    def cleared(holder: Any) -> Any:
        return holder.model_copy(update={name: value(holder) for name, value in strip.items()})

    pools: tuple[WorkerPool, ...] | None = job.workerPools and tuple(cleared(pool) for pool in job.workerPools)
    return cleared(job).model_copy(update={"workerPools": pools})


def _without_config(args: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if args is None or checks.pipeline_config(args) is None:
        return args
    kept: list[str] = []
    skip = False
    for arg in args:
        name, equals, _ = arg.partition("=")
        if skip or name == "--pipeline_config_path":
            skip = not skip and not equals
            continue
        kept.append(arg)
    return tuple(kept)
