"""ML Engine's scale tiers and machine types, and what stands for them today: the data of mapping.yaml, read."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from launcher.job import Machine


@functools.cache
def mapping() -> Mapping[str, Any]:
    """mapping.yaml as it stands."""
    from ruamel.yaml import YAML

    loaded: Mapping[str, Any] = YAML(typ="safe").load(Path(__file__).parents[1] / "mapping.yaml")
    return loaded


@functools.cache
def names() -> tuple[str, ...]:
    """Every machine type that a job file may name."""
    listed = mapping()
    sized = (f"{family}-{size}" for family, sizes in listed["families"].items() for size in sizes)
    return (*listed["machineTypes"], *sized, *listed["acceleratorMachines"])


def known(name: str) -> bool:
    """Whether a machine type is in the list, or is what a legacy name of it stands for."""
    return name in names() or any(name == legacy["machine"] for legacy in mapping()["machineTypes"].values())


def machine(name: str, keep_retired: bool = False, unlisted: bool = False) -> tuple[Machine, str | None]:
    """The machine that a machine type stands for, and a warning when it is not what was named, or not known.

    `keep_retired` asks for what the name meant, withdrawn or not; `unlisted` for a type of which nothing is known here, as it
    is. Raises KeyError for an unknown type.
    """
    listed = mapping()
    legacy = listed["machineTypes"].get(name)
    if legacy:
        retired = legacy.get("retired")
        if keep_retired and "was" in legacy:
            return Machine(legacy["machine"], *legacy["was"]), f"{name}: {retired}; asked for all the same"
        accelerator, count = legacy.get("accelerator", (None, 0))
        found = Machine(legacy["machine"], accelerator, count)
        return found, f"{name} was {retired}; {found} is used instead" if retired else None
    if name in listed["acceleratorMachines"]:
        return Machine(name, *listed["acceleratorMachines"][name]), None
    if known(name):
        return Machine(name), None
    if unlisted and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", name):
        return Machine(name), f"nothing is known of {name} here: passed on as it is, for Google to judge"
    raise KeyError(name)


def unknown(name: str, overrule: str) -> str:
    """What to say of a machine type that is not listed. `overrule`: what passes it on all the same."""
    return f"unknown machine type {name!r}; near it: {', '.join(near(name))}. If Google has it all the same: {overrule}"


def accelerator(kind: str, count: int, keep_retired: bool = False) -> tuple[str, int, str | None]:
    """Type and number of the accelerators that ML Engine's stand for, and a warning when they are not what was named."""
    entry = mapping()["acceleratorTypes"].get(kind, {})
    if "renamed" in entry:
        return entry["replacement"], count, f"{count} {kind}: {entry['renamed']}, {count} {entry['replacement']}"
    if "retired" not in entry:
        return kind, count, None
    if keep_retired:
        return kind, count, f"{kind} is {entry['retired']}; asked for all the same"
    found, fewer = entry["replacement"], min(count, entry["most"])
    return found, fewer, f"{count} {kind}: {entry['retired']}; {fewer} {found} is used instead"


def retired(kind: str) -> str | None:
    """What Google has done with an accelerator type that it no longer offers, or not for long."""
    reason: str | None = mapping()["acceleratorTypes"].get(kind, {}).get("retired")
    return reason


def misfit(machine: Machine) -> str | None:
    """Why a machine cannot have these accelerators; None if it can, or if nothing is known of it."""
    kind, count = machine.accelerator_type, machine.accelerator_count
    family, families = machine.machine_type.partition("-")[0], {name.partition("-")[0] for name in mapping()["families"]}
    own = [name for name, (comes, _) in mapping()["acceleratorMachines"].items() if comes == kind]
    if own and family in families:
        return f"{kind} comes with machines of its own; write one of {', '.join(own)} as the machine type"
    counts = mapping()["attached"].get(kind)
    if not counts:
        return None
    if family in families - {"n1"}:
        return f"{kind} is attached to N1 machines only; write, for example, n1-standard-8 as the machine type"
    if count not in counts:
        return f"a machine takes {', '.join(map(str, counts[:-1]))} or {counts[-1]} {kind}, not {count}"
    return None


def accelerator_types() -> tuple[str, ...]:
    """The accelerator types of ML Engine, and those that machines come with."""
    listed = mapping()
    return tuple(dict.fromkeys((*listed["acceleratorTypes"], *(kind for kind, _ in listed["acceleratorMachines"].values()))))


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


def fitting(image: str, machine: Machine) -> str:
    """A prebuilt image of the list for a machine: in the place of one for CPUs, which sees no accelerator, that for its own.

    For GPUs it is of the same TensorFlow, for a cluster cannot mix two.
    """
    name = prebuilt(image)
    if not (machine.accelerator_type and name.startswith("tf-cpu.") and name in mapping()["prebuilt"]):
        return image
    if machine.accelerator_type.startswith("TPU"):
        return executor_image(machine)
    return image.replace("/tf-cpu.", "/tf-gpu.").partition("@")[0]  # a digest is that of the other image


def prebuilt(image: str) -> str:
    """The name of one of Google's prebuilt images, without host and tag; "" of any other image."""
    name = re.fullmatch(r"[a-z]+-docker\.pkg\.dev/vertex-ai/training/([^:@]+)(?:[:@].*)?", image)
    return name[1] if name else ""


def outdated(image: str, today: date) -> str | None:
    """What to say of a prebuilt image that Google may have taken away by `today`; None of any other."""
    dates = mapping()["prebuilt"].get(prebuilt(image))
    if not dates or today <= dates["available"]:
        return None
    return (
        f"{image} is past its end of availability ({dates['available']}; no patches since {dates['support']}), and Google "
        "lists no newer one with TensorFlow: it may be gone any day"
    )


def near(name: str) -> list[str]:
    """Known machine types that look like `name`, the nearest first; the common legacy ones when nothing does."""
    return difflib.get_close_matches(name.lower(), names(), n=4, cutoff=0.6) or ["standard", "large_model", "n1-standard-4"]
