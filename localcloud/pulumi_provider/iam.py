"""One member of one role: a binding added to, found in and taken from a resource's IAM policy."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from localcloud.pulumi_provider.common import PROJECT, REGION, REQUIRED, gone
from localcloud.pulumi_provider.errors import ProviderError
from localcloud.pulumi_provider.kinds import Field, Kind, Properties
from localcloud.pulumi_provider.rest import Conflict, NotFound

ATTEMPTS = 20
OF_SETTINGS = {"project": PROJECT, "location": REGION}
Policy = dict[str, Any]
Condition = Mapping[str, Any]
"""`title`, `expression` and perhaps `description`, as the resource's input and as the policy has it."""


@dataclass(frozen=True)
class PolicyOf:
    """How one kind of resource gives and takes its policy. `scope`: the inputs that name the resource, and `name` the name that
    they make, as ids have it; `imported` reads them from a name."""

    scope: tuple[str, ...]
    name: str
    get: Callable[[Properties], Policy]
    set: Callable[[Properties, Policy], object]
    imported: Callable[[str], dict[str, Any] | None]


def has_member(policy: Mapping[str, Any], role: str, member: str, condition: Condition | None = None) -> bool:
    """Whether the member has the role under this very condition (None: under none)."""
    return any(
        member in binding.get("members", ()) for binding in policy.get("bindings", ()) if _is_of(binding, role, condition)
    )


def with_member(policy: Mapping[str, Any], role: str, member: str, condition: Condition | None = None) -> Policy:
    """The policy with the member in the role's binding; other bindings and the etag as they are."""
    if has_member(policy, role, member, condition):
        return dict(policy)
    bindings = [dict(binding) for binding in policy.get("bindings", ())]
    for binding in bindings:
        if _is_of(binding, role, condition):
            binding["members"] = [*binding.get("members", ()), member]
            break
    else:
        new: dict[str, Any] = {"role": role, "members": [member]}
        bindings.append({**new, "condition": dict(condition)} if condition else new)
    return {**policy, "bindings": bindings}


def without_member(policy: Mapping[str, Any], role: str, member: str, condition: Condition | None = None) -> Policy:
    """The policy without the member in the role's binding; a binding left without members goes."""
    bindings = []
    for binding in policy.get("bindings", ()):
        if _is_of(binding, role, condition):
            members = [other for other in binding.get("members", ()) if other != member]
            if not members:
                continue
            binding = {**binding, "members": members}
        bindings.append(binding)
    return {**policy, "bindings": bindings}


def _is_of(binding: Mapping[str, Any], role: str, condition: Condition | None) -> bool:
    return bool(binding["role"] == role and _filled(binding.get("condition")) == _filled(condition))


def _filled(condition: Condition | None) -> dict[str, Any]:
    """What of a condition is said: the service leaves an empty description out."""
    return {name: value for name, value in (condition or {}).items() if value}


def change(target: PolicyOf, inputs: Properties, edit: Callable[[Policy, str, str, Condition | None], Policy]) -> None:
    """Read, edit, write; again from the start when another writer came between (409).

    Raises:
        ProviderError: the service refuses, or others keep coming between.
    """
    for attempt in range(ATTEMPTS):
        policy = target.get(inputs)
        edited = edit(policy, inputs["role"], inputs["member"], inputs.get("condition"))
        if edited == policy:
            return
        if any("condition" in binding for binding in edited["bindings"]):
            edited["version"] = 3  # which says that the writer knows of conditions
        try:
            target.set(inputs, edited)
            return
        except Conflict:
            time.sleep(random.uniform(0, 0.02 * 2 ** min(attempt, 6)))
    raise ProviderError(f"the IAM policy of {identity(target, inputs)} is being changed by others all the time")


def identity(target: PolicyOf, inputs: Properties) -> str:
    """The real provider's: `NAME/ROLE/MEMBER`, and under a condition `/TITLE/DESCRIPTION/EXPRESSION` behind it."""
    parts = [target.name.format_map(scoped(target, inputs)), inputs["role"], inputs["member"]]
    condition = inputs.get("condition")
    if isinstance(condition, Mapping):
        parts += [condition.get(name, "") for name in ("title", "description", "expression")]
    return "/".join(map(str, parts))


def scoped(target: PolicyOf, inputs: Properties) -> dict[str, Any]:
    """Inputs whose resource is named by its own name alone. The real provider takes a repository's whole name, too, and has
    that or a bucket's `b/NAME` in its state."""
    return {**inputs, **(target.imported(str(inputs[target.scope[-1]])) or {})}


def condition_of(policy: Policy, role: str, member: str, title: str) -> Condition | None:
    """The condition with this title under which the member has the role; without a title it is the role under none.

    Raises:
        ProviderError: there is none without a title, or more than one with it.
    """
    under = [
        binding.get("condition") or {}
        for binding in policy.get("bindings", ())
        if binding["role"] == role and member in binding.get("members", ())
    ]
    found = [condition for condition in under if condition.get("title", "") == title]
    if len(found) > 1:
        raise ProviderError(f"{member} has {role} under {len(found)} conditions titled {title!r}: rename all of them but one")
    if not found and not title and under:
        titles = ", ".join(repr(condition.get("title", "")) for condition in under)
        raise ProviderError(f"{member} has {role} under a condition only: end the id with its title, which is one of {titles}")
    if found:
        return found[0] or None
    return {"title": title} if title else None  # one that there is not, as reading it will say


def member_kind(target: PolicyOf) -> Kind:
    """`…IAMMember` of a resource: all inputs fixed. (The policy's etag is not kept: it changes with every other member.)

    Imported by the resource's name, the role, the member and the title of its condition, if it has one, with blanks between, as
    the real provider takes them.
    """

    def imported(given: str) -> dict[str, Any] | None:
        resource, *rest = given.split(" ", 3)
        named = target.imported(resource) if len(rest) >= 2 else None
        if named is None:
            return None
        role, member, *title = rest
        policy = gone(target.get, named) or {}
        return {**named, "role": role, "member": member, "condition": condition_of(policy, role, member, "".join(title))}

    def read(inputs: Properties) -> dict[str, Any] | None:
        try:
            policy = target.get(scoped(target, inputs))
        except NotFound:
            return None
        return {} if has_member(policy, inputs["role"], inputs["member"], inputs.get("condition")) else None

    def same_resource(old: Any, new: Any) -> bool:
        last = target.scope[-1]
        ours, theirs = scoped(target, {last: old}), scoped(target, {last: new})
        return all(ours[name] == theirs[name] for name in ours.keys() & theirs.keys())

    def delete(inputs: Properties) -> None:
        try:
            change(target, scoped(target, inputs), without_member)
        except NotFound:
            return  # the resource is gone, and its policy with it

    return Kind(
        fields={
            **{name: OF_SETTINGS.get(name, REQUIRED) for name in (*target.scope, "role", "member")},
            target.scope[-1]: replace(OF_SETTINGS.get(target.scope[-1], REQUIRED), same=same_resource),
            "condition": Field(fixed=True),
        },
        identity=lambda inputs: identity(target, inputs),
        create=lambda inputs: change(target, scoped(target, inputs), with_member),
        read=read,
        delete=delete,
        imported=imported,
    )
