"""Prices of machines, accelerators and disks: from Cloud Billing's catalogue when it can be reached, else from prices.yaml.

Catalogue: `cloudbilling.services.skus.list` of Compute Engine, whose prices Vertex AI's training asks plus a fee (see
prices.yaml). A SKU's description names what it is: "N1 Predefined Instance Core running in Americas", "Spot Preemptible N1
Predefined Instance Ram running in Americas", "Compute optimized Core …", "Nvidia Tesla T4 GPU running in Iowa",
"SSD backed PD Capacity".
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.errors import UserError

if TYPE_CHECKING:
    from launcher.google.api import Google

COMPUTE_ENGINE = "services/6F81-5844-456A"
"""Compute Engine in the catalogue."""
_DISKS = {
    "Storage PD Capacity": "pd-standard",
    "Balanced PD Capacity": "pd-balanced",
    "SSD backed PD Capacity": "pd-ssd",
    "Hyperdisk Balanced Capacity": "hyperdisk-balanced",
}
_NAMES = {"Compute optimized": "c2", "Memory-optimized": "m1"}
_PART = re.compile(rf"(Spot Preemptible )?(\w+|{'|'.join(_NAMES)}) (?:(?:Predefined |AMD )?Instance )?(Core|Ram) running in .+")
_GPU = re.compile(r"Nvidia (.+?) GPU (attached to Spot Preemptible VMs )?running in .+")


@functools.cache
def table() -> Mapping[str, Any]:
    """prices.yaml as it stands."""
    from ruamel.yaml import YAML

    loaded: Mapping[str, Any] = YAML(typ="safe").load(Path(__file__).parents[1] / "prices.yaml")
    return loaded


@dataclass(frozen=True)
class Prices:
    """Dollars per hour (disks: per GiB and month), without the fee. Keys of families: ("n1", "core" or "memory")."""

    source: str
    date: str
    region: str
    families: Mapping[tuple[str, str], float]
    accelerators: Mapping[str, float]
    disks: Mapping[str, float]
    spot_families: Mapping[tuple[str, str], float] = field(default_factory=dict)
    spot_accelerators: Mapping[str, float] = field(default_factory=dict)
    fee: float = 0.0

    def machine(self, name: str, spot: bool) -> tuple[float, bool]:
        """An hour of a machine without its accelerators; True when a Spot price was wanted and is not known.

        Raises UserError.
        """
        size = shape(name)
        family = name.partition("-")[0]
        if size is None or (family, "core") not in self.families or (family, "memory") not in self.families:
            raise self._unknown(f"machine type {name}")
        known = (family, "core") in self.spot_families and (family, "memory") in self.spot_families
        chosen = self.spot_families if spot and known else self.families
        cores, memory = size
        return cores * chosen[family, "core"] + memory * chosen[family, "memory"], spot and not known

    def accelerator(self, kind: str, spot: bool) -> tuple[float, bool]:
        """As `machine`, of one accelerator."""
        if spot and kind in self.spot_accelerators:
            return self.spot_accelerators[kind], False
        if kind not in self.accelerators:
            raise self._unknown(f"accelerator {kind}")
        return self.accelerators[kind], spot

    def disk(self, kind: str) -> float:
        """A month of one GiB. Raises UserError."""
        if kind not in self.disks:
            raise self._unknown(f"disk type {kind}")
        return self.disks[kind]

    def _unknown(self, what: str) -> UserError:
        return UserError(
            f"no price known of {what} in {self.source} ({self.date}); see https://cloud.google.com/vertex-ai/pricing, "
            "or choose another type"
        )


def shape(machine_type: str) -> tuple[float, float] | None:
    """A machine type's virtual CPUs and GiB of memory; None when they are not known."""
    known = table()
    if machine_type in known["machines"]:
        cores, memory = known["machines"][machine_type]
        return float(cores), float(memory)
    match = re.fullmatch(r"([a-z]\d[a-z]?)-(standard|highmem|highcpu)-(\d+)", machine_type)
    if not match:
        return None
    ratio = known["memory"][match[2]]
    return float(match[3]), float(match[3]) * float(ratio.get(match[1], ratio["default"]))


def listed() -> Prices:
    """The prices of the table in the repository."""
    known = table()
    families = {(name, part): price for name, parts in known["families"].items() for part, price in parts.items()}
    return Prices(
        "launcher/prices.yaml",
        known["date"],
        known["region"],
        families,
        known["accelerators"],
        known["disks"],
        fee=known["trainingFee"],
    )


def catalogue(google: Google, date: str) -> Prices:
    """The prices of `google.region` from Cloud Billing's catalogue; `date` is today's. Raises GoogleError and UserError."""
    skus = google.pages("cloudbilling.services.skus.list", "skus", parent=COMPUTE_ENGINE, pageSize=5000, currencyCode="USD")
    return parsed(skus, google.region, date)


def parsed(skus: Iterable[Mapping[str, Any]], region: str, date: str) -> Prices:
    """The prices that a region's SKUs tell. Pure."""
    families: dict[tuple[str, str], float] = {}
    accelerators: dict[str, float] = {}
    disks: dict[str, float] = {}
    spot_families: dict[tuple[str, str], float] = {}
    spot_accelerators: dict[str, float] = {}
    priced: list[Mapping[str, Any]] = []
    for sku in skus:
        if region not in sku.get("serviceRegions", ()):
            continue
        usage = sku.get("category", {}).get("usageType")
        text, price = str(sku.get("description", "")), _price(sku)
        if price is None or usage not in ("OnDemand", "Preemptible"):
            continue
        priced.append(sku)
        if part := _PART.fullmatch(text):
            family = _NAMES.get(part[2], part[2].lower())
            name = (family, "core" if part[3] == "Core" else "memory")
            (spot_families if part[1] else families)[name] = price
        elif part := _GPU.fullmatch(text):
            (spot_accelerators if part[2] else accelerators)[_accelerator(part[1])] = price
        elif usage == "OnDemand" and (kind := _DISKS.get(text.partition(" in ")[0])):
            disks[kind] = price
    source = "Cloud Billing's catalogue of Compute Engine"
    # the prices' own date, if they tell it: a catalogue may be older than today, as the local cloud's is
    date = max((sku["pricingInfo"][-1].get("effectiveTime", date)[:10] for sku in priced), default=date)
    fee = table()["trainingFee"]
    return Prices(source, date, region, families, accelerators, disks, spot_families, spot_accelerators, fee)


def _price(sku: Mapping[str, Any]) -> float | None:
    """Dollars of one unit in a SKU's highest tier, that of no free amount."""
    try:
        rate = sku["pricingInfo"][-1]["pricingExpression"]["tieredRates"][-1]["unitPrice"]
    except (KeyError, IndexError):
        return None
    return int(rate.get("units", 0)) + int(rate.get("nanos", 0)) / 1e9


def _accelerator(name: str) -> str:
    """Vertex AI's name: "Tesla T4" -> NVIDIA_TESLA_T4, "Tesla A100 80GB" -> NVIDIA_A100_80GB, "L4" -> NVIDIA_L4."""
    joined = "NVIDIA_" + name.upper().replace(" ", "_")
    return joined.replace("NVIDIA_TESLA_A100_80GB", "NVIDIA_A100_80GB").replace(
        "NVIDIA_H100_80GB_MEGA", "NVIDIA_H100_MEGA_80GB"
    )


def best(google: Google, today: str) -> tuple[Prices, str | None]:
    """The catalogue's prices, or the table's and the reason why."""
    from launcher.google.api import GoogleError

    try:
        found = catalogue(google, today)
    except (GoogleError, UserError) as error:
        return listed(), f"Cloud Billing's catalogue could not be read: {error}"
    if not found.families:
        return listed(), f"Cloud Billing's catalogue has no machine in {google.region} that is understood here"
    return found, None
