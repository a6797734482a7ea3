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


def machine(name: str) -> tuple[Machine, str | None]:
    """The machine that a machine type stands for, and a warning when it is not what was named, or not known.

    Raises KeyError for an unknown type.
    """
    known = mapping()
    legacy = known["machineTypes"].get(name)
    if legacy:
        accelerator, count = legacy.get("accelerator", (None, 0))
        found = Machine(legacy["machine"], accelerator, count)
        retired = legacy.get("retired")
        return found, f"{name} was {retired}; {found} is used instead" if retired else None
    if name in known["acceleratorMachines"]:
        return Machine(name, *known["acceleratorMachines"][name]), None
    if name in names():
        return Machine(name), None
    shape = re.fullmatch(r"([a-z]\d[a-z]?-[a-z]+)-\d+g?", name)
    if shape and not any(known_name.startswith(f"{shape[1]}-") for known_name in names()):
        return Machine(name), f"{name} is of a family that is not in odcloud's list: passed on as it is, for Google to judge"
    raise KeyError(name)


def near(name: str) -> list[str]:
    """Known machine types that look like `name`, the nearest first; the common legacy ones when nothing does."""
    return difflib.get_close_matches(name.lower(), names(), n=4, cutoff=0.6) or ["standard", "large_model", "n1-standard-4"]
