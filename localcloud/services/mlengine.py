"""ML Engine v1 (AI Platform Training) jobs: created, read, listed and cancelled; the runner runs them as it runs Vertex AI's.

Source: the ml v1 discovery document. A job is stored among the custom jobs, under its jobId instead of a number; since a jobId
begins with a letter, Vertex AI's calls do not see it. Errors about fields have the service's form "Field: … Error: …".
"""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from typing import Any

from localcloud import filters, logentries
from localcloud.api import ApiError, Call, invalid, method, not_found
from localcloud.cloud import rfc3339
from localcloud.jobs import access, log, states, store
from localcloud.jobs.training_input import JOB_ID, field_of, job_spec, violations
from localcloud.regions import REGIONS
from localcloud.services.projects import check_project
from localcloud.services.vertex_validation import check_custom_job
from localcloud.services.vertex_validation import violations as custom_job_violations

_MAX_PAGE = 100
_STATES = {
    states.QUEUED: "QUEUED",
    states.PENDING: "PREPARING",
    states.RUNNING: "RUNNING",
    states.SUCCEEDED: "SUCCEEDED",
    states.FAILED: "FAILED",
    states.CANCELLING: "CANCELLING",
    states.CANCELLED: "CANCELLED",
}


@method("ml.projects.jobs.create")
def create(call: Call) -> dict[str, Any]:
    """Store a job under the id that the client chose and hand it to the runner; a second one of that id is refused."""
    check_project(call.cloud, call.params["parent"])
    job = call.body
    cloud = call.cloud
    spec = _checked_spec(job)
    if reason := access.unknown_account(cloud, spec):
        raise ApiError(403, "PERMISSION_DENIED", reason)
    body = {"jobSpec": spec, "trainingInput": job["trainingInput"], "labels": job.get("labels", {})}
    number = job["jobId"]
    with cloud.db.transaction():
        if store.job(cloud.db, number):
            raise _field_error("job.job_id", "A job with this id already exists.", code=409, status="ALREADY_EXISTS")
        store.insert_job(cloud.db, number, job["trainingInput"]["region"], body, rfc3339(cloud.now()))
        logentries.append(cloud, [log.service(cloud.project, number, "Validating job requirements...")])
        logentries.append(cloud, [log.service(cloud.project, number, "Job creation request has been successfully validated.")])
    cloud.runner.submit(number)
    return _resource(_row(call, number))


@method("ml.projects.jobs.get")
async def get(call: Call) -> dict[str, Any]:
    """One job; in the event loop: it is one look into the database."""
    return _resource(_named(call))


@method("ml.projects.jobs.list")
def list_jobs(call: Call) -> dict[str, Any]:
    """The project's jobs that match a filter, newest first."""
    check_project(call.cloud, call.params["parent"])
    size = call.params.get("pageSize", 0)
    if size < 0:
        raise _field_error("page_size", f"It must not be negative, but is {size}.")
    size = min(size or 20, _MAX_PAGE)
    condition, parameters = _condition(call.params.get("filter", ""))
    time, number = _read_token(call.params["pageToken"]) if call.params.get("pageToken") else ("9999", "")
    rows = call.cloud.db.query(
        "SELECT * FROM custom_jobs WHERE number GLOB '[A-Za-z]*' AND (create_time, number) < (?, ?)"
        f" AND {condition} ORDER BY create_time DESC, number DESC LIMIT ?",
        [time, number, *parameters, size + 1],
    )
    answer: dict[str, Any] = {"jobs": [_resource(row) for row in rows[:size]]} if rows else {}
    if len(rows) > size:
        last = f"{rows[size - 1]['create_time']} {rows[size - 1]['number']}"
        answer["nextPageToken"] = base64.urlsafe_b64encode(last.encode()).decode()
    return answer


@method("ml.projects.jobs.cancel")
def cancel(call: Call) -> dict[str, Any]:
    """Ask for a job's end; one that has ended stays as it is."""
    call.cloud.runner.cancel(_named(call)["number"])
    return {}


def _checked_spec(job: dict[str, Any]) -> dict[str, Any]:
    """The job's CustomJobSpec. Raises ApiError naming the first wrong field, or 501 for what is not offered."""
    job_id = job.get("jobId", "")
    if not JOB_ID.fullmatch(job_id):
        message = (
            f"{job_id!r} is no valid job id: it must start with a letter and contain only letters, digits and underscores,"
            " at most 128."
        )
        raise _field_error("job.job_id", message)
    if "predictionInput" in job:
        raise ApiError(501, "UNIMPLEMENTED", "predictionInput: batch prediction is not offered by the local cloud.")
    given = job.get("trainingInput")
    if given is None:
        raise _field_error("job.training_input", "A training input is required.")
    if "hyperparameters" in given:
        raise ApiError(501, "UNIMPLEMENTED", "trainingInput.hyperparameters: tuning is not offered by the local cloud.")
    if given.get("scaleTier") == "BASIC_TPU" or "cloud_tpu" in given.values():
        raise ApiError(501, "UNIMPLEMENTED", "trainingInput: TPUs are not offered by the local cloud.")
    for name, message in violations(given):
        raise _field_error(f"job.training_input.{_snake(name)}", message)
    if given["region"] not in REGIONS:
        message = f"The region {given['region']!r} is none where jobs are trained."
        raise _field_error("job.training_input.region", message)
    spec = job_spec(given)
    custom_job = {"displayName": job_id, "labels": job.get("labels", {}), "jobSpec": spec}
    for path, message in custom_job_violations(custom_job):
        field = path if path == "labels" else f"training_input.{_snake(field_of(path))}"
        raise _field_error(f"job.{field}", message)
    check_custom_job(custom_job)
    return spec


def _resource(row: sqlite3.Row) -> dict[str, Any]:
    """A stored job as a Job message."""
    body = json.loads(row["body"])
    resource = {
        "jobId": row["number"],
        "trainingInput": body["trainingInput"],
        "trainingOutput": {},
        "state": _STATES[row["state"]],
        "createTime": row["create_time"],
    }
    if body["labels"]:
        resource["labels"] = body["labels"]
    for field, column in (("startTime", "start_time"), ("endTime", "end_time")):
        if row[column]:
            resource[field] = row[column]
    if row["error"]:
        resource["errorMessage"] = json.loads(row["error"])["message"]
    return resource


def _named(call: Call) -> sqlite3.Row:
    """The row of the job that the call names. Raises 404."""
    parent, _, number = call.params["name"].rpartition("/jobs/")
    check_project(call.cloud, parent)
    return _row(call, number)


def _row(call: Call, number: str) -> sqlite3.Row:
    row = store.job(call.cloud.db, number) if JOB_ID.fullmatch(number) else None
    if row is None:
        raise not_found(f"Field: name Error: The specified job was not found: projects/{call.cloud.project}/jobs/{number}")
    return row


def _field_error(field: str, message: str, code: int = 400, status: str = "INVALID_ARGUMENT") -> ApiError:
    details = {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [{"field": field, "description": message}],
    }
    return ApiError(code, status, f"Field: {field} Error: {message}", details=[details])


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda found: "_" + found[0].lower(), name)


_FIELDS = {"jobId": "number", "state": "state"}


def _condition(text: str) -> filters.Condition:
    """The SQL condition of a list filter over jobId, state and labels. Raises 400 naming it."""
    try:
        tree = filters.parse(text)
        return filters.to_sql(tree, _compare) if tree else ("1", [])
    except ValueError as error:
        raise invalid(f"Invalid filter: {error}; filter = {text!r}.", field_path="filter") from None
    except RecursionError:
        raise invalid("Invalid filter: it is nested too deeply.", field_path="filter") from None


def _compare(comparison: filters.Comparison) -> filters.Condition:
    field, operator, value = comparison.field, comparison.operator, comparison.value
    if operator not in ("=", "!=", ":"):
        raise ValueError(f"{field} cannot be compared with {operator!r}")
    if field == "state":
        value = {shown: stored for stored, shown in _STATES.items()}.get(value, value)
    label = field.removeprefix("labels.")
    if field not in _FIELDS and (label == field or '"' in label):
        raise ValueError(f"{field} cannot be filtered by")
    expression, parameters = (_FIELDS[field], []) if field in _FIELDS else ("json_extract(body, ?)", [f'$.labels."{label}"'])
    if operator == "!=":
        return f"coalesce({expression} <> ?, 1)", [*parameters, value]
    return f"{expression} GLOB ?", [*parameters, re.sub(r"([\[?])", r"[\1]", value)]


def _read_token(token: str) -> tuple[str, str]:
    try:
        time, _, number = base64.urlsafe_b64decode(token).decode().partition(" ")
    except ValueError:
        time, number = "", ""
    if not JOB_ID.fullmatch(number):
        raise _field_error("page_token", f"{token!r} is not one that this service gave.")
    return time, number
