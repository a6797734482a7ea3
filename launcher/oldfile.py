"""The old page's form of a job file, ML Engine's `trainingInput`: in native words, and as the old service's own resource."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from launcher import machines
from launcher.errors import UserError
from launcher.jobmodel import NativeJob, OldJob, TrainingInput
from launcher.yamlfile import Location

NO_EFFECT = {
    "runtimeVersion": "ML Engine's runtimes are gone; the stack's executor image is used",
    "pythonVersion": "ML Engine's runtimes are gone; the stack's executor image is used",
    "useChiefInTfConfig": "Vertex AI's TF_CONFIG always says chief, not master",
    "scheduling.maxWaitTime": "custom jobs wait until quota allows",
    "scheduling.priority": "custom jobs know no priority",
}
"""Fields that nothing stands for today, and why; a user is warned of each."""

ROLES = {"chief": "master", "worker": "worker", "ps": "parameterServer", "evaluator": "evaluator"}
"""A role and how the names of its fields begin."""


def translated(given: OldJob, place: Callable[[Location], str]) -> tuple[NativeJob, dict[Location, str]]:
    """The old page's form in native words, and where each of those came from. Raises UserError."""
    old = given.trainingInput
    for field, message in _contradictions(old):
        raise UserError(f"{place(('trainingInput', field))}: {message}")
    native: dict[str, Any] = {}
    places: dict[Location, str] = {}

    def put(holder: dict[str, Any], at: Location, field: str, value: Any, *source: str) -> None:
        if value is not None:
            holder[field], here = value, (*at, field)
            places[here] = place(("trainingInput", *source))

    pools: list[dict[str, Any]] = []
    tier = old.scaleTier or ("CUSTOM" if old.masterType else "BASIC")
    for role, (kind, count) in machines.mapping()["scaleTiers"][tier].items():
        at = ("workerPools", len(pools))
        pool: dict[str, Any] = {"role": role}
        if old.scaleTier:
            places[at] = place(("trainingInput", "scaleTier"))
            put(pool, at, "machineType", kind, "scaleTier")
            put(pool, at, "replicaCount", count, "scaleTier")
        else:
            pool |= {"machineType": kind, "replicaCount": count}
        pools.append(pool)
    for role, prefix in ROLES.items():
        kind = getattr(old, f"{prefix}Type")
        count = 1 if role == "chief" else getattr(old, f"{prefix}Count")
        if kind and count:
            at, pool = ("workerPools", len(pools)), {"role": role}
            places[at] = place(("trainingInput", f"{prefix}Type"))
            put(pool, at, "machineType", kind, f"{prefix}Type")
            put(pool, at, "replicaCount", count, f"{prefix}Type" if role == "chief" else f"{prefix}Count")
            pools.append(pool)
    for index, pool in enumerate(pools):
        at, prefix = ("workerPools", index), f"{ROLES[pool['role']]}Config"
        config = getattr(old, prefix)
        if config is None:
            continue
        if config.acceleratorConfig:
            put(pool, at, "acceleratorType", config.acceleratorConfig.type, prefix, "acceleratorConfig", "type")
            put(pool, at, "acceleratorCount", config.acceleratorConfig.count, prefix, "acceleratorConfig", "count")
        if config.diskConfig:
            put(pool, at, "bootDiskType", config.diskConfig.bootDiskType, prefix, "diskConfig", "bootDiskType")
            put(pool, at, "bootDiskSizeGb", config.diskConfig.bootDiskSizeGb, prefix, "diskConfig", "bootDiskSizeGb")
        put(pool, at, "imageUri", config.imageUri, prefix, "imageUri")
        put(pool, at, "command", config.containerCommand, prefix, "containerCommand")
        put(pool, at, "args", config.containerArgs, prefix, "containerArgs")
    chief = next(pool for pool in pools if pool["role"] == "chief")
    for index, pool in enumerate(pools):  # a replica without an image of its own runs the master's
        if "imageUri" in chief and "imageUri" not in pool:
            for field in ("imageUri", "command", "args"):
                if field not in pool:
                    put(pool, ("workerPools", index), field, chief.get(field), "masterConfig")
    native["workerPools"] = pools
    if old.encryptionConfig:
        put(native, (), "kmsKeyName", old.encryptionConfig.kmsKeyName, "encryptionConfig", "kmsKeyName")
    for field in ("region", "args", "packageUris", "pythonModule", "serviceAccount", "network", "enableWebAccess"):
        put(native, (), field, getattr(old, field), field)
    put(native, (), "baseOutputDirectory", old.jobDir, "jobDir")
    if old.scheduling.maxRunningTime:
        native["scheduling"] = {"timeout": old.scheduling.maxRunningTime}
        places["scheduling", "timeout"] = place(("trainingInput", "scheduling", "maxRunningTime"))
    if given.labels:
        native["labels"] = given.labels
        places |= {("labels", key): place(("labels", key)) for key in given.labels}
    return NativeJob.model_validate(native), places


def _contradictions(job: TrainingInput) -> Iterator[tuple[str, str]]:
    """(field, message) for what no single field shows and native words cannot say."""
    own = [f"{prefix}{part}" for prefix in ROLES.values() for part in ("Type", "Count") if prefix + part != "masterCount"]
    if job.scaleTier not in (None, "CUSTOM"):
        for field in own:
            if getattr(job, field):
                yield field, f"scaleTier {job.scaleTier} sets the machines; write scaleTier: CUSTOM or remove {field}"
    elif not job.masterType and (job.scaleTier == "CUSTOM" or any(getattr(job, field) for field in own)):
        field = "scaleTier" if job.scaleTier else next(field for field in own if getattr(job, field))
        yield field, "machines of your own choice need a chief; add masterType: standard"
    for prefix in ("worker", "parameterServer", "evaluator"):
        kind, count = getattr(job, f"{prefix}Type"), getattr(job, f"{prefix}Count")
        if count and not kind:
            yield f"{prefix}Count", f"{prefix}Type is missing; add, for example, {prefix}Type: standard"
        if kind and count is None:
            yield f"{prefix}Type", f"{prefix}Count is missing; add {prefix}Count: 1 or remove {prefix}Type"
    tier = machines.mapping()["scaleTiers"].get(job.scaleTier or "CUSTOM", {})
    for role, prefix in ROLES.items():
        used = role == "chief" or role in tier or getattr(job, f"{prefix}Count", None)
        if getattr(job, f"{prefix}Config") and not used:
            yield f"{prefix}Config", f"there are no machines of that kind; add {prefix}Type and {prefix}Count or remove it"
    if job.parameterServerCount and not job.workerCount:
        yield (
            "parameterServerCount",
            "parameter servers serve workers, and there are none; add workerType and workerCount or remove these",
        )


def ignored(job: TrainingInput) -> Iterator[tuple[Location, str]]:
    """(location, why) of each field that has no effect."""
    for name, why in NO_EFFECT.items():
        parts = name.split(".")
        value: Any = job
        for part in parts:
            value = getattr(value, part)
        if value is not None:
            yield ("trainingInput", *parts), why


def resource(values: Mapping[str, Any]) -> dict[str, Any]:
    """A file's values as ML Engine's Job: counts as the text that JSON carries (int64)."""
    training = values.get("trainingInput")
    return {**values, "trainingInput": _carried(training)} if training is not None else dict(values)


def _carried(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    counts = ("count", *(f"{prefix}Count" for prefix in ROLES.values()))
    return {key: str(int(item)) if key in counts else _carried(item) for key, item in value.items()}
