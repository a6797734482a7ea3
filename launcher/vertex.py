"""Vertex AI: a job to the body of `customJobs.create`, and a CustomJob back to words. Pure functions.

Shapes: `GoogleCloudAiplatformV1CustomJob` in the discovery document `aiplatform.v1`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.job import OTHER_NAMES, ROLES, Container, EvaluationJob, Machine, Pool, Program, RecordedJob, TrainingJob, given

RUN_LABEL = "odcloud-run"
KIND_LABEL = "odcloud-kind"
LAUNCH_LABEL = "odcloud-launch"
"""The id of the launch that made the job: see records.py."""

CANCELLING = "CANCELLING"
SUCCEEDED = "SUCCEEDED"
ENDED = frozenset({SUCCEEDED, "FAILED", "CANCELLED", "EXPIRED", "PARTIALLY_SUCCEEDED"})


def parent(project: str, region: str) -> str:
    """The resource under which a region's jobs stand."""
    return f"projects/{project}/locations/{region}"


def custom_job(job: TrainingJob | EvaluationJob | RecordedJob) -> dict[str, Any]:
    """The request body that creates `job`."""
    if isinstance(job, RecordedJob):
        return dict(job.body)
    by_role = {pool.role: pool for pool in job.pools}
    used = max(ROLES.index(role) for role in by_role) + 1
    # A pool's place tells its role, so an empty one before a used one is written as {}.
    pools = [_pool(job, by_role[role]) if role in by_role else {} for role in ROLES[:used]]
    spec: dict[str, Any] = {"workerPoolSpecs": pools}
    if job.output_uri:
        spec["baseOutputDirectory"] = {"outputUriPrefix": job.output_uri}
    if job.service_account:
        spec["serviceAccount"] = job.service_account
    if job.network:
        spec["network"] = job.network
    if job.tensorboard:
        spec["tensorboard"] = job.tensorboard
    if job.enable_web_access is not None:
        spec["enableWebAccess"] = job.enable_web_access
    scheduling = given(
        timeout=job.scheduling.timeout,
        strategy=job.scheduling.strategy,
        restartJobOnWorkerRestart=job.scheduling.restart_job_on_worker_restart,
        disableRetries=job.scheduling.disable_retries,
        maxWaitDuration=job.scheduling.max_wait_duration,
    )
    if scheduling:
        spec["scheduling"] = scheduling
    labels = {**job.labels, RUN_LABEL: job.run, KIND_LABEL: job.kind}
    body: dict[str, Any] = {"displayName": job.display_name, "jobSpec": spec, "labels": labels}
    if job.kms_key:
        body["encryptionSpec"] = {"kmsKeyName": job.kms_key}
    return body


def _pool(job: TrainingJob | EvaluationJob, pool: Pool) -> dict[str, Any]:
    spec: dict[str, Any] = {"machineSpec": _machine(pool.machine), "replicaCount": str(pool.count)}
    if pool.reservation:
        spec["machineSpec"]["reservationAffinity"] = given(
            reservationAffinityType=pool.reservation.type,
            key=pool.reservation.key,
            values=list(pool.reservation.values) or None,
        )
    if pool.disk:
        spec["diskSpec"] = given(bootDiskType=pool.disk.type, bootDiskSizeGb=pool.disk.size_gb)
    return spec | _program(pool.program or job.program)


def _program(program: Program) -> dict[str, Any]:
    if isinstance(program, Container):
        made: dict[str, Any] = {"imageUri": program.image_uri}
        if program.command:
            made["command"] = list(program.command)
    else:
        made = {
            "executorImageUri": program.executor_image_uri,
            "packageUris": list(program.package_uris),
            "pythonModule": program.python_module,
        }
    made["args"] = list(program.args)
    if program.env:
        made["env"] = [{"name": name, "value": value} for name, value in program.env.items()]
    return {"containerSpec" if isinstance(program, Container) else "pythonPackageSpec": made}


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


def region(custom_job: Mapping[str, Any]) -> str:
    """The region that a job is in."""
    return str(custom_job["name"]).split("/")[3]


def run(custom_job: Mapping[str, Any]) -> str | None:
    """The run that a job belongs to; None for a job that odcloud did not launch."""
    return custom_job.get("labels", {}).get(RUN_LABEL)


def kind(custom_job: Mapping[str, Any]) -> str | None:
    """`train` or `eval`, or `job` for one of the old command line."""
    return custom_job.get("labels", {}).get(KIND_LABEL)


def launch(custom_job: Mapping[str, Any]) -> str | None:
    """The launch that a job was made by."""
    return custom_job.get("labels", {}).get(LAUNCH_LABEL)


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
    """The other way: chief, worker-0, ps-0 (or ML Engine's master-replica-0, or the task's own name) -> workerpool0-0, …"""
    role, _, index = replica.replace("-replica-", "-").partition("-")
    role = OTHER_NAMES.get(role, role)
    return f"workerpool{ROLES.index(role)}-{index or 0}" if role in ROLES else replica
