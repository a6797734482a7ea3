"""Cloud Logging v2: entries written by replicas and clients, listed with the part of its query language that clients use.

Source: the logging v2 discovery document and the page "Logging query language". An index finds rows by job and time.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from localcloud import filters
from localcloud.api import ApiError, Call, method
from localcloud.database import register_schema

if TYPE_CHECKING:
    from localcloud.cloud import Cloud

SEVERITIES = {
    "DEFAULT": 0,
    "DEBUG": 100,
    "INFO": 200,
    "NOTICE": 300,
    "WARNING": 400,
    "ERROR": 500,
    "CRITICAL": 600,
    "ALERT": 700,
    "EMERGENCY": 800,
}

register_schema("""
CREATE TABLE IF NOT EXISTS log_entries (
    id INTEGER PRIMARY KEY,
    micros INTEGER NOT NULL,          -- timestamp in microseconds since 1970
    insert_id TEXT NOT NULL,
    job_id TEXT NOT NULL,             -- resource.labels.job_id, '' when there is none
    task_name TEXT NOT NULL,          -- resource.labels.task_name, '' when there is none
    resource_type TEXT NOT NULL,
    severity INTEGER NOT NULL,
    log_name TEXT NOT NULL,
    entry TEXT NOT NULL               -- the LogEntry as JSON
);
CREATE INDEX IF NOT EXISTS log_entries_by_job ON log_entries (job_id, micros, insert_id);
CREATE INDEX IF NOT EXISTS log_entries_by_time ON log_entries (micros, insert_id);
""")

_MAX_PAGE = 1000
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?)?([Zz]|[+-]\d\d:?\d\d)?$")
_lock = threading.Lock()
_last = 0


def micros_of(text: str) -> int:
    """An RFC 3339 time (also a date alone; UTC unless it says otherwise) in microseconds since 1970. Raises ValueError."""
    match = _TIME.match(text.strip())
    if not match:
        raise ValueError(f"{text!r} is no RFC 3339 time such as 2026-01-31T12:00:00Z")
    date, clock, fraction, zone = match.groups()
    offset = "+00:00" if not zone or zone in "Zz" else zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
    clock = clock or "00:00:00"
    moment = datetime.fromisoformat(f"{date}T{clock if len(clock) > 5 else clock + ':00'}{offset}")
    return int(moment.timestamp()) * 1_000_000 + int((fraction or "0").ljust(9, "0")[:6])


def rfc3339(micros: int) -> str:
    """Microseconds since 1970 as RFC 3339 text of fixed width (clients compare it as text)."""
    return (
        datetime.fromtimestamp(micros // 1_000_000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S") + f".{micros % 1_000_000:06d}Z"
    )


def _tick() -> int:
    """The time in microseconds, later at each call: entries keep the order they were written in."""
    global _last
    with _lock:
        _last = max(_last + 1, time.time_ns() // 1000)
        return _last


def append(cloud: Cloud, entries: Iterable[Mapping[str, Any]]) -> None:
    """Store LogEntry messages; what they lack (timestamp, insertId, severity) is added. Raises ValueError (timestamp)."""
    rows = []
    for entry in entries:
        now = _tick()
        micros = micros_of(entry["timestamp"]) if entry.get("timestamp") else now
        whole = {
            "insertId": f"{now:014x}",  # of fixed width and growing: clients page by it within one timestamp
            "severity": "DEFAULT",
            **entry,
            "timestamp": rfc3339(micros),
            "receiveTimestamp": rfc3339(now),
        }
        resource = whole.get("resource", {})
        labels = resource.get("labels", {})
        rows.append(
            (
                micros,
                whole["insertId"],
                labels.get("job_id", ""),
                labels.get("task_name", ""),
                resource.get("type", ""),
                SEVERITIES.get(whole["severity"], 0),
                whole.get("logName", ""),
                json.dumps(whole, ensure_ascii=False),
            )
        )
    with cloud.db.transaction():
        for row in rows:
            cloud.db.execute(
                "INSERT INTO log_entries (micros, insert_id, job_id, task_name, resource_type, severity, log_name, entry)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )


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
    names = [*body.get("resourceNames", []), *(f"projects/{project}" for project in body.get("projectIds", []))]
    if not names:
        raise ApiError(400, "INVALID_ARGUMENT", "resourceNames is missing: name at least one, such as projects/PROJECT.")
    for name in names:
        _check_resource_name(call, name)
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


def condition_of(text: str) -> filters.Condition:
    """The SQL condition of a Logging filter. Raises ApiError 400 naming the filter."""
    try:
        tree = filters.parse(text)
        return filters.to_sql(tree, _compare, _search) if tree else ("1", [])
    except (filters.FilterError, ValueError) as error:
        raise ApiError(400, "INVALID_ARGUMENT", f"Unparseable filter: {error}; filter = {text!r}.") from None
    except RecursionError:
        raise ApiError(400, "INVALID_ARGUMENT", "Unparseable filter: it is nested too deeply.") from None


_COLUMNS = {
    "resource.type": "resource_type",
    "resource.labels.job_id": "job_id",
    "resource.labels.task_name": "task_name",
    "logName": "log_name",
    "log_name": "log_name",
    "insertId": "insert_id",
    "insert_id": "insert_id",
}
_SQL_OPERATORS = {"=": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


def _compare(comparison: filters.Comparison) -> filters.Condition:
    field, operator, value = comparison.field, comparison.operator, comparison.value
    if field in ("timestamp", "receiveTimestamp"):
        if operator == ":":
            raise ValueError(f"{field} cannot be compared with ':'")
        if field == "receiveTimestamp":
            return f"json_extract(entry, '$.receiveTimestamp') {_SQL_OPERATORS[operator]} ?", [rfc3339(micros_of(value))]
        return f"micros {_SQL_OPERATORS[operator]} ?", [micros_of(value)]
    if field == "severity":
        level = SEVERITIES.get(value.upper(), int(value) if value.isdecimal() else None)
        if level is None:
            raise ValueError(f"{value!r} is no severity: use one of {', '.join(SEVERITIES)}")
        return f"severity {'=' if operator == ':' else _SQL_OPERATORS[operator]} ?", [level]
    if field in _COLUMNS:
        return _compare_text(_COLUMNS[field], operator, value)
    path = _json_path(field)
    expression = f"json_extract(entry, {path})"
    if operator == ":" and value == "*":
        return f"json_type(entry, {path}) IS NOT NULL", []
    if field == "textPayload":
        return _compare_text(f"coalesce({expression}, '')", operator, value)
    if operator != ":" and (number := _number(value)) is not None:
        # The filter does not say whether the field is a number or text that looks like one; the entry does.
        sql = _SQL_OPERATORS[operator]
        numeric = f"json_type(entry, {path}) IN ('integer', 'real')"
        return f"(CASE WHEN {numeric} THEN {expression} {sql} ? ELSE {expression} {sql} ? END)", [number, value]
    if value in ("true", "false") and operator in ("=", "!="):
        return f"json_type(entry, {path}) {_SQL_OPERATORS[operator]} ?", [value]
    return _compare_text(expression, operator, value)


def _compare_text(expression: str, operator: str, value: str) -> filters.Condition:
    if operator == ":":
        if value == "*":
            return f"{expression} <> ''", []
        return f"instr(lower({expression}), lower(?)) > 0", [value]
    return f"{expression} {_SQL_OPERATORS[operator]} ?", [value]


def _search(value: str) -> filters.Condition:
    return "instr(lower(entry), lower(?)) > 0", [value]


_TOP_LEVEL = frozenset(
    {
        "textPayload",
        "jsonPayload",
        "labels",
        "resource",
        "httpRequest",
        "operation",
        "trace",
        "spanId",
        "sourceLocation",
        "split",
    }
)


def _json_path(field: str) -> str:
    """An SQL literal of the JSON path of a LogEntry's field, e.g. `labels."a.b/c"`. Raises ValueError for an unknown field."""
    names = [quoted.replace('\\"', '"') or plain for quoted, plain in re.findall(r'"((?:[^"\\]|\\.)*)"|([^."]+)', field)]
    if not names or names[0] not in _TOP_LEVEL or (names[0] == "resource" and names[1:2] not in (["type"], ["labels"])):
        raise ValueError(f"{field} is no field of a log entry")
    if any('"' in name for name in names):
        raise ValueError(f"{field} holds a quotation mark")
    path = "$" + "".join(f'."{name}"' for name in names)
    return "'" + path.replace("'", "''") + "'"


def _number(value: str) -> float | None:
    return float(value) if re.fullmatch(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", value) else None


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
