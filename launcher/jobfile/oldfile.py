"""The old page's form of a job file, ML Engine's `trainingInput`: in native words, and as the old service's own resource."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from launcher.errors import UserError
from launcher.jobfile import machines, oldmachines
from launcher.jobfile.models import NativeJob, OldJob
from launcher.jobfile.oldmachines import Contradiction
from launcher.jobfile.yamlfile import Location

NO_EFFECT = {
    "jobId": "the run's id is the job's name; --run chooses it",
    "trainingInput.runtimeVersion": "ML Engine's runtimes are gone; the stack's executor image is used",
    "trainingInput.pythonVersion": "ML Engine's runtimes are gone; the stack's executor image is used",
    "trainingInput.useChiefInTfConfig": "Vertex AI's TF_CONFIG always says chief, not master",
    "trainingInput.scheduling.maxWaitTime": "custom jobs wait until quota allows",
    "trainingInput.scheduling.priority": "custom jobs know no priority",
}
"""Fields that nothing stands for today, and why; a user is warned of each."""

_MACHINES = {"scaleTier", *(f"{prefix}{part}" for prefix in oldmachines.ROLES.values() for part in ("Type", "Count"))}


def translated(given: OldJob, place: Callable[[Location], str]) -> tuple[NativeJob, dict[Location, str], list[str]]:
    """The old page's form in native words, where each of those came from, and warnings. Raises UserError."""
    old = given.trainingInput
    try:
        asked = oldmachines.asked(old.model_dump(include=_MACHINES, exclude_none=True))
        for field, said in oldmachines.idle_configs(dict(old), {each.role for each in asked}):
            raise Contradiction(field, said)
    except Contradiction as error:
        subject = f"{error.missing} is " if error.missing else ""
        raise UserError(f"{place(('trainingInput', error.field))}: {subject}{error}") from None
    native: dict[str, Any] = {}
    places: dict[Location, str] = {}
    warnings = [f"{place(location)}: has no effect: {why}" for location, why in _ignored(given)]

    def put(holder: dict[str, Any], at: Location, field: str, value: Any, *source: str) -> None:
        if value is not None:
            holder[field], here = value, (*at, field)
            places[here] = place(("trainingInput", *source))

    pools: list[dict[str, Any]] = []
    for each in asked:
        at = ("workerPools", len(pools))
        pool: dict[str, Any] = {"role": each.role}
        if each.kind_field == "scaleTier" and not old.scaleTier:  # nobody said it
            pool |= {"machineType": each.kind, "replicaCount": each.count}
        else:
            places[at] = place(("trainingInput", each.kind_field))
            put(pool, at, "machineType", each.kind, each.kind_field)
            put(pool, at, "replicaCount", each.count, each.count_field)
        pools.append(pool)
    for index, pool in enumerate(pools):
        at, prefix = ("workerPools", index), f"{oldmachines.ROLES[pool['role']]}Config"
        config = getattr(old, prefix)
        if config is None:
            continue
        if config.acceleratorConfig:
            kind, count, warning = machines.accelerator(config.acceleratorConfig.type, config.acceleratorConfig.count)
            if warning:
                keep = (
                    "; native worker pools ask for it all the same" if machines.retired(config.acceleratorConfig.type) else ""
                )
                warnings.append(f"{place(('trainingInput', prefix, 'acceleratorConfig', 'type'))}: {warning}{keep}")
            put(pool, at, "acceleratorType", kind, prefix, "acceleratorConfig", "type")
            put(pool, at, "acceleratorCount", count, prefix, "acceleratorConfig", "count")
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
    return NativeJob.model_validate(native), places, warnings


def _ignored(job: OldJob) -> Iterator[tuple[Location, str]]:
    """(location, why) of each field that has no effect."""
    for name, why in NO_EFFECT.items():
        location = tuple(name.split("."))
        value: Any = job
        for part in location:
            value = getattr(value, part)
        if value is not None:
            yield location, why


def resource(values: Mapping[str, Any]) -> dict[str, Any]:
    """A file's values as ML Engine's Job: counts as the text that JSON carries (int64)."""
    training = values.get("trainingInput")
    return {**values, "trainingInput": _carried(training)} if training is not None else dict(values)


def _carried(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    counts = ("count", *(f"{prefix}Count" for prefix in oldmachines.ROLES.values()))
    return {key: str(int(item)) if key in counts else _carried(item) for key, item in value.items()}
