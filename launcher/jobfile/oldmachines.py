"""The machines that ML Engine's `trainingInput` asks for, by a scale tier or one by one: for whoever reads one. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from launcher.jobfile import machines

ROLES = {"chief": "master", "worker": "worker", "ps": "parameterServer", "evaluator": "evaluator"}
"""A role and how the names of its fields begin."""


@dataclass(frozen=True)
class Asked:
    """So many machines of a type for a role, and the fields that say so."""

    role: str
    kind: str
    count: int
    kind_field: str
    count_field: str


class Contradiction(Exception):
    """Fields that do not go together. `field` was given; if `missing` was not and has to be, the message is of that one."""

    def __init__(self, field: str, message: str, missing: str | None = None) -> None:
        super().__init__(message)
        self.field, self.missing = field, missing


def asked(given: Mapping[str, Any]) -> list[Asked]:
    """What each role gets, the chief first; `given`: the fields of trainingInput, without those that were not given.

    Raises Contradiction.
    """
    own = [field for prefix in ROLES.values() for field in (f"{prefix}Type", f"{prefix}Count") if _says(given, field)]
    tier = given.get("scaleTier") or ("CUSTOM" if own else "BASIC")
    if tier == "CUSTOM":
        return _one_by_one(given, own)
    pools = machines.mapping()["scaleTiers"][tier]
    none = [f"{ROLES[role]}Count" for role in pools if f"{ROLES[role]}Count" in given]  # 0, where the tier has some
    for field in (*own, *none):
        raise Contradiction(field, f"scaleTier {tier} sets the machines; write scaleTier: CUSTOM or remove {field}")
    return [Asked(role, kind, count, "scaleTier", "scaleTier") for role, (kind, count) in pools.items()]


def idle_configs(given: Mapping[str, Any], roles: Set[str]) -> Iterator[tuple[str, str]]:
    """(field, what to say) of each configuration of machines that there are none of; `roles`: those that there are."""
    for role, prefix in ROLES.items():
        if given.get(f"{prefix}Config") and role not in roles:
            said = f"there are no machines of that kind; add {prefix}Type and {prefix}Count or remove it"
            yield f"{prefix}Config", said


def _one_by_one(given: Mapping[str, Any], own: list[str]) -> list[Asked]:
    if not given.get("masterType"):
        said = "scaleTier" if "scaleTier" in given else own[0]
        raise Contradiction(said, "missing; machines of your own choice need a master, for example standard", "masterType")
    found = []
    for role, prefix in ROLES.items():
        kind_field, count_field = f"{prefix}Type", f"{prefix}Count"
        kind, count = given.get(kind_field), 1 if role == "chief" else int(given.get(count_field, 0))
        if count and not kind:
            said = f"missing, while {count_field} is {count}; add, for example, standard"
            raise Contradiction(count_field, said, kind_field)
        if kind and role != "chief" and count_field not in given:
            said = f"missing, while {kind_field} is {kind}; add a count, or remove {kind_field}"
            raise Contradiction(kind_field, said, count_field)
        if kind and count:
            found.append(Asked(role, kind, count, kind_field, kind_field if role == "chief" else count_field))
    roles = {each.role for each in found}
    if "ps" in roles and "worker" not in roles:
        said = "parameter servers serve workers, and there are none; add workerType and workerCount or remove these"
        raise Contradiction("parameterServerCount", said)
    return found


def _says(given: Mapping[str, Any], field: str) -> bool:
    return bool(given.get(field) and (not field.endswith("Count") or int(given[field])))
