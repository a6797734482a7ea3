"""What a job would have cost on Google Cloud, at the list prices of the project's own table. Nothing is charged here.

Prices: `launcher/prices.yaml`, read as data. A job's hour is the sum over its worker pools of replicas × (machine +
accelerators + boot disk), and Vertex AI's fee on top.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from localcloud.jobs.machines import DEFAULT_DISK_GIB
from localcloud.prices import table

_DEFAULT_DISK = "pd-ssd"  # Vertex AI's boot disk where the job names none
_MONTH = 730.0  # hours


def hourly(spec: Mapping[str, Any]) -> float | None:
    """Dollars for an hour of a CustomJobSpec; None when the table lacks something of it.

    Spot machines are counted at the full price, which they do not exceed.
    """
    try:
        return sum(_pool(pool) for pool in spec["workerPoolSpecs"]) * (1 + float(table()["trainingFee"]))
    except KeyError:
        return None


def _pool(pool: Mapping[str, Any]) -> float:
    count = int(pool.get("replicaCount", 0))
    if not count:
        return 0.0
    known = table()
    machine, disk = pool["machineSpec"], pool.get("diskSpec", {})
    cores, memory = _shape(machine["machineType"])
    family = known["families"][machine["machineType"].partition("-")[0]]
    price = cores * family["core"] + memory * family["memory"]
    if kind := machine.get("acceleratorType"):
        price += int(machine.get("acceleratorCount", 1)) * known["accelerators"][kind]
    disk_kind = disk.get("bootDiskType", _DEFAULT_DISK)
    price += int(disk.get("bootDiskSizeGb", DEFAULT_DISK_GIB)) * known["disks"][disk_kind] / _MONTH
    return count * float(price)


def _shape(machine_type: str) -> tuple[float, float]:
    """Virtual CPUs and GiB of memory. Raises KeyError."""
    known = table()
    if machine_type in known["machines"]:
        cores, memory = known["machines"][machine_type]
        return float(cores), float(memory)
    match = re.fullmatch(r"([a-z]\d[a-z]?)-(standard|highmem|highcpu)-(\d+)", machine_type)
    if not match:
        raise KeyError(machine_type)
    ratio = known["memory"][match[2]]
    return float(match[3]), float(match[3]) * float(ratio.get(match[1], ratio["default"]))
