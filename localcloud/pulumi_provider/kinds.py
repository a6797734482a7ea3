"""What a resource type is to this provider, and the two questions that need no network: is an input right, and what changed."""

from __future__ import annotations

import hashlib
import operator
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

Properties = Mapping[str, Any]

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""Stands for a value that a preview cannot know (sdk/go/common/resource/plugin/rpc.go)."""

SIGNATURE = "4dabf18193072939515e22adb298388d"
ASSET = "c44067f5952c0a294b673a41bacd8c17"
"""A map whose SIGNATURE is ASSET is a file, with `path` and the SHA-256 of its content in `hash`."""


@dataclass(frozen=True)
class Field:
    """An input. `fixed`: another value makes another resource. `same`: whether two values mean the same.

    Where none is given: `default`, or the provider's `setting` of that name, or of a name the resource's own with seven digits
    behind it, which have at most `auto` characters. `wrong`: what is to be said of a value that cannot be used, or None.
    """

    required: bool = False
    fixed: bool = False
    default: Any = None
    setting: str = ""
    auto: int = 0
    same: Callable[[Any, Any], bool] = operator.eq
    wrong: Callable[[Any], str | None] = lambda value: None


@dataclass(frozen=True)
class Kind:
    """A resource type: its inputs by the real provider's names, and what it does with them.

    `identity` gives the id. `create`, `update` and `delete` call the service; without `update` every change replaces.
    `read` gives the live properties (inputs among them in the form in which they were given), or None if it is gone.
    `assigned`: what of `create`'s answer the service alone decides and the other calls need. `changing`: the outputs that an
    update may change; the others a preview can tell. `reported`: the inputs that the service tells of whenever they are not
    empty, so that one which `read` lacks was removed. `unique`: the service refuses a second one of the same id (409).
    `imported`: the inputs that name the resource, from the id that a user gives to `pulumi import`, or None if it is none.
    """

    fields: Mapping[str, Field]
    identity: Callable[[Properties], str]
    create: Callable[[Properties], object]
    read: Callable[[Properties], dict[str, Any] | None]
    delete: Callable[[Properties], object]
    update: Callable[[Properties], object] | None = None
    assigned: tuple[str, ...] = ()
    changing: frozenset[str] = frozenset()
    reported: frozenset[str] = frozenset()
    unique: bool = False
    imported: Callable[[str], dict[str, Any] | None] | None = None


class Change(Enum):
    """Names of pulumirpc.PropertyDiff.Kind, without the _REPLACE."""

    ADD = "ADD"
    DELETE = "DELETE"
    UPDATE = "UPDATE"


@dataclass(frozen=True)
class Difference:
    """Changed inputs, those of them that need a new resource, and whether the old one must go first."""

    changes: Mapping[str, Change]
    replaces: frozenset[str]
    delete_first: bool


def check(kind: Kind, inputs: Properties) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Inputs with defaults filled in, and failures as (property, reason)."""
    failures = [(name, "not a property that the local cloud's provider serves") for name in inputs if name not in kind.fields]
    failures += [(name, "required") for name, field in kind.fields.items() if field.required and inputs.get(name) in (None, "")]
    said = {name: field.wrong(inputs[name]) for name, field in kind.fields.items() if inputs.get(name) not in (None, UNKNOWN)}
    failures += [(name, reason) for name, reason in said.items() if reason]
    defaults = {name: field.default for name, field in kind.fields.items() if field.default is not None}
    return {**defaults, **{name: value for name, value in inputs.items() if value is not None}}, failures


def auto_name(name: str, seed: bytes, longest: int) -> str:
    """A resource's name in the service, made from its name in the program as Pulumi does it: `NAME-1a2b3c4`, in small letters,
    which buckets must have. The engine's seed is the same for the same resource in one `pulumi up`."""
    digits = hashlib.sha256(seed or os.urandom(32)).hexdigest()[:7]
    return f"{name[: longest - len(digits) - 1].lower()}-{digits}"


def given_or_filled(kind: Kind, inputs: Properties, outputs: Properties) -> dict[str, Any]:
    """Old inputs as `check` gives them: what the real provider fills in by itself, its state has among the outputs only."""
    filled = [name for name, field in kind.fields.items() if field.setting or field.auto or field.default is not None]
    return {**{name: outputs[name] for name in filled if name in outputs}, **inputs}


def diff(kind: Kind, old: Properties, new: Properties, ignore: frozenset[str] = frozenset()) -> Difference:
    """What changed between two sets of checked inputs. An unknown value counts as a change."""
    changes: dict[str, Change] = {}
    for name in sorted((old.keys() | new.keys()) & kind.fields.keys() - ignore):
        if name not in old:
            changes[name] = Change.ADD
        elif name not in new:
            changes[name] = Change.DELETE
        elif not equal(old[name], new[name], kind.fields[name].same):
            changes[name] = Change.UPDATE
    replaces = frozenset(name for name in changes if kind.fields[name].fixed or kind.update is None)
    # One name cannot be taken twice: the old one goes first unless the new one is called differently.
    return Difference(changes, replaces, bool(replaces) and kind.identity(old) == kind.identity(new))


def previewed(kind: Kind, old_inputs: Properties, olds: Properties, news: Properties) -> dict[str, Any]:
    """What is known of a resource after an update: the new inputs, and of the old outputs those that it leaves alone."""
    return {**{name: value for name, value in olds.items() if name not in old_inputs and name not in kind.changing}, **news}


def equal(old: Any, new: Any, same: Callable[[Any, Any], bool]) -> bool:
    if is_asset(old) and is_asset(new):
        return bool(old.get("hash") == new.get("hash"))  # where the file was does not matter
    return same(old, new)


def is_asset(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get(SIGNATURE) == ASSET


def refreshed(kind: Kind, inputs: Properties, live: Properties) -> dict[str, Any]:
    """Inputs as the live resource has them, so that the next diff shows what drifted."""
    return {name: live.get(name, value) for name, value in kept(kind, inputs, live).items()}


def kept(kind: Kind, properties: Properties, live: Properties) -> dict[str, Any]:
    """Properties without those that the live resource has no longer. (What is empty is left out by services: it is kept.)"""
    return {name: value for name, value in properties.items() if name in live or name not in kind.reported or is_empty(value)}


def is_empty(value: Any) -> bool:
    """Whether a value says nothing: false, empty, or made of such."""
    if isinstance(value, Mapping):
        value = list(value.values())
    return all(map(is_empty, value)) if isinstance(value, list) else not value


def import_pattern(*patterns: str) -> Callable[[str], dict[str, Any] | None]:
    """Reads an id by patterns like `projects/{project}/serviceAccounts/{account}`, the first that fits."""
    compiled = [re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/ ]+)", pattern)) for pattern in patterns]

    def imported(given: str) -> dict[str, Any] | None:
        found = next(filter(None, (pattern.fullmatch(given) for pattern in compiled)), None)
        return found.groupdict() if found else None

    return imported
