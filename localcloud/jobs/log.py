"""The Cloud Logging entries that a job leaves: its replicas' output, their lifecycle, and the service's own messages."""

from __future__ import annotations

from typing import Any

from localcloud.jobs.lines import payload
from localcloud.jobs.states import ReplicaState
from localcloud.jobs.store import ReplicaRow

_STREAM_SEVERITY = {"stdout": "INFO", "stderr": "ERROR"}


def service(project: str, number: str, message: str, severity: str = "INFO") -> dict[str, Any]:
    """A message of the training service about the job."""
    return {**_frame(project, number, "service", f"ml.googleapis.com%2F{number}"), "severity": severity, "textPayload": message}


def output(project: str, number: str, task_name: str, stream: str, line: str) -> dict[str, Any]:
    """A line that a replica wrote to stdout or stderr."""
    return {**_frame(project, number, task_name, task_name), **payload(line, _STREAM_SEVERITY[stream], task_name)}


def lifecycle(project: str, number: str, task_name: str, row: ReplicaRow, message: str) -> dict[str, Any]:
    """What became of a replica: the only place where clients learn of it, since a CustomJob does not tell of its replicas."""
    return {
        **_frame(project, number, task_name, task_name),
        "severity": "ERROR" if row.state is ReplicaState.FAILED else "INFO",
        "jsonPayload": {
            "message": message,
            "replica": {
                "state": row.state.value,
                "exitCode": row.exit_code,
                "restarts": row.restarts,
                "startTime": row.start_time,
                "endTime": row.end_time,
            },
        },
    }


def _frame(project: str, number: str, task_name: str, log: str) -> dict[str, Any]:
    return {
        "logName": f"projects/{project}/logs/{log}",
        "labels": {"ml.googleapis.com/job_id": number},
        "resource": {"type": "ml_job", "labels": {"project_id": project, "job_id": number, "task_name": task_name}},
    }
