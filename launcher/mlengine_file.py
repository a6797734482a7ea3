"""ML Engine's YAML (or JSON) file as `--config` takes it: a Job resource with every field optional, checked with line numbers.

The authority is the discovery document `ml.v1` (`GoogleCloudMlV1__Job`), so what the old service knew is known here, field by
field, and what it did not know is an error and not dropped.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher import google
from launcher.errors import UserError

JOB = "GoogleCloudMlV1__Job"
_KINDS = {
    "string": (str, "text"),
    "boolean": (bool, "true or false"),
    "integer": (int, "a whole number"),
    "number": (float, ""),
}


@dataclass(frozen=True)
class Document:
    """A checked Job resource, and where each of its fields stands: path (`trainingInput.region`) to `file:line: path`."""

    job: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)


def read(path: Path) -> Document:
    """Reads a configuration file. Raises UserError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"--config {path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path}: cannot read the file: {error}") from error
    return parse(text, str(path))


def parse(text: str, name: str) -> Document:
    """Reads a configuration's text; `name` is how messages call the file. Raises UserError."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        loaded = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UserError(f"{name}:{mark.line + 1 if mark else 1}: not valid YAML: {error.problem or error.context}") from None
    except (YAMLError, ValueError) as error:
        raise UserError(f"{name}: not valid YAML: {str(error).splitlines()[0]}") from None
    if not hasattr(loaded, "items"):
        raise UserError(f"{name}:1: must be a mapping that begins with `trainingInput:`")
    reader = _Reader(name, google.document("ml", "v1")["schemas"])
    return Document(reader.message(loaded, JOB, "", 1), reader.places)


class _Reader:
    def __init__(self, name: str, schemas: Mapping[str, Any]) -> None:
        self._name, self._schemas = name, schemas
        self.places: dict[str, str] = {}

    def message(self, node: Any, schema: str, path: str, line: int) -> dict[str, Any]:
        """A mapping as a message of `schema`; int64 as the text that JSON carries."""
        if not hasattr(node, "items"):
            raise self._error(line, path, f"must hold indented fields, not {_shown(node)}")
        known, made = self._schemas[schema]["properties"], {}
        for key, value in node.items():
            here, at = f"{path}.{key}".lstrip("."), _line(node, key, line)
            if key not in known:
                close = difflib.get_close_matches(str(key), known, n=1, cutoff=0.6)
                hint = f"did you mean {close[0]}?" if close else f"one of {', '.join(known)}"
                raise self._error(at, here, f"unknown field; {hint}")
            if value is None:
                raise self._error(at, here, "has no value; give one or remove it")
            self.places[here] = f"{self._name}:{at}: {here}"
            made[str(key)] = self._value(value, known[key], here, at)
        return made

    def _value(self, value: Any, kind: Mapping[str, Any], path: str, line: int) -> Any:
        if "$ref" in kind:
            return self.message(value, kind["$ref"], path, line)
        if kind["type"] == "array":
            if not isinstance(value, list):
                raise self._error(line, path, 'must be a list; write one item per line, each after "- "')
            items = [(position, item, _line(value, position, line)) for position, item in enumerate(value)]
            return [self._value(item, kind["items"], f"{path}[{position}]", at) for position, item, at in items]
        if kind["type"] == "object":
            if not hasattr(value, "items"):
                raise self._error(line, path, f"must hold indented fields, not {_shown(value)}")
            inner = kind.get("additionalProperties", {"type": "string"})
            return {str(key): self._value(item, inner, f"{path}.{key}", _line(value, key, line)) for key, item in value.items()}
        if kind.get("format") == "int64":
            if isinstance(value, bool) or not re.fullmatch(r"\d{1,18}", str(value), re.ASCII):
                raise self._error(line, path, f"must be a whole number, not {_shown(value)}")
            return str(int(value))
        wanted, words = _KINDS[kind["type"]]
        if not isinstance(value, wanted) or isinstance(value, bool) != (wanted is bool):
            quotes = f'; write "{value}", in quotes' if wanted is str and not hasattr(value, "items") else ""
            raise self._error(line, path, f"must be {words}, not {_shown(value)}{quotes}")
        plain = wanted(value)
        if "enum" in kind and plain not in kind["enum"]:
            raise self._error(line, path, f"unknown value {plain!r}; one of {', '.join(kind['enum'])}")
        return plain

    def _error(self, line: int, path: str, message: str) -> UserError:
        return UserError(f"{self._name}:{line}: {path + ': ' if path else ''}{message}")


def _line(node: Any, key: Any, default: int) -> int:
    """The 1-based line of a mapping's or list's item."""
    try:
        found = node.lc.key(key) if hasattr(node, "items") else node.lc.item(key)
    except (AttributeError, KeyError, IndexError, TypeError):
        return default
    return int(found[0]) + 1


def _shown(value: Any) -> str:
    try:
        return json.dumps(value, default=str)
    except (TypeError, ValueError):
        return str(value)
