"""What a job costs. Pure functions on the body of `customJobs.create`: whatever made the body, the price is of what is sent.

A job's hour is the sum over its worker pools of replicas × (machine + accelerators + boot disk), plus Vertex AI's training fee.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from launcher.cost.prices import Prices
from launcher.errors import UserError
from launcher.job import ROLES

DEFAULT_TIMEOUT = 7 * 24 * 3600
"""Seconds after which Vertex AI ends a job that names no timeout."""
LEAST = 600
"""Seconds below which a job is not worth its start: machines take minutes until they run the program."""
DEFAULT_DISK = ("pd-ssd", 100)
"""Vertex AI's boot disk where the job names none: type, GiB."""
MONTH = 730.0  # hours


@dataclass(frozen=True)
class Item:
    """One priced part of one worker pool: `dollars` is of an hour of all the pool's replicas, the fee included."""

    role: str
    what: str
    count: int
    dollars: float


@dataclass(frozen=True)
class Estimate:
    """An hour of a job. `upper_bound`: Spot or flex-start machines counted at the full price, for their own is not known."""

    items: tuple[Item, ...]
    upper_bound: bool

    @property
    def hourly(self) -> float:
        return sum(item.dollars for item in self.items)


def strategy(body: Mapping[str, Any]) -> str:
    """STANDARD, SPOT or FLEX_START."""
    return str(body["jobSpec"].get("scheduling", {}).get("strategy", "STANDARD"))


def pools(body: Mapping[str, Any]) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """(role, number of replicas, worker pool) of each pool that is not empty."""
    for role, pool in zip(ROLES, body["jobSpec"]["workerPoolSpecs"], strict=False):
        if count := int(pool.get("replicaCount", 0)):
            yield role, count, pool


def estimate(body: Mapping[str, Any], prices: Prices) -> Estimate:
    """An hour's price, part by part. Raises UserError naming what has no price."""
    wanted = strategy(body) == "SPOT"
    items: list[Item] = []
    bounded = strategy(body) == "FLEX_START"  # which is cheaper for some machines, and never dearer
    for role, count, pool in pools(body):
        machine, disk = pool["machineSpec"], pool.get("diskSpec", {})
        name = machine["machineType"]
        price, full = prices.machine(name, wanted)
        bounded |= full
        items.append(Item(role, name, count, count * price))
        if kind := machine.get("acceleratorType"):
            number = int(machine.get("acceleratorCount", 1))
            price, full = prices.accelerator(kind, wanted)
            bounded |= full
            items.append(Item(role, kind, count * number, count * number * price))
        kind, size = disk.get("bootDiskType", DEFAULT_DISK[0]), int(disk.get("bootDiskSizeGb", DEFAULT_DISK[1]))
        items.append(Item(role, f"{size} GiB {kind}", count, count * size * prices.disk(kind) / MONTH))
    fee = 1 + prices.fee
    priced = tuple(Item(item.role, item.what, item.count, item.dollars * fee) for item in items)
    return Estimate(priced, bounded)


def timeout(body: Mapping[str, Any]) -> float | None:
    """Seconds after which the job is to end, if it says so."""
    text = body["jobSpec"].get("scheduling", {}).get("timeout")
    match = re.fullmatch(r"(\d+(\.\d+)?)s", text or "")
    return float(match[1]) if match else None


def timeout_within(body: Mapping[str, Any], most: float, hourly: float) -> str:
    """The timeout, as Google writes durations, within which the job costs at most `most` dollars at `hourly` dollars an hour.

    The job's own timeout if that is sooner. Restarts run within a job's timeout, so they are counted; what the bucket costs is
    not. Raises UserError for a plan that cannot fit: less than LEAST seconds, or a timeout of the job's own that costs more.
    """
    if not (math.isfinite(most) and most > 0):
        raise UserError(f"--max-cost {most:g}: must be an amount of US dollars above 0")
    affordable = math.floor(most / hourly * 3600)
    if affordable < LEAST:
        raise UserError(
            f"--max-cost {most:g}: this job costs {dollars(hourly)} an hour, so {dollars(most)} end it after {affordable} s, "
            "before it can get anywhere; ask for fewer or smaller machines, "
            f"or allow at least {dollars_up(hourly * LEAST / 3600)}"
        )
    own = timeout(body)
    if own is not None and own > affordable:
        raise UserError(
            f"--max-cost {most:g}: the job's own timeout of {own:.0f} s costs up to {dollars(hourly * own / 3600)}; "
            f"set it to at most {affordable}s, or remove it, or allow {dollars_up(hourly * own / 3600)}"
        )
    return f"{min(affordable, DEFAULT_TIMEOUT)}s" if own is None else str(body["jobSpec"]["scheduling"]["timeout"])


def dollars(amount: float) -> str:
    """An amount as people write it: $0.27, $1,234.50."""
    return f"${amount:,.2f}"


def dollars_up(amount: float) -> str:
    """The same, rounded up: an amount that is enough."""
    return dollars(math.ceil(amount * 100 - 1e-9) / 100)
