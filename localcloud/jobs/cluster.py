"""What a replica is told about its job: CLUSTER_SPEC, TF_CONFIG and the AIP_* variables.

Pure functions from a job's CustomJobSpec (the JSON of the aiplatform v1 discovery document) to dictionaries.
Formats: Vertex AI's pages "Distributed training" (CLUSTER_SPEC, TF_CONFIG) and "Environment variables for special directories".
What their `job` holds is as public logs of real jobs show it: not the CustomJobSpec that the page tells of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Pool 0 is the primary replica; the others take TensorFlow's names in this order.
TENSORFLOW_ROLES = ("chief", "worker", "ps", "evaluator")
EVALUATOR_POOL = 3

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


@dataclass(frozen=True, order=True)
class Replica:
    """One replica of a job: its pool and its place in the pool."""

    pool: int
    index: int

    @property
    def task_name(self) -> str:
        """Vertex AI's name of the replica, e.g. `workerpool1-0`."""
        return f"workerpool{self.pool}-{self.index}"

    @property
    def primary(self) -> bool:
        """Whether the job is complete when this replica exits 0."""
        return self.pool == 0


def replicas(spec: Mapping[str, Any]) -> list[Replica]:
    """Every replica of a CustomJobSpec, by pool and index; an unused pool is `{}`."""
    return [
        Replica(pool, index)
        for pool, pool_spec in enumerate(spec["workerPoolSpecs"])
        for index in range(int(pool_spec.get("replicaCount", 0)))
    ]


def cluster_spec(spec: Mapping[str, Any], ports: Mapping[Replica, int], replica: Replica) -> dict[str, Any]:
    """The CLUSTER_SPEC of one replica; `ports` on the loopback address stand for Vertex AI's host names."""
    cluster: dict[str, list[str]] = {}
    for each in sorted(ports):
        cluster.setdefault(f"workerpool{each.pool}", []).append(_address(ports[each]))
    return {
        "cluster": cluster,
        "environment": "cloud",
        "task": {"type": f"workerpool{replica.pool}", "index": replica.index},
        "job": _job(spec, replica),
    }


def tf_config(
    spec: Mapping[str, Any], ports: Mapping[Replica, int], replica: Replica, roles: Sequence[str] = TENSORFLOW_ROLES
) -> dict[str, Any]:
    """The TF_CONFIG of one replica; `roles` by pool.

    An evaluator is no part of the cluster: TensorFlow's parameter servers would wait for it for ever.
    """
    cluster: dict[str, list[str]] = {}
    for each in sorted(ports):
        if each.pool != EVALUATOR_POOL:
            cluster.setdefault(roles[each.pool], []).append(_address(ports[each]))
    return {
        "cluster": cluster,
        "environment": "cloud",
        "task": {"type": roles[replica.pool], "index": replica.index},
        "job": _job(spec, replica),
    }


def output_directories(spec: Mapping[str, Any]) -> dict[str, str]:
    """AIP_MODEL_DIR, AIP_CHECKPOINT_DIR and AIP_TENSORBOARD_LOG_DIR of a job that has a base output directory, else none."""
    prefix = spec.get("baseOutputDirectory", {}).get("outputUriPrefix")
    if not prefix:
        return {}
    base = prefix.rstrip("/")
    return {
        "AIP_MODEL_DIR": f"{base}/model/",
        "AIP_CHECKPOINT_DIR": f"{base}/checkpoints/",
        "AIP_TENSORBOARD_LOG_DIR": f"{base}/logs/",
    }


def expand(value: str, known: Mapping[str, str]) -> str:
    """An EnvVar's value with its `$(NAME)` references resolved; `$$` stands for `$`, an unknown name stays as it is written."""

    def replace(match: re.Match[str]) -> str:
        return "$" if match.group() == "$$" else known.get(match.group(1), match.group())

    return _REFERENCE.sub(replace, value)


def environment(
    number: str,
    spec: Mapping[str, Any],
    ports: Mapping[Replica, int],
    replica: Replica,
    *,
    project_number: str,
    region: str,
    roles: Sequence[str] = TENSORFLOW_ROLES,
    tf_config_extra: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """The variables that Vertex AI sets on a replica, then those of the replica's pool.

    `roles` by pool and `tf_config_extra` are what another service's TF_CONFIG has otherwise.
    """
    variables = {
        "CLUSTER_SPEC": json.dumps(cluster_spec(spec, ports, replica)),
        "TF_CONFIG": json.dumps({**tf_config(spec, ports, replica, roles), **(tf_config_extra or {})}),
        "CLOUD_ML_JOB_ID": number,
        "CLOUD_ML_PROJECT_ID": project_number,
        "CLOUD_ML_REGION": region,
        **output_directories(spec),
    }
    pool = spec["workerPoolSpecs"][replica.pool]
    for variable in (pool.get("containerSpec") or pool.get("pythonPackageSpec", {})).get("env", []):
        variables[variable["name"]] = expand(variable.get("value", ""), variables)
    return variables


def arguments(spec: Mapping[str, Any], replica: Replica) -> list[str]:
    """What follows the interpreter on a replica's command line: `-m MODULE ARGS…`."""
    package: Mapping[str, Any] = spec["workerPoolSpecs"][replica.pool]["pythonPackageSpec"]
    return ["-m", package["pythonModule"], *package.get("args", [])]


def image(spec: Mapping[str, Any], pool: int) -> str | None:
    """The image that a pool's replicas are containers of; None when they are processes."""
    uri: str | None = spec["workerPoolSpecs"][pool].get("containerSpec", {}).get("imageUri")
    return uri


def package_uris(spec: Mapping[str, Any], pool: int) -> Sequence[str]:
    """The Python packages that a pool's replicas install, in order."""
    uris: Sequence[str] = spec["workerPoolSpecs"][pool]["pythonPackageSpec"]["packageUris"]
    return uris


def _job(spec: Mapping[str, Any], replica: Replica) -> str:
    """The package that a replica runs, as JSON text; of a container nothing is told."""
    package = spec["workerPoolSpecs"][replica.pool].get("pythonPackageSpec", {})
    told = {
        "python_module": package.get("pythonModule", ""),
        "package_uris": package.get("packageUris", []),
        "job_args": package.get("args", []),
    }
    return json.dumps(told, separators=(",", ":"))


def _address(port: int) -> str:
    return f"127.0.0.1:{port}"
