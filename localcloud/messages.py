"""Reads JSON as the services read it: by the schemas of a discovery document, into the one canonical form.

The rules are those of the JSON mapping of protocol buffers (https://protobuf.dev/programming-guides/json/): a field may be
written by its camelCase or its snake_case name, 64-bit integers as numbers or strings, null means absent. The older storage
API keeps null (a patch removes a setting with it).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

from pydantic_core import from_json

_RANGES = {
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_DURATION = re.compile(r"-?\d{1,12}(\.\d{1,9})?s")
_STRING_FORMATS = {
    "date-time": (_TIME, "type.googleapis.com/google.protobuf.Timestamp"),
    "google-datetime": (_TIME, "type.googleapis.com/google.protobuf.Timestamp"),
    "date": (_DATE, "TYPE_STRING"),
    "google-duration": (_DURATION, "type.googleapis.com/google.protobuf.Duration"),
}

# A client may give an enum's number for its name, and google-cloud-logging does so. The documents do not tell the numbers;
# these are of google.logging.type.LogSeverity: 0, 100, … 800.
_SEVERITIES = ["DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY"]


class MessageError(Exception):
    """A message the schema does not allow; `path` names the field, `kind` the type wanted, `shown` the value as JSON."""

    def __init__(self, message: str, path: str = "", kind: str = "", shown: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.kind = kind
        self.shown = shown


def parse_json(text: bytes | bytearray) -> Any:
    """What JSON text says. Raises ValueError for what an answer could not tell again: half of a surrogate pair, NaN, or a value
    some 200 levels deep."""
    return from_json(bytes(text), allow_inf_nan=False)


def read_message(
    schemas: dict[str, Any], reference: str, value: dict[str, Any], *, proto: bool = True, lenient: bool = False
) -> dict[str, Any]:
    """The message `value` of schema `reference` in canonical form. Raises MessageError for an unknown or wrongly typed field.

    `proto` False: null values stay, output-only fields stay, names must be spelled as in the document.
    `lenient`: an unknown field is left out, as the storage service does.
    """
    read: dict[str, Any] = _Reader(schemas, proto, lenient).read({"$ref": reference}, value, "")
    return read


def read_parameter(parameter: dict[str, Any], text: str) -> Any:
    """A path or query parameter from its text: bool, int, float or str. Raises MessageError."""
    kind = parameter["type"]
    if kind == "string" and not parameter.keys() & {"enum", "format"}:
        return text
    if kind == "boolean":
        if text.lower() not in ("true", "false"):
            raise _wrong("", "TYPE_BOOL", text)
        return text.lower() == "true"
    return _Reader({}, True).read({key: item for key, item in parameter.items() if key != "repeated"}, text, "")


class _Reader:
    def __init__(self, schemas: dict[str, Any], proto: bool, lenient: bool = False) -> None:
        self._schemas = schemas
        self._lenient = lenient
        self._proto = proto

    def read(self, schema: dict[str, Any], value: Any, path: str) -> Any:
        if "$ref" in schema:
            schema = self._schemas[schema["$ref"]]
        kind = schema["type"]
        if kind == "any":
            return value
        if kind == "object":
            return self._object(schema, value, path)
        if kind == "array":
            if not isinstance(value, list):
                value = [value]  # the services take a single value for a list of one
            return [self.read(schema["items"], item, f"{path}[{index}]") for index, item in enumerate(value)]
        if kind == "boolean":
            if not isinstance(value, bool):
                raise _wrong(path, "TYPE_BOOL", value)
            return value
        if kind == "integer":
            return _integer(path, schema.get("format", "int32"), value)
        if kind == "number":
            return _number(path, schema.get("format", "double"), value)
        return _string(path, schema, value)

    def _object(self, schema: dict[str, Any], value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong(path, schema.get("id", "TYPE_MESSAGE"), value)
        properties = schema.get("properties", {})
        additional = schema.get("additionalProperties")
        read: dict[str, Any] = {}
        for given, item in value.items():
            name = _property_name(properties, given) if self._proto else given
            below = f"{path}.{given}" if path else given
            if name in properties:
                if self._proto and (item is None or properties[name].get("readOnly")):
                    continue
                read[name] = None if item is None else self.read(properties[name], item, below)
            elif additional is not None:
                read[given] = None if item is None else self.read(additional, item, below)
            elif not self._lenient:
                where = f" at '{path}'" if path else ""
                raise MessageError(f'Invalid JSON payload received. Unknown name "{given}"{where}: Cannot find field.', path)
        return read


def _property_name(properties: dict[str, Any], given: str) -> str:
    return given if given in properties else re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), given)


def _integer(path: str, kind: str, value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?\d+", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    low, high = _RANGES[kind]
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _wrong(path, f"TYPE_{kind.upper()}", value)
    return value


def _number(path: str, kind: str, value: Any) -> float | str:
    if value in ("NaN", "Infinity", "-Infinity"):
        return str(value)
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value) if isinstance(value, str) else value + 0
    except (TypeError, ValueError):
        raise _wrong(path, f"TYPE_{kind.upper()}", value) from None


def _string(path: str, schema: dict[str, Any], value: Any) -> str:
    form = schema.get("format")
    if form in ("int64", "uint64"):
        return str(_integer(path, form, value))
    if schema.get("enum") == _SEVERITIES and type(value) is int and value in range(0, 801, 100):
        return _SEVERITIES[value // 100]
    if not isinstance(value, str):
        raise _wrong(path, "TYPE_STRING", value)
    if "enum" in schema and value not in schema["enum"]:
        raise _wrong(path, "TYPE_ENUM", value)
    if form in _STRING_FORMATS:
        pattern, kind = _STRING_FORMATS[form]
        if not pattern.fullmatch(value):
            raise _wrong(path, kind, value)
    if form == "byte":
        return _bytes(path, value)
    return value


def _bytes(path: str, value: str) -> str:
    """Standard or URL-safe base64, padded or not; kept as written."""
    plain = value.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _wrong(path, "TYPE_BYTES", value) from None
    return value


def _wrong(path: str, kind: str, value: Any) -> MessageError:
    shown = json.dumps(value, ensure_ascii=False)
    shown = shown if len(shown) <= 200 else shown[:200] + "…"
    return MessageError(f"Invalid value at '{path}' ({kind}), {shown}", path, kind, shown)
