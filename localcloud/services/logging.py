"""Cloud Logging v2: entries written by replicas and clients, listed with the part of its query language that clients use.

Source: the logging v2 discovery document and the page "Logging query language".
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, unquote

from anyio.to_thread import run_sync
from starlette.responses import StreamingResponse

from localcloud.api import ApiError, Call, method
from localcloud.logentries import append
from localcloud.logfilter import condition_of

_MAX_PAGE = 1000
_TAIL_SECONDS = 0.5  # between two looks for new entries


@method("logging.entries.write")
def write(call: Call) -> dict[str, Any]:
    """Store a client's entries, completed with the request's logName, resource and labels."""
    body = call.body
    entries = []
    for position, given in enumerate(body.get("entries", [])):
        entry = {**given}
        for name in ("logName", "resource"):
            if name not in entry and name in body:
                entry[name] = body[name]
            if name not in entry:
                raise ApiError(
                    400, "INVALID_ARGUMENT", f"entries[{position}].{name} is missing: set it there or once for the request."
                )
        resource_labels = {"project_id": call.cloud.project, **entry["resource"].get("labels", {})}
        entry["resource"] = {**entry["resource"], "labels": resource_labels}
        labels = {**body.get("labels", {}), **entry.get("labels", {})}
        if labels:
            entry["labels"] = labels
        _check_resource_name(call, entry["logName"].partition("/logs/")[0])
        entries.append(entry)
    if not body.get("dryRun"):
        try:
            append(call.cloud, entries)
        except ValueError as error:
            raise ApiError(400, "INVALID_ARGUMENT", f"timestamp: {error}") from None
    return {}


@method("logging.entries.list")
def list_entries(call: Call) -> dict[str, Any]:
    """The entries that match a filter, by time."""
    body = call.body
    _check_resource_names(call)
    order = " ".join(body.get("orderBy", "timestamp asc").split()) or "timestamp asc"
    if order not in ("timestamp asc", "timestamp desc", "timestamp"):
        raise ApiError(400, "INVALID_ARGUMENT", f"orderBy must be 'timestamp asc' or 'timestamp desc', not {order!r}.")
    size = body.get("pageSize", 50)
    if size < 0:
        raise ApiError(400, "INVALID_ARGUMENT", f"pageSize must not be negative, but is {size}.")
    size = min(size or 50, _MAX_PAGE)
    condition, parameters = condition_of(body.get("filter", ""))
    descending = order.endswith("desc")
    if body.get("pageToken"):
        micros, insert_id, row = _read_token(body["pageToken"])
        condition += f" AND (micros, insert_id, id) {'<' if descending else '>'} (?, ?, ?)"
        parameters = [*parameters, micros, insert_id, row]
    direction = "DESC" if descending else "ASC"
    rows = call.cloud.db.query(
        f"SELECT id, micros, insert_id, entry FROM log_entries WHERE {condition}"
        f" ORDER BY micros {direction}, insert_id {direction}, id {direction} LIMIT ?",
        [*parameters, size + 1],
    )
    answer: dict[str, Any] = {"entries": [json.loads(row["entry"]) for row in rows[:size]]}
    if len(rows) > size:
        last = rows[size - 1]
        answer["nextPageToken"] = _write_token(last["micros"], last["insert_id"], last["id"])
    return answer


@method("logging.entries.tail")
async def tail_entries(call: Call) -> StreamingResponse:
    """What is written from now on and matches a filter, until the client goes away: REST's form of a stream, a JSON array."""
    _check_resource_names(call)
    condition, parameters = condition_of(call.body.get("filter", ""))
    matching = f"SELECT id, entry FROM log_entries WHERE id > ? AND {condition} ORDER BY id LIMIT {_MAX_PAGE}"
    newest = (await run_sync(call.cloud.db.query, "SELECT coalesce(max(id), 0) AS id FROM log_entries"))[0]["id"]

    async def answers() -> AsyncIterator[str]:
        after, separator = newest, "["
        while True:
            if rows := await run_sync(call.cloud.db.query, matching, [after, *parameters]):
                yield separator + json.dumps({"entries": [json.loads(row["entry"]) for row in rows]}) + "\n"
                after, separator = rows[-1]["id"], ","
            else:
                await asyncio.sleep(_TAIL_SECONDS)

    return StreamingResponse(answers(), media_type="application/json")


@method("logging.projects.logs.list", "logging.logs.list")
def list_logs(call: Call) -> dict[str, Any]:
    """The names of the logs that hold entries."""
    _check_resource_name(call, call.params["parent"])
    size = min(call.params.get("pageSize") or 50, _MAX_PAGE)
    rows = call.cloud.db.query(
        "SELECT DISTINCT log_name FROM log_entries WHERE log_name > ? ORDER BY log_name LIMIT ?",
        [call.params.get("pageToken", ""), size + 1],
    )
    answer: dict[str, Any] = {"logNames": [row["log_name"] for row in rows[:size]]} if rows else {}
    if len(rows) > size:
        answer["nextPageToken"] = rows[size - 1]["log_name"]
    return answer


@method("logging.projects.logs.delete", "logging.logs.delete")
def delete_log(call: Call) -> dict[str, Any]:
    """Forgets a log's entries."""
    parent, _, log = call.params["logName"].partition("/logs/")
    _check_resource_name(call, parent)
    # a client may write the slashes of the log's own name as they are
    name = f"projects/{call.cloud.project}/logs/{quote(unquote(log), safe='')}"
    if not call.cloud.db.execute("DELETE FROM log_entries WHERE log_name = ?", (name,)):
        raise ApiError(404, "NOT_FOUND", f"Log {name} does not exist")
    return {}


def _check_resource_names(call: Call) -> None:
    """Raises ApiError unless the body names something to read, and only what is the project's."""
    names = [*call.body.get("resourceNames", []), *(f"projects/{project}" for project in call.body.get("projectIds", []))]
    if not names:
        raise ApiError(400, "INVALID_ARGUMENT", "resourceNames is missing: name at least one, such as projects/PROJECT.")
    for name in names:
        _check_resource_name(call, name)


def _check_resource_name(call: Call, name: str) -> None:
    project = name.removeprefix("projects/").partition("/")[0]
    if not name.startswith("projects/") or project not in (call.cloud.project, call.cloud.project_number):
        raise ApiError(
            403,
            "PERMISSION_DENIED",
            f"The caller does not have permission on {name!r}: this local cloud has one project, {call.cloud.project}.",
        )


def _write_token(micros: int, insert_id: str, row: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([micros, insert_id, row]).encode()).decode()


def _read_token(token: str) -> tuple[int, str, int]:
    try:
        micros, insert_id, row = json.loads(base64.urlsafe_b64decode(token))
        return int(micros), str(insert_id), int(row)
    except (ValueError, TypeError):
        raise ApiError(400, "INVALID_ARGUMENT", f"page_token {token!r} is not one that this service gave.") from None
