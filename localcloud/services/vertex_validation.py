"""What Vertex AI refuses in a CustomJob beyond what the discovery document says. Pure: a message in, violations out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from localcloud.api import ApiError
from localcloud.jobs import machines

MAX_POOLS = 4
MAX_PACKAGES = 100
_MACHINE_TYPE = re.compile(
    r"(e2|n1|n2|n2d|c2|c2d|c3|c3d|c4|m1|m2|m3|a2|a3|a4|g2|g4|t2d|z3|ct5lp|ct6e|cloud-tpu|tpu7x)"
    r"(-(standard|highmem|highcpu|megamem|ultramem|hypermem|highgpu|megagpu|ultragpu|edgegpu|hightpu))?(-\d+[a-z]*)?(-lssd)?"
)
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_C_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IMAGE = re.compile(r"[\w.-]+(:\d+)?(/[\w.-]+)*(:[\w.-]+)?(@sha256:[0-9a-f]{64})?")
_LABEL_KEY = re.compile(r"[^\W\dA-Z_][\w-]{0,62}")
_LABEL_VALUE = re.compile(r"[\w-]{0,63}")

Violation = tuple[str, str]


def check_custom_job(job: Mapping[str, Any]) -> None:
    """Raises ApiError: 400 naming every wrong field."""
    found = list(violations(job))
    if found:
        lines = [f"{position}.Field: {field}; Message: {message}\t" for position, (field, message) in enumerate(found, 1)]
        details = {
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": field, "description": message} for field, message in found],
        }
        raise ApiError(400, "INVALID_ARGUMENT", "List of found errors:\t" + "".join(lines), details=[details])


def violations(job: Mapping[str, Any]) -> Iterator[Violation]:
    """The wrong fields of a CustomJob and what is wrong with them."""
    name = job.get("displayName", "")
    if not name:
        yield "display_name", "Display name is required."
    elif len(name) > 128:
        yield "display_name", f"Display name must be up to 128 characters long, but has {len(name)}."
    yield from _labels(job.get("labels", {}))
    spec = job.get("jobSpec")
    if spec is None:
        yield "job_spec", "Job spec is required."
        return
    pools = spec.get("workerPoolSpecs", [])
    where = "job_spec.worker_pool_specs"
    if not pools or not pools[0]:
        yield where + ("[0]" if pools else ""), "The first worker pool is required: it holds the primary replica."
    elif _count(pools[0]) != 1:
        yield (
            f"{where}[0].replica_count",
            f"Replica count must be exactly 1 for the first worker pool, but is {_count(pools[0])}.",
        )
    if len(pools) > MAX_POOLS:
        yield where, f"There can be at most {MAX_POOLS} worker pools, but there are {len(pools)}."
    for index, pool in enumerate(pools):
        if pool and (index == 0 or _count(pool) or "pythonPackageSpec" in pool or "containerSpec" in pool):
            yield from _pool(f"{where}[{index}]", pool, primary=index == 0)
    output = spec.get("baseOutputDirectory", {}).get("outputUriPrefix", "gs://")
    if not output.startswith("gs://"):
        yield "job_spec.base_output_directory.output_uri_prefix", f"{output!r} is no Cloud Storage URI (gs://BUCKET/…)."
    timeout = spec.get("scheduling", {}).get("timeout", "0s")
    if timeout.startswith("-"):
        yield "job_spec.scheduling.timeout", f"Timeout must not be negative, but is {timeout}."


def _pool(where: str, pool: Mapping[str, Any], *, primary: bool) -> Iterator[Violation]:
    if not primary and _count(pool) < 1:
        yield (
            f"{where}.replica_count",
            f"Replica count must be at least 1 for a worker pool that is used, but is {_count(pool)}.",
        )
    machine = pool.get("machineSpec", {})
    machine_type = machine.get("machineType", "")
    accelerator = machine.get("acceleratorType", "ACCELERATOR_TYPE_UNSPECIFIED")
    if not machine_type:
        yield f"{where}.machine_spec.machine_type", "Machine type is required."
    elif not _MACHINE_TYPE.fullmatch(machine_type) or not machines.exists(machine_type):
        yield f"{where}.machine_spec.machine_type", f"Machine type {machine_type!r} is not supported."
    elif not machines.can_have(machine_type, accelerator):
        yield (
            f"{where}.machine_spec.accelerator_type",
            f"Accelerator type {accelerator!r} is not supported for machine type {machine_type!r}.",
        )
    if (accelerator != "ACCELERATOR_TYPE_UNSPECIFIED") != bool(machine.get("acceleratorCount", 0)):
        yield (
            f"{where}.machine_spec.accelerator_count",
            "Accelerator type and a positive accelerator count must be set together.",
        )
    package = pool.get("pythonPackageSpec")
    if (package is None) == ("containerSpec" not in pool):
        yield where, "Exactly one of python_package_spec and container_spec must be set."
    if package is not None:
        yield from _package(f"{where}.python_package_spec", package)
    elif "containerSpec" in pool:
        yield from _container(f"{where}.container_spec", pool["containerSpec"])


def _package(where: str, package: Mapping[str, Any]) -> Iterator[Violation]:
    if not package.get("executorImageUri"):
        yield f"{where}.executor_image_uri", "Executor image URI is required."
    uris = package.get("packageUris", [])
    if not uris:
        yield f"{where}.package_uris", "At least one package URI is required."
    if len(uris) > MAX_PACKAGES:
        yield f"{where}.package_uris", f"There can be at most {MAX_PACKAGES} package URIs, but there are {len(uris)}."
    for index, uri in enumerate(uris):
        if not re.fullmatch(r"gs://[^/]+/.+", uri):
            yield f"{where}.package_uris[{index}]", f"{uri!r} is no Cloud Storage URI of an object (gs://BUCKET/OBJECT)."
    module = package.get("pythonModule", "")
    if not module:
        yield f"{where}.python_module", "Python module is required."
    elif not _MODULE.fullmatch(module):
        yield f"{where}.python_module", f"{module!r} is no name of a Python module."
    yield from _env(where, package)


def _container(where: str, container: Mapping[str, Any]) -> Iterator[Violation]:
    image = container.get("imageUri", "")
    if not image:
        yield f"{where}.image_uri", "Image URI is required."
    elif not _IMAGE.fullmatch(image):
        yield f"{where}.image_uri", f"{image!r} is no address of an image (HOST/PATH:TAG or HOST/PATH@sha256:DIGEST)."
    yield from _env(where, container)


def _env(where: str, program: Mapping[str, Any]) -> Iterator[Violation]:
    for index, variable in enumerate(program.get("env", [])):
        if not _C_NAME.fullmatch(variable.get("name", "")):
            yield f"{where}.env[{index}].name", f"{variable.get('name', '')!r} is no valid C identifier."


def _labels(labels: Mapping[str, str]) -> Iterator[Violation]:
    if len(labels) > 64:
        yield "labels", f"There can be at most 64 labels, but there are {len(labels)}."
    for message in label_faults(labels):
        yield "labels", message


def label_faults(labels: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with labels, as all of Google's services have them."""
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key) or key != key.lower():
            yield f"Label key {key!r} must start with a lowercase letter and hold only lowercase letters, digits, _ and -."
        if not _LABEL_VALUE.fullmatch(value) or value != value.lower():
            yield f"Label value {value!r} of {key!r} may hold only lowercase letters, digits, _ and -, at most 63."


def _count(pool: Mapping[str, Any]) -> int:
    return int(pool.get("replicaCount", 0))
