"""A YAML file as plain values with line numbers: what every file that describes a job is read with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from launcher.errors import UserError

Location: TypeAlias = tuple[Any, ...]
EXAMPLES = "examples/digits/job.yaml"


def load(text: str, name: str) -> Any:
    """A YAML text, a mapping that knows its lines. Raises UserError, also for a field without a value."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        document = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        said = (
            error.problem
            if not error.context or not str(error.problem).startswith("but")
            else f"{error.context} {error.problem}"
        )
        raise UserError(f"{where}: not valid YAML: {said}; check indentation, colons and quotes there") from None
    except YAMLError as error:
        raise UserError(f"{name}: not valid YAML: {str(error).splitlines()[0]}") from None
    except (ValueError, AttributeError, TypeError, AssertionError, NotImplementedError, RecursionError) as error:
        # ruamel's own trips over what no one writes: a date that is none, a directive it does not know.
        raise UserError(f"{name}: not valid YAML: {str(error).splitlines()[0] if str(error) else error!r}") from None
    if not hasattr(document, "lc") or not hasattr(document, "keys"):
        raise UserError(
            f"{name}:1: a job file is a mapping that begins with `trainingInput:` or has `workerPools:`; see {EXAMPLES}"
        )
    for location in _empty(document):
        raise UserError(f"{name}:{line(document, location)}: {path(location)}: has no value; give one or remove it")
    return document


def plain(value: Any) -> Any:
    """ruamel's round-trip values as Python's own."""
    if hasattr(value, "items"):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if type(value).__name__ == "ScalarBoolean":
        return bool(value)
    return getattr(value, "value", value)  # a scalar with a tag of its own is what it says without the tag


def locations(value: Any, location: Location = ()) -> Iterator[Location]:
    """Every field in a document, the inner ones too."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*location, key)
        yield from locations(item, (*location, key))


def _empty(node: Any, location: Location = ()) -> Iterator[Location]:
    """Where a field stands without a value."""
    for key, value in node.items() if hasattr(node, "items") else enumerate(node):
        if len(location) > 20:
            return  # an alias to what holds it; said when it is made plain
        if value is None:
            yield (*location, key)
        elif hasattr(value, "items") or isinstance(value, list):
            yield from _empty(value, (*location, key))


def line(document: Any, location: Sequence[Any]) -> int:
    """The 1-based line of the field at `location`, or of the nearest mapping around it."""
    found, node = document.lc.line, document
    for key in location:
        try:
            found = (node.lc.key(key) if hasattr(node, "keys") else node.lc.item(key))[0]
            node = node[key]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return int(found) + 1


def path(location: Sequence[Any]) -> str:
    """A field's location as people write it: `trainingInput.args[1]`."""
    names = (part if not isinstance(part, str) or part.isprintable() else repr(part) for part in location)
    return "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in names).lstrip(".")
