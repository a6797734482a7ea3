"""ML Engine's TrainingInput as the worker pools of a CustomJobSpec, which is what the runner runs. Pure.

Source: the ml v1 discovery document; its page "Machine types" for the scale tiers and the legacy machine types.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

JOB_ID = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}")
TYPES = ("masterType", "workerType", "parameterServerType", "evaluatorType")
COUNTS = ("", "workerCount", "parameterServerCount", "evaluatorCount")
CONFIGS = ("masterConfig", "workerConfig", "parameterServerConfig", "evaluatorConfig")

Violation = tuple[str, str]

# (Compute Engine's machine type, accelerator, its count)
_MACHINES: dict[str, tuple[str, str, int]] = {
    "standard": ("n1-standard-4", "", 0),
    "large_model": ("n1-highmem-8", "", 0),
    "complex_model_s": ("n1-highcpu-8", "", 0),
    "complex_model_m": ("n1-highcpu-16", "", 0),
    "complex_model_l": ("n1-highcpu-32", "", 0),
    "standard_gpu": ("n1-standard-8", "NVIDIA_TESLA_K80", 1),
    "complex_model_m_gpu": ("n1-standard-16", "NVIDIA_TESLA_K80", 4),
    "complex_model_l_gpu": ("n1-standard-32", "NVIDIA_TESLA_K80", 8),
    "standard_p100": ("n1-standard-8", "NVIDIA_TESLA_P100", 1),
    "complex_model_m_p100": ("n1-standard-16", "NVIDIA_TESLA_P100", 4),
    "standard_v100": ("n1-standard-8", "NVIDIA_TESLA_V100", 1),
    "large_model_v100": ("n1-highmem-8", "NVIDIA_TESLA_V100", 1),
    "complex_model_m_v100": ("n1-standard-16", "NVIDIA_TESLA_V100", 4),
    "complex_model_l_v100": ("n1-standard-32", "NVIDIA_TESLA_V100", 8),
}
# the tiers that are no CUSTOM ones: machine type and number of each role
_TIERS: dict[str, tuple[tuple[str, int], ...]] = {
    "BASIC": (("standard", 1),),
    "BASIC_GPU": (("standard_gpu", 1),),
    "STANDARD_1": (("complex_model_s", 1), ("complex_model_s", 4), ("standard", 3)),
    "PREMIUM_1": (("complex_model_m", 1), ("complex_model_m", 19), ("large_model", 11)),
}
# The executor of its runtimeVersion has no counterpart, and the local cloud runs packages in its own environment.
_EXECUTOR = "us-docker.pkg.dev/vertex-ai/training/tf-cpu.2-17.py310:latest"


def job_spec(given: Mapping[str, Any]) -> dict[str, Any]:
    """The CustomJobSpec of a TrainingInput in which `violations` finds nothing."""
    pools = [_pool(given, role, machine, count) if count else {} for role, (machine, count) in enumerate(_roles(given))]
    while not pools[-1]:
        pools.pop()
    spec: dict[str, Any] = {"workerPoolSpecs": pools}
    if given.get("jobDir"):
        spec["baseOutputDirectory"] = {"outputUriPrefix": given["jobDir"]}
    if given.get("scheduling", {}).get("maxRunningTime"):
        spec["scheduling"] = {"timeout": given["scheduling"]["maxRunningTime"]}
    for name in ("serviceAccount", "network"):
        if given.get(name):
            spec[name] = given[name]
    return spec


def violations(given: Mapping[str, Any]) -> Iterator[Violation]:
    """The fields of a TrainingInput that contradict each other or are missing, and why."""
    tier = given.get("scaleTier", "BASIC")
    custom = tier == "CUSTOM"
    if not given.get("region"):
        yield "region", "A region is required."
    if custom and not given.get("masterType"):
        yield "masterType", "The master type must be set when the scale tier is CUSTOM."
    for type_, count in zip(TYPES, COUNTS, strict=True):
        if not custom:
            for name in (type_, count):
                if given.get(name, "0") != "0":
                    yield name, f"It can be set only when the scale tier is CUSTOM, but that is {tier}."
        elif count:
            number = int(given.get(count, 0))
            if number < 0:
                yield count, f"The count must not be negative, but is {number}."
            if number > 0 and not given.get(type_):
                yield type_, f"It must be set, since {count} is {number}."
    if "imageUri" not in given.get("masterConfig", {}):
        for name in ("packageUris", "pythonModule"):
            if not given.get(name):
                yield name, "It is required unless masterConfig.imageUri names a container."
    if given.get("jobDir") and not re.fullmatch(r"gs://[^/]+(/.*)?", given["jobDir"]):
        yield "jobDir", f"{given['jobDir']!r} is no Cloud Storage path (gs://BUCKET/…)."


def field_of(path: str) -> str:
    """The field of a TrainingInput that became the field `path` of a CustomJob (as its errors name it)."""
    match = re.match(
        r"job_spec\.worker_pool_specs\[(\d)\]\.(machine_spec\.machine_type|machine_spec|python_package_spec)", path
    )
    if match is None:
        return path
    if match[2] == "machine_spec.machine_type":
        return TYPES[int(match[1])]
    if match[2] == "machine_spec":
        return f"{CONFIGS[int(match[1])]}.acceleratorConfig"
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), path[match.end() :].lstrip("."))


def _roles(given: Mapping[str, Any]) -> list[tuple[str, int]]:
    tier = given.get("scaleTier", "BASIC")
    if tier in _TIERS:
        return list(_TIERS[tier])
    return [
        (given.get(type_, ""), int(given.get(count, 0)) if count else 1) for type_, count in zip(TYPES, COUNTS, strict=True)
    ]


def _pool(given: Mapping[str, Any], role: int, machine: str, count: int) -> dict[str, Any]:
    config = given.get(CONFIGS[role], {})
    machine_type, accelerator, accelerators = _MACHINES.get(machine, (machine, "", 0))
    if config.get("acceleratorConfig"):
        accelerator = config["acceleratorConfig"].get("type", "")
        accelerators = int(config["acceleratorConfig"].get("count", 0))
    spec: dict[str, Any] = {"machineType": machine_type}
    if accelerator:
        spec |= {"acceleratorType": accelerator, "acceleratorCount": accelerators}
    pool: dict[str, Any] = {"machineSpec": spec, "replicaCount": str(count)}
    if config.get("diskConfig"):
        pool["diskSpec"] = config["diskConfig"]
    arguments = [*given.get("args", [])]
    if given.get("jobDir"):
        arguments += ["--job-dir", given["jobDir"]]
    master = given.get("masterConfig", {})
    image = config.get("imageUri") or master.get("imageUri")
    if image:
        own = config if config.get("imageUri") else master
        container: dict[str, Any] = {"imageUri": image, "args": [*own.get("containerArgs", []), *arguments]}
        if own.get("containerCommand"):
            container["command"] = own["containerCommand"]
        pool["containerSpec"] = container
    else:
        pool["pythonPackageSpec"] = {
            "executorImageUri": _EXECUTOR,
            "packageUris": given["packageUris"],
            "pythonModule": given["pythonModule"],
            "args": arguments,
        }
    return pool
