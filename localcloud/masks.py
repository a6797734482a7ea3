"""Field masks: `fields=` in a query cuts an answer down, `updateMask` says what of a message a patch changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from localcloud.api import invalid

_TOKEN = re.compile(r"[^\s,/()]+|[,/()]")
Tree = dict[str, "Tree"]


def select(answer: Mapping[str, Any], fields: str) -> dict[str, Any]:
    """The part of an answer that a `fields` parameter asks for: `a,b/c,d(e,f),*` as Google's partial responses take it.

    What the answer has not is left out. Raises ApiError 400 for text that is no mask.
    """
    tokens = _TOKEN.findall(fields)
    if "".join(tokens) != re.sub(r"\s", "", fields):
        raise _wrong(fields)
    tree, rest = _alternatives(tokens, fields)
    if rest:
        raise _wrong(fields)
    kept: dict[str, Any] = _cut(answer, tree)
    return kept


def _alternatives(tokens: list[str], text: str) -> tuple[Tree, list[str]]:
    tree: Tree = {}
    while True:
        if not tokens or tokens[0] in ",/()":
            raise _wrong(text)
        node, tokens = tree.setdefault(tokens[0], {}), tokens[1:]
        while tokens[:1] == ["/"]:
            if len(tokens) < 2 or tokens[1] in ",/()":
                raise _wrong(text)
            node, tokens = node.setdefault(tokens[1], {}), tokens[2:]
        if tokens[:1] == ["("]:
            below, tokens = _alternatives(tokens[1:], text)
            if tokens[:1] != [")"]:
                raise _wrong(text)
            node.update(below)
            tokens = tokens[1:]
        if tokens[:1] != [","]:
            return tree, tokens
        tokens = tokens[1:]


def _cut(value: Any, tree: Tree) -> Any:
    if not tree:
        return value
    if isinstance(value, list):
        return [_cut(item, tree) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {name: _cut(item, tree.get(name, tree.get("*", {}))) for name, item in value.items() if name in tree or "*" in tree}


def _wrong(fields: str) -> Exception:
    return invalid(f"Invalid field selection {fields}", field_path="fields")


def camel(path: str) -> str:
    """`oidc.issuer_uri` -> `oidc.issuerUri`."""
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), path)


def merge(old: Mapping[str, Any], given: Mapping[str, Any], mask: str, allowed: tuple[str, ...]) -> dict[str, Any]:
    """`old` with what `mask` names taken from `given`; what it names and `given` lacks goes. `*` or no mask: all of `allowed`.

    Raises ApiError 400 for a path whose first part is not in `allowed`.
    """
    if mask in ("", "*"):
        paths = [name for name in allowed if name in given]
    else:
        paths = [camel(path.strip()) for path in mask.split(",")]
    merged = dict(old)
    for path in paths:
        head, _, rest = path.partition(".")
        if head not in allowed:
            raise invalid(f"Invalid update mask: {path} cannot be changed.", field_path="updateMask")
        if rest:
            merged[head] = merge(merged.get(head, {}), given.get(head, {}), rest, (rest.partition(".")[0],))
        elif head in given:
            merged[head] = given[head]
        else:
            merged.pop(head, None)
    return merged
