"""Rules that every stack should keep, checked over a preview: nothing public, no basic roles, no keys, a region, labels,
budgets that warn.

    pulumi preview --json --show-sames > plan.json
    python -m infra.policies plan.json

prints one line for each resource that breaks one and ends with 1, with 0 if there is none, with 2 if the plan cannot be read.
It knows `gcp:*` resources of any stack, not only of this one. Without --show-sames a plan tells of changes only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

BASIC_ROLES = frozenset({"roles/owner", "roles/editor", "roles/viewer"})
PUBLIC_MEMBERS = frozenset({"allUsers", "allAuthenticatedUsers"})
PUBLIC_ACLS = frozenset({"publicRead", "publicReadWrite", "authenticatedRead"})
LABELLED = frozenset({"gcp:storage/bucket:Bucket", "gcp:artifactregistry/repository:Repository"})
LOCATED = LABELLED


class Resource(NamedTuple):
    """A resource as it will be after `pulumi up`; `inputs` by the names of Pulumi's schema."""

    type: str
    name: str
    inputs: Mapping[str, Any]


class PlanError(ValueError):
    """The file is not what `pulumi preview --json` prints."""


def bindings(inputs: Mapping[str, Any]) -> Iterator[tuple[str | None, set[str | None]]]:
    """The role and the members of each binding that a resource gives: a member's, a binding's, a whole policy's or an ACL's."""
    yield inputs.get("role"), {inputs.get("member"), inputs.get("entity"), *(inputs.get("members") or ())}
    try:
        policy = json.loads(inputs.get("policyData") or "{}")
    except ValueError:  # Pulumi's mark of a value that a preview does not know yet
        policy = {}
    for binding in policy.get("bindings", ()):
        yield binding.get("role"), set(binding.get("members", ()))
    for pair in inputs.get("roleEntities") or ():  # READER:allUsers
        role, _, entity = pair.partition(":")
        yield role, {entity}


def not_public(resource: Resource) -> str | None:
    if any(members & PUBLIC_MEMBERS for _, members in bindings(resource.inputs)):
        return "gives everybody a role: name users, groups or accounts instead of allUsers and allAuthenticatedUsers"
    if resource.inputs.get("predefinedAcl") in PUBLIC_ACLS:
        return "can be read by everybody: give it no predefined ACL but private"
    if resource.type == "gcp:storage/bucket:Bucket":
        if resource.inputs.get("publicAccessPrevention") != "enforced":
            return "can be made public: set publicAccessPrevention to enforced"
        if resource.inputs.get("uniformBucketLevelAccess") is not True:
            return "has access lists of single objects: set uniformBucketLevelAccess"
    return None


def no_basic_role(resource: Resource) -> str | None:
    roles = [role for role, _ in bindings(resource.inputs) if role in BASIC_ROLES]
    return f"gives {roles[0]}, which is almost everything in the project: give a predefined role" if roles else None


def no_key(resource: Resource) -> str | None:
    if resource.type == "gcp:serviceaccount/key:Key":
        return "is a key file, valid for years for whoever holds it: use workload identity federation"
    if resource.type == "gcp:storage/hmacKey:HmacKey":
        return "is a key for the XML API, valid for whoever holds it: use the account's own credentials"
    return None


def has_region(resource: Resource) -> str | None:
    missing = resource.type in LOCATED and not resource.inputs.get("location")
    return "has no location: set it, or Google chooses one far from the jobs" if missing else None


def has_labels(resource: Resource) -> str | None:
    missing = resource.type in LABELLED and not resource.inputs.get("labels")
    return "has no labels: its cost and its owner cannot be told" if missing else None


def budget_warns(resource: Resource) -> str | None:
    if resource.type != "gcp:billing/budget:Budget":
        return None
    if not resource.inputs.get("thresholdRules"):
        return "warns of nothing: set thresholdRules"
    if not (resource.inputs.get("budgetFilter") or {}).get("projects"):
        return "counts every project of the billing account: set budgetFilter.projects"
    return None


POLICIES: Sequence[Callable[[Resource], str | None]] = (not_public, no_basic_role, no_key, has_region, has_labels, budget_warns)


def resources(plan: Any) -> Iterator[Resource]:
    """What a plan leaves in place: everything but what it deletes.

    Raises:
        PlanError: it is not a plan.
    """
    if not isinstance(plan, dict) or not isinstance(plan.get("steps"), list):
        raise PlanError("not a plan: `pulumi preview --json` prints an object with `steps`")
    for step in plan["steps"]:
        state = step.get("newState") if isinstance(step, dict) else None
        if isinstance(state, dict):
            yield Resource(str(state.get("type")), str(state.get("urn", "")).rpartition("::")[2], state.get("inputs") or {})


def broken(found: Iterator[Resource]) -> list[str]:
    """One line for each rule that a resource breaks."""
    return [
        f"{resource.type} {resource.name} {reason}"
        for resource in found
        for policy in POLICIES
        if (reason := policy(resource)) is not None
    ]


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: pulumi preview --json --show-sames > plan.json && python -m infra.policies plan.json", file=sys.stderr)
        return 0 if arguments == ["--help"] else 2
    try:
        lines = broken(resources(json.loads(Path(arguments[0]).read_text(encoding="utf-8"))))
    except (OSError, ValueError) as error:
        print(f"odcloud: error: {arguments[0]}: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines) or "every resource keeps the rules")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
