"""Cloud Logging's query language as SQL over the table of log entries.

Source: the page "Logging query language" (cloud.google.com/logging/docs/view/logging-query-language).
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from localcloud import filters
from localcloud.api import ApiError
from localcloud.cloud import PROJECT
from localcloud.moments import micros_of, rfc3339

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


def condition_of(text: str) -> filters.Condition:
    """The SQL condition of a Logging filter. Raises ApiError 400 naming the filter."""
    try:
        tree = filters.parse(text, (*filters.OPERATORS, *_REGULAR), {"log_id": _log_id, "SEARCH": _search_words})
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
_REGULAR = {"=~": "", "!~": "NOT "}
_IDS = frozenset({"job_id", "insert_id"})


def _compare(comparison: filters.Comparison) -> filters.Condition:
    field, operator, value = comparison.field, comparison.operator, comparison.value
    if operator in _REGULAR:
        return _match(comparison)
    if field in ("timestamp", "receiveTimestamp"):
        if operator == ":":
            raise ValueError(f"{field} cannot be compared with ':'")
        if field == "receiveTimestamp":
            return f"json_extract(entry, '$.receiveTimestamp') {filters.SQL_OPERATORS[operator]} ?", [rfc3339(micros_of(value))]
        return f"micros {filters.SQL_OPERATORS[operator]} ?", [micros_of(value)]
    if field == "severity":
        level = SEVERITIES.get(value.upper(), int(value) if value.isdecimal() else None)
        if level is None:
            raise ValueError(f"{value!r} is no severity: use one of {', '.join(SEVERITIES)}")
        return f"severity {'=' if operator == ':' else filters.SQL_OPERATORS[operator]} ?", [level]
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
        sql = filters.SQL_OPERATORS[operator]
        numeric = f"json_type(entry, {path}) IN ('integer', 'real')"
        return f"(CASE WHEN {numeric} THEN {expression} {sql} ? ELSE {expression} {sql} ? END)", [number, value]
    if value in ("true", "false") and operator in ("=", "!="):
        return f"json_type(entry, {path}) {filters.SQL_OPERATORS[operator]} ?", [value]
    return _compare_text(expression, operator, value)


def _compare_text(expression: str, operator: str, value: str) -> filters.Condition:
    if operator == ":":
        if value == "*":
            return f"{expression} <> ''", []
        return f"instr(lower({expression}), lower(?)) > 0", [value]
    # no comparison of text regards case, but those of ids, which an index answers
    collation = "" if expression in _IDS else " COLLATE NOCASE"
    return f"{expression} {filters.SQL_OPERATORS[operator]} ?{collation}", [value]


def _match(comparison: filters.Comparison) -> filters.Condition:
    """A regular expression found anywhere in a field's text. (Google's are RE2's, of which Python's are a superset.)"""
    field = comparison.field
    if field in ("timestamp", "receiveTimestamp", "severity"):
        raise ValueError(f"{field} cannot be compared with {comparison.operator!r}")
    try:
        re.compile(comparison.value)
    except re.error as error:
        raise ValueError(f"{comparison.value!r} is no regular expression: {error}") from None
    expression = _COLUMNS.get(field) or f"json_extract(entry, {_json_path(field)})"
    return f"{expression} {_REGULAR[comparison.operator]}REGEXP ?", [comparison.value]


def _log_id(name: str) -> filters.Node:
    """`log_id("a/b")`: the project's log of this name, whose slashes its `logName` has encoded."""
    return filters.Comparison("logName", "=", f"projects/{PROJECT}/logs/{quote(unquote(name), safe='')}")


def _search_words(query: str) -> filters.Node:
    """`SEARCH("a `b c`")`: entries that hold every word, and what stands between backticks as it is. Raises ValueError."""
    words = [phrase or word for phrase, word in re.findall(r"`([^`]+)`|([^\s`]+)", query)]
    if not words:
        raise ValueError(f"there is nothing to search for in {query!r}")
    return filters.And(tuple(filters.Text(word) for word in words))


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
