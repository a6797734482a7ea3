"""One member of one role: a binding added to, found in and taken from a resource's IAM policy."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from localcloud.pulumi_provider.errors import ProviderError
from localcloud.pulumi_provider.kinds import Field, Kind, Properties
from localcloud.pulumi_provider.rest import Conflict, NotFound

ATTEMPTS = 20
Policy = dict[str, Any]


@dataclass(frozen=True)
class PolicyOf:
    """How one kind of resource gives and takes its policy. `scope`: the inputs that name the resource."""

    scope: tuple[str, ...]
    get: Callable[[Properties], Policy]
    set: Callable[[Properties, Policy], object]


def has_member(policy: Mapping[str, Any], role: str, member: str) -> bool:
    return any(binding["role"] == role and member in binding.get("members", ()) for binding in plain(policy))


def with_member(policy: Mapping[str, Any], role: str, member: str) -> Policy:
    """The policy with the member in the role's binding; other bindings and the etag as they are."""
    if has_member(policy, role, member):
        return dict(policy)
    bindings = [dict(binding) for binding in policy.get("bindings", ())]
    for binding in bindings:
        if binding["role"] == role and "condition" not in binding:
            binding["members"] = [*binding.get("members", ()), member]
            break
    else:
        bindings.append({"role": role, "members": [member]})
    return {**policy, "bindings": bindings}


def without_member(policy: Mapping[str, Any], role: str, member: str) -> Policy:
    """The policy without the member in the role's binding; a binding left without members goes."""
    bindings = []
    for binding in policy.get("bindings", ()):
        if binding["role"] == role and "condition" not in binding:
            members = [other for other in binding.get("members", ()) if other != member]
            if not members:
                continue
            binding = {**binding, "members": members}
        bindings.append(binding)
    return {**policy, "bindings": bindings}


def plain(policy: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Bindings without a condition; conditional ones are not this provider's."""
    return [binding for binding in policy.get("bindings", ()) if "condition" not in binding]


def change(target: PolicyOf, inputs: Properties, edit: Callable[[Policy, str, str], Policy]) -> None:
    """Read, edit, write; again from the start when another writer came between (409).

    Raises:
        ProviderError: the service refuses, or others keep coming between.
    """
    for attempt in range(ATTEMPTS):
        policy = target.get(inputs)
        edited = edit(policy, inputs["role"], inputs["member"])
        if edited == policy:
            return
        try:
            target.set(inputs, edited)
            return
        except Conflict:
            time.sleep(random.uniform(0, 0.02 * 2 ** min(attempt, 6)))
    raise ProviderError(f"the IAM policy of {identity(target, inputs)} is being changed by others all the time")


def identity(target: PolicyOf, inputs: Properties) -> str:
    return "/".join(str(inputs.get(name, "")) for name in (*target.scope, "role", "member"))


def member_kind(target: PolicyOf) -> Kind:
    """`…IAMMember` of a resource: all inputs fixed. (The policy's etag is not kept: it changes with every other member.)"""

    def read(inputs: Properties) -> dict[str, Any] | None:
        try:
            policy = target.get(inputs)
        except NotFound:
            return None
        return {} if has_member(policy, inputs["role"], inputs["member"]) else None

    def delete(inputs: Properties) -> None:
        try:
            change(target, inputs, without_member)
        except NotFound:
            return  # the resource is gone, and its policy with it

    return Kind(
        fields={name: Field(required=True, fixed=True) for name in (*target.scope, "role", "member")},
        identity=lambda inputs: identity(target, inputs),
        create=lambda inputs: change(target, inputs, with_member),
        read=read,
        delete=delete,
    )
