"""ML Engine's scale tiers and machine types, and what stands for them today: the data of mapping.yaml, read."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.job import Machine


@functools.cache
def mapping() -> Mapping[str, Any]:
    """mapping.yaml as it stands."""
    from ruamel.yaml import YAML

    loaded: Mapping[str, Any] = YAML(typ="safe").load(Path(__file__).with_name("mapping.yaml"))
    return loaded


@functools.cache
def names() -> tuple[str, ...]:
    """Every machine type that a job file may name."""
    known = mapping()
    sized = (f"{family}-{size}" for family, sizes in known["families"].items() for size in sizes)
    return (*known["machineTypes"], *sized, *known["acceleratorMachines"])


def machine(name: str, keep_retired: bool = False) -> tuple[Machine, str | None]:
    """The machine that a machine type stands for, and a warning when it is not what was named, or not known.

    `keep_retired` asks for what the name meant, withdrawn or not. Raises KeyError for an unknown type.
    """
    known = mapping()
    legacy = known["machineTypes"].get(name)
    if legacy:
        retired = legacy.get("retired")
        if keep_retired and "was" in legacy:
            return Machine(legacy["machine"], *legacy["was"]), f"{name}: {retired}; asked for all the same"
        accelerator, count = legacy.get("accelerator", (None, 0))
        found = Machine(legacy["machine"], accelerator, count)
        return found, f"{name} was {retired}; {found} is used instead" if retired else None
    if name in known["acceleratorMachines"]:
        return Machine(name, *known["acceleratorMachines"][name]), None
    if name in names():
        return Machine(name), None
    if any(name == legacy["machine"] for legacy in known["machineTypes"].values()):
        return Machine(name), None  # what a legacy name stands for may be written itself
    shape = re.fullmatch(r"([a-z]\d[a-z]?-[a-z]+)-\d+g?", name)
    if shape and not any(known_name.startswith(f"{shape[1]}-") for known_name in names()):
        return Machine(name), f"{name} is of a family that is not in odcloud's list: passed on as it is, for Google to judge"
    raise KeyError(name)


def accelerator(kind: str, count: int, keep_retired: bool = False) -> tuple[str, int, str | None]:
    """Type and number of the accelerators that ML Engine's stand for, and a warning when they are not what was named.

    Raises KeyError for a type that ML Engine did not have and Vertex AI's list of machines does not name.
    """
    known = mapping()
    if kind not in known["acceleratorTypes"]:
        if kind not in {found for found, _ in known["acceleratorMachines"].values()}:
            raise KeyError(kind)
        return kind, count, None
    retired = known["acceleratorTypes"][kind].get("retired")
    if not retired:
        return kind, count, None
    if keep_retired:
        return kind, count, f"{kind} is {retired}; asked for all the same"
    found, fewer = known["acceleratorTypes"][kind]["replacement"], min(count, known["acceleratorTypes"][kind]["most"])
    return found, fewer, f"{count} {kind}: {retired}; {fewer} {found} is used instead"


def accelerator_types() -> tuple[str, ...]:
    """The accelerator types that `accelerator` knows."""
    known = mapping()
    return tuple(dict.fromkeys((*known["acceleratorTypes"], *(kind for kind, _ in known["acceleratorMachines"].values()))))


def runtime(version: str) -> str:
    """Why a runtime version of ML Engine is not what runs. Raises KeyError for one that it never had."""
    for group in mapping()["runtimeVersions"]:
        if version in group["versions"]:
            return str(group["retired"])
    raise KeyError(version)


def executor_image(machine: Machine) -> str:
    """The prebuilt image that runs Python packages on a machine."""
    kind = machine.accelerator_type or ""
    chosen: str = mapping()["images"]["tpu" if kind.startswith("TPU") else "gpu" if kind else "cpu"]
    return chosen


def near(name: str) -> list[str]:
    """Known machine types that look like `name`, the nearest first; the common legacy ones when nothing does."""
    return difflib.get_close_matches(name.lower(), names(), n=4, cutoff=0.6) or ["standard", "large_model", "n1-standard-4"]
