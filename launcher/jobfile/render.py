"""A job back to the native YAML: read again, it makes the same job, even when the stack's values have changed since."""

from __future__ import annotations

import io
from typing import Any

from launcher.job import Container, Pool, Program, TrainingJob, given
from launcher.jobfile import machines


def render(job: TrainingJob) -> str:
    """The job file of a training job, every value written out. `resolve.training` of it, with the job's run, is `job` again."""
    return dump(document(job))


def document(job: TrainingJob) -> dict[str, Any]:
    """The same as values, in the order in which a person reads them."""
    scheduling = job.scheduling
    found: dict[str, Any] = {
        "workerPools": [_pool(pool) for pool in job.pools],
        **_program(job.program),
        "region": job.region,
        "baseOutputDirectory": job.output_uri,
        "serviceAccount": job.service_account,
        "network": job.network,
        "tensorboard": job.tensorboard,
        "enableWebAccess": job.enable_web_access,
        "kmsKeyName": job.kms_key,
        "anyMachineType": True if any(not machines.known(pool.machine.machine_type) for pool in job.pools) else None,
        "scheduling": given(
            strategy=scheduling.strategy,
            timeout=scheduling.timeout,
            restartJobOnWorkerRestart=scheduling.restart_job_on_worker_restart,
            disableRetries=scheduling.disable_retries,
            maxWaitDuration=scheduling.max_wait_duration,
        )
        or None,
        "labels": dict(job.labels) or None,
    }
    return given(**found)


def dump(values: dict[str, Any]) -> str:
    """Values as YAML."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.width = 10_000
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = io.StringIO()
    yaml.dump(values, stream)
    return stream.getvalue()


def _pool(pool: Pool) -> dict[str, Any]:
    found = given(
        role=pool.role,
        machineType=pool.machine.machine_type,
        acceleratorType=pool.machine.accelerator_type,
        acceleratorCount=pool.machine.accelerator_count or None,
        replicaCount=pool.count,
    )
    if pool.disk:
        found |= given(bootDiskType=pool.disk.type, bootDiskSizeGb=pool.disk.size_gb)
    if pool.reservation:
        found["reservationAffinity"] = given(
            reservationAffinityType=pool.reservation.type,
            key=pool.reservation.key,
            values=list(pool.reservation.values) or None,
        )
    return found | (_program(pool.program) if pool.program else {})


def _program(program: Program) -> dict[str, Any]:
    if isinstance(program, Container):
        found: dict[str, Any] = {"imageUri": program.image_uri}
        if program.command:
            found["command"] = list(program.command)
    else:
        found = {
            "executorImageUri": program.executor_image_uri,
            "packageUris": list(program.package_uris),
            "pythonModule": program.python_module,
        }
    # The run's folder is given to each program anew (resolve.py).
    found["args"] = [arg for arg in program.args if not arg.startswith("--train_dir=")]
    found["env"] = dict(program.env)
    return found
