"""Vertex AI: a job to the body of `customJobs.create`, and a CustomJob back to words. Pure functions.

Shapes: `GoogleCloudAiplatformV1CustomJob` in the discovery document `aiplatform.v1`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.job import ROLES, EvaluationJob, Machine, Pool, TrainingJob

RUN_LABEL = "odcloud-run"
KIND_LABEL = "odcloud-kind"

CANCELLING = "CANCELLING"
SUCCEEDED = "SUCCEEDED"
ENDED = frozenset({SUCCEEDED, "FAILED", "CANCELLED", "EXPIRED", "PARTIALLY_SUCCEEDED"})


def parent(project: str, region: str) -> str:
    """The resource under which a region's jobs stand."""
    return f"projects/{project}/locations/{region}"


def custom_job(job: TrainingJob | EvaluationJob) -> dict[str, Any]:
    """The request body that creates `job`."""
    by_role = {pool.role: pool for pool in job.pools}
    used = max(ROLES.index(role) for role in by_role) + 1
    # A pool's place tells its role, so an empty one before a used one is written as {}.
    pools = [_pool(job, by_role[role]) if role in by_role else {} for role in ROLES[:used]]
    spec: dict[str, Any] = {
        "workerPoolSpecs": pools,
        "baseOutputDirectory": {"outputUriPrefix": job.output_uri},
        "serviceAccount": job.service_account,
    }
    if job.timeout:
        spec["scheduling"] = {"timeout": job.timeout}
    labels = {**job.labels, RUN_LABEL: job.run, KIND_LABEL: job.kind}
    return {"displayName": job.display_name, "jobSpec": spec, "labels": labels}


def _pool(job: TrainingJob | EvaluationJob, pool: Pool) -> dict[str, Any]:
    return {
        "machineSpec": _machine(pool.machine),
        "replicaCount": str(pool.count),
        "pythonPackageSpec": {
            "executorImageUri": job.executor_image_uri,
            "packageUris": list(job.package_uris),
            "pythonModule": job.python_module,
            "args": list(job.args),
        },
    }


def _machine(machine: Machine) -> dict[str, Any]:
    spec: dict[str, Any] = {"machineType": machine.machine_type}
    if machine.accelerator_type:
        spec |= {"acceleratorType": machine.accelerator_type, "acceleratorCount": machine.accelerator_count}
    return spec


def state(custom_job: Mapping[str, Any]) -> str:
    """QUEUED, PENDING, RUNNING, …: a job's state without the prefix JOB_STATE_."""
    return str(custom_job.get("state", "JOB_STATE_UNSPECIFIED")).removeprefix("JOB_STATE_")


def number(custom_job: Mapping[str, Any]) -> str:
    """The number by which the service names a job."""
    return str(custom_job["name"]).rpartition("/")[2]


def run(custom_job: Mapping[str, Any]) -> str | None:
    """The run that a job belongs to; None for a job that odcloud did not launch."""
    return custom_job.get("labels", {}).get(RUN_LABEL)


def kind(custom_job: Mapping[str, Any]) -> str | None:
    """`train` or `eval`."""
    return custom_job.get("labels", {}).get(KIND_LABEL)


def tasks(custom_job: Mapping[str, Any]) -> list[str]:
    """The job's replicas as its log entries name them: workerpool0-0, workerpool1-0, …"""
    return [
        f"workerpool{index}-{replica}"
        for index, pool in enumerate(custom_job.get("jobSpec", {}).get("workerPoolSpecs", ()))
        for replica in range(int(pool.get("replicaCount", 0)))
    ]


def replica_name(task: str) -> str:
    """A replica as users know it: workerpool0-0 -> chief, workerpool1-0 -> worker-0, workerpool2-0 -> ps-0."""
    pool, _, index = task.removeprefix("workerpool").partition("-")
    if not task.startswith("workerpool") or not pool.isdigit() or int(pool) >= len(ROLES):
        return task
    return "chief" if pool == "0" else f"{ROLES[int(pool)]}-{index}"


def task_name(replica: str) -> str:
    """The other way: chief, chief-0, worker-0, ps-0 (or the task's own name) -> workerpool0-0, …"""
    role, _, index = replica.partition("-")
    role = {"master": "chief", "parameter_server": "ps"}.get(role, role)
    return f"workerpool{ROLES.index(role)}-{index or 0}" if role in ROLES else replica
