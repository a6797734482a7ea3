"""Vertex AI v1 custom jobs: created, read, listed, cancelled and deleted; the runner runs them.

Source: the aiplatform v1 discovery document. Errors about a job's fields have the service's form "List of found errors: …".
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import sqlite3
import time
from typing import Any

from localcloud import filters, logentries, masks, moments
from localcloud.api import ApiError, Call, invalid, method, not_found
from localcloud.cloud import rfc3339
from localcloud.jobs import access, log, states, store
from localcloud.regions import REGIONS
from localcloud.services import operations
from localcloud.services.projects import check_project
from localcloud.services.vertex_validation import check_custom_job

_MAX_PAGE = 1000
_LOCATION = re.compile(r"projects/([^/]+)/locations/([^/]+)")


@method("aiplatform.projects.locations.customJobs.create")
def create(call: Call) -> dict[str, Any]:
    """Store a job and hand it to the runner."""
    location = _location(call, call.params["parent"])
    check_custom_job(call.body)
    cloud = call.cloud
    if reason := access.unknown_account(cloud, call.body["jobSpec"]):
        raise ApiError(403, "PERMISSION_DENIED", reason)
    with cloud.db.transaction():
        number = str(time.time_ns())
        store.insert_job(cloud.db, number, location, call.body, rfc3339(cloud.now()))
        logentries.append(cloud, [log.service(cloud.project, number, "Job creation request has been accepted.")])
    cloud.runner.submit(number)
    return _resource(call, _row(call, location, number))


@method("aiplatform.projects.locations.customJobs.get")
async def get(call: Call) -> dict[str, Any]:
    """One job; in the event loop: it is one look into the database."""
    return _resource(call, _named(call))


@method("aiplatform.projects.locations.customJobs.list")
def list_jobs(call: Call) -> dict[str, Any]:
    """The jobs of a location that match a filter, newest first."""
    location = _location(call, call.params["parent"])
    size = call.params.get("pageSize", 0)
    if size < 0:
        raise invalid(f"page_size must not be negative, but is {size}.", field_path="page_size")
    size = min(size or 100, _MAX_PAGE)
    condition, parameters = _condition(call.params.get("filter", ""))
    before = _read_token(call.params["pageToken"]) if call.params.get("pageToken") else "9" * 20
    rows = call.cloud.db.query(
        f"SELECT * FROM custom_jobs WHERE location = ? AND number < ? AND {condition} ORDER BY number DESC LIMIT ?",
        [location, before, *parameters, size + 1],
    )
    found = [_resource(call, row) for row in rows[:size]]
    if mask := call.params.get("readMask", ""):
        found = [masks.select(job, masks.camel(mask).replace(".", "/")) for job in found]
    answer: dict[str, Any] = {"customJobs": found} if found else {}
    if len(rows) > size:
        answer["nextPageToken"] = base64.urlsafe_b64encode(rows[size - 1]["number"].encode()).decode()
    return answer


@method("aiplatform.projects.locations.customJobs.cancel")
def cancel(call: Call) -> dict[str, Any]:
    """Ask for a job's end; one that has ended stays as it is."""
    call.cloud.runner.cancel(_named(call)["number"])
    return {}


@method("aiplatform.projects.locations.customJobs.delete")
def delete(call: Call) -> dict[str, Any]:
    """Forget a job that has ended, and what its replicas left on the disk; its log entries stay, as on Google Cloud."""
    row = _named(call)
    if row["state"] not in states.ENDED:
        message = f"The CustomJob is in state {row['state']}: cancel it and wait for its end before you delete it."
        raise ApiError(400, "FAILED_PRECONDITION", message)
    store.delete_job(call.cloud.db, row["number"])
    shutil.rmtree(call.cloud.home / "jobs" / row["number"], ignore_errors=True)
    now = rfc3339(call.cloud.now())
    return operations.finished(
        call.cloud,
        f"projects/{call.cloud.project_number}/locations/{row['location']}",
        kind="google.protobuf.Empty",
        metadata={
            "@type": "type.googleapis.com/google.cloud.aiplatform.v1.DeleteOperationMetadata",
            "genericMetadata": {"createTime": now, "updateTime": now},
        },
    )


def _resource(call: Call, row: sqlite3.Row) -> dict[str, Any]:
    """A stored job as a CustomJob message."""
    resource = {
        "name": f"projects/{call.cloud.project_number}/locations/{row['location']}/customJobs/{row['number']}",
        **json.loads(row["body"]),
        "state": row["state"],
        "createTime": row["create_time"],
        "updateTime": row["update_time"],
    }
    for field, column in (("startTime", "start_time"), ("endTime", "end_time")):
        if row[column]:
            resource[field] = row[column]
    if row["error"]:
        resource["error"] = json.loads(row["error"])
    return resource


def _location(call: Call, parent: str) -> str:
    match = _LOCATION.fullmatch(parent)
    project, location = match.groups() if match else ("", "")
    check_project(call.cloud, project)
    if location not in REGIONS:
        raise invalid(f"Location {location!r} is none where Vertex AI trains.", field_path="parent")
    return location


def _named(call: Call) -> sqlite3.Row:
    """The row of the job that the call names. Raises 404."""
    parent, _, number = call.params["name"].rpartition("/customJobs/")
    return _row(call, _location(call, parent), number)


def _row(call: Call, location: str, number: str) -> sqlite3.Row:
    row = store.job(call.cloud.db, number) if number.isdecimal() else None  # the others are ML Engine's
    if row is None or row["location"] != location:
        raise not_found(f"The CustomJob does not exist: projects/{call.cloud.project}/locations/{location}/customJobs/{number}")
    return row


_FIELDS = {
    "displayName": "json_extract(body, '$.displayName')",
    "state": "state",
    "name": "number",
    "createTime": "create_time",
    "startTime": "start_time",
    "endTime": "end_time",
    "updateTime": "update_time",
}
_TIMES = frozenset({"createTime", "startTime", "endTime", "updateTime"})


def _condition(text: str) -> filters.Condition:
    """The SQL condition of a list filter. Raises 400 naming it."""
    try:
        tree = filters.parse(text)
        return filters.to_sql(tree, _compare) if tree else ("1", [])
    except ValueError as error:
        raise invalid(f"Invalid filter: {error}; filter = {text!r}.", field_path="filter") from None
    except RecursionError:
        raise invalid("Invalid filter: it is nested too deeply.", field_path="filter") from None


def _compare(comparison: filters.Comparison) -> filters.Condition:
    operator, value = comparison.operator, comparison.value
    if comparison.field.startswith("labels."):
        return _compare_label(comparison.field.removeprefix("labels.").strip('"'), operator, value)
    field = re.sub(r"_([a-z])", lambda match: match[1].upper(), comparison.field)
    if field not in _FIELDS:
        raise ValueError(f"{comparison.field} cannot be filtered by")
    expression = _FIELDS[field]
    if field in _TIMES:
        if operator == ":":
            raise ValueError(f"{comparison.field} cannot be compared with ':'")
        return f"{expression} {filters.SQL_OPERATORS[operator]} ?", [moments.rfc3339(moments.micros_of(value))]
    if operator not in ("=", "!=", ":"):
        raise ValueError(f"{comparison.field} cannot be compared with {operator!r}")
    if field == "name":
        value = value.rpartition("/")[2]
    if operator == ":":
        return f"{expression} GLOB ?", [re.sub(r"([\[?])", r"[\1]", value)]
    return f"{expression} {filters.SQL_OPERATORS[operator]} ?", [value]


def _compare_label(key: str, operator: str, value: str) -> filters.Condition:
    if operator not in ("=", "!=", ":") or '"' in key:
        raise ValueError(f"labels.{key} cannot be compared with {operator!r}")
    expression = "json_extract(body, ?)"
    path = f'$.labels."{key}"'
    if operator == ":" and value == "*":
        return f"{expression} IS NOT NULL", [path]
    if operator == "!=":
        return f"coalesce({expression} <> ?, 1)", [path, value]
    return f"{expression} = ?", [path, value]


def _read_token(token: str) -> str:
    try:
        number = base64.urlsafe_b64decode(token).decode()
    except ValueError:
        number = ""
    if not number.isdecimal():
        raise invalid(f"page_token {token!r} is not one that this service gave.", field_path="page_token")
    return number
