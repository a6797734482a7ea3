"""Checks requests and responses against Google's discovery documents, field by field.

The documents' schemas are turned into JSON Schema (nothing beyond the named properties allowed) and the `jsonschema` library
does the checking, so that nothing is shared with the code under test.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import googleapiclient
from jsonschema import Draft202012Validator

_TIME = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$"
_STRINGS: dict[str, dict[str, Any]] = {
    "int64": {"pattern": r"^-?\d{1,19}$"},
    "uint64": {"pattern": r"^\d{1,20}$"},
    "byte": {"pattern": r"^([A-Za-z0-9+/_-]{4})*([A-Za-z0-9+/_-]{2}(==)?|[A-Za-z0-9+/_-]{3}=?)?$"},
    "date-time": {"pattern": _TIME},
    "google-datetime": {"pattern": _TIME},
    "google-duration": {"pattern": r"^-?\d{1,12}(\.\d{1,9})?s$"},
    "google-fieldmask": {"pattern": r"^[^\s]*$"},
    "date": {"pattern": r"^\d{4}-\d\d-\d\d$"},
}
_INTEGERS = {
    "int32": {"minimum": -(2**31), "maximum": 2**31 - 1},
    "uint32": {"minimum": 0, "maximum": 2**32 - 1},
}


@cache
def document(api: str, version: str) -> dict[str, Any]:
    folder = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
    found: dict[str, Any] = json.loads((folder / f"{api}.{version}.json").read_text(encoding="utf-8"))
    return found


@cache
def methods(api: str, version: str) -> dict[str, dict[str, Any]]:
    """All methods of a document by their id."""
    found: dict[str, dict[str, Any]] = {}

    def visit(resource: dict[str, Any]) -> None:
        for method in resource.get("methods", {}).values():
            found[method["id"]] = method
        for child in resource.get("resources", {}).values():
            visit(child)

    visit(document(api, version))
    return found


def check_request(
    api: str, version: str, method_id: str, path_params: dict[str, Any], query: dict[str, Any], body: Any = None
) -> None:
    """AssertionError unless the method exists and takes exactly these path parameters, these query parameters and this body."""
    method = methods(api, version)[method_id]
    parameters = method.get("parameters", {})
    in_path = {name for name, parameter in parameters.items() if parameter["location"] == "path"}
    assert set(path_params) == in_path, f"{method_id} has the path parameters {sorted(in_path)}, not {sorted(path_params)}"
    for name, value in path_params.items():
        pattern = parameters[name].get("pattern", ".+")
        assert re.search(pattern, str(value)), f"{method_id}: {name}={value!r} does not match {pattern}"
    common = document(api, version)["parameters"]
    required = {name for name, item in parameters.items() if item.get("required") and item["location"] == "query"}
    assert required <= set(query), f"{method_id}: the query lacks {sorted(required - set(query))}"
    for name, value in query.items():
        parameter = parameters.get(name) or common.get(name)
        assert parameter is not None and parameter["location"] == "query", f"{method_id} has no query parameter {name}"
        assert parameter.get("repeated") or not isinstance(value, list | tuple), f"{method_id}: {name} is not repeated"
        for item in value if isinstance(value, list | tuple) else [value]:
            _check(api, version, _plain(parameter), _from_text(parameter, item), f"{method_id}: query parameter {name}")
    if "request" in method:
        _check(api, version, _schema(method["request"]), {} if body is None else body, f"{method_id}: request")
    else:
        assert body is None, f"{method_id} takes no body"


def check_response(api: str, version: str, method_id: str, body: Any) -> None:
    """AssertionError unless the body is the method's response message; None (an empty answer) where it has none."""
    method = methods(api, version)[method_id]
    if "response" not in method:
        assert body is None, f"{method_id} answers nothing, not {body!r}"
        return
    _check(api, version, _schema(method["response"]), body, f"{method_id}: response")


def _check(api: str, version: str, schema: dict[str, Any], value: Any, what: str) -> None:
    whole = {**schema, "$defs": _definitions(api, version)}
    faults = list(Draft202012Validator(whole).iter_errors(value))
    assert not faults, f"{what} is not what the document says:\n" + "\n".join(
        f"  at {'.'.join(map(str, fault.absolute_path)) or 'the top'}: {fault.message}" for fault in faults
    )


@cache
def _definitions(api: str, version: str) -> dict[str, Any]:
    return {name: _schema(schema) for name, schema in document(api, version)["schemas"].items()}


def _schema(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return {"$ref": f"#/$defs/{schema['$ref']}"}
    kind = schema["type"]
    if kind == "array":
        return {"type": "array", "items": _schema(schema["items"])}
    if kind == "object":
        return {
            "type": "object",
            "properties": {name: _schema(item) for name, item in schema.get("properties", {}).items()},
            "additionalProperties": _schema(schema["additionalProperties"]) if "additionalProperties" in schema else False,
        }
    return _plain(schema)


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    kind, form = schema["type"], schema.get("format")
    if kind == "any":
        return {}
    if kind == "number":
        return {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
    found: dict[str, Any] = {"type": kind}
    if kind == "integer":
        found |= _INTEGERS[form or "int32"]
    if kind == "string" and form:
        found |= _STRINGS[form]
    if "enum" in schema:
        found["enum"] = schema["enum"]
    return found


def _from_text(parameter: dict[str, Any], value: Any) -> Any:
    """Query parameters travel as text; a test may give them as text too."""
    if not isinstance(value, str):
        return str(value) if parameter["type"] == "string" and isinstance(value, int) and not isinstance(value, bool) else value
    if parameter["type"] == "boolean":
        return {"true": True, "false": False}.get(value, value)
    if parameter["type"] == "integer" and re.fullmatch(r"-?\d+", value):
        return int(value)
    return value
