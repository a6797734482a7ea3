"""Cloud Billing: the project's account, and a catalogue of Compute Engine's prices.

The catalogue is no price list: it tells the project's dated table (`launcher/prices.yaml`, which is read as a file beside this
package) in the form in which Google tells its own, so that what reads that form can be tried. The table is of one region, and
its prices are told for every region, for nothing is charged here. Their `effectiveTime` is the table's date.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from localcloud import prices
from localcloud.api import Call, invalid, method, not_found
from localcloud.regions import REGIONS
from localcloud.services.projects import check_project

ACCOUNT = "billingAccounts/000000-000000-000000"
COMPUTE_ENGINE = "services/6F81-5844-456A"
_DISKS = {
    "pd-standard": "Storage PD Capacity",
    "pd-balanced": "Balanced PD Capacity",
    "pd-ssd": "SSD backed PD Capacity",
    "hyperdisk-balanced": "Hyperdisk Balanced Capacity",
}
_FAMILIES = {
    "n1": "N1 Predefined Instance",
    "c2": "Compute optimized",
    "m1": "Memory-optimized Instance",
    "n2d": "N2D AMD Instance",
}
_PLACES = {"us-central1": "Iowa"}


@method("cloudbilling.projects.getBillingInfo")
def get_billing_info(call: Call) -> dict[str, Any]:
    """The project's account, which is switched on."""
    check_project(call.cloud, call.params["name"])
    return {
        "name": f"projects/{call.cloud.project}/billingInfo",
        "projectId": call.cloud.project,
        "billingAccountName": ACCOUNT,
        "billingEnabled": True,
    }


@method("cloudbilling.billingAccounts.get")
def get_account(call: Call) -> dict[str, Any]:
    if call.params["name"] != ACCOUNT:
        raise not_found(f"Billing account {call.params['name']} does not exist: the local cloud's is {ACCOUNT}.")
    return {
        "name": ACCOUNT,
        "displayName": "The local cloud's account, which pays nothing",
        "open": True,
        "currencyCode": "USD",
    }


@method("cloudbilling.billingAccounts.list")
def list_accounts(call: Call) -> dict[str, Any]:
    call.params["name"] = ACCOUNT
    return {"billingAccounts": [get_account(call)]}


@method("cloudbilling.services.list")
def list_services(call: Call) -> dict[str, Any]:
    """The services that the catalogue has prices of."""
    identifier = COMPUTE_ENGINE.rpartition("/")[2]
    return {"services": [{"name": COMPUTE_ENGINE, "serviceId": identifier, "displayName": "Compute Engine"}]}


@method("cloudbilling.services.skus.list")
def list_skus(call: Call) -> dict[str, Any]:
    """A page of Compute Engine's prices."""
    if call.params["parent"] != COMPUTE_ENGINE:
        raise not_found(f"{call.params['parent']} is not in the local cloud's catalogue, which has {COMPUTE_ENGINE}.")
    if call.params.get("currencyCode", "USD") != "USD":
        raise invalid("The local cloud's catalogue is in USD only.", field_path="currencyCode")
    token = call.params.get("pageToken") or "0"
    size = min(call.params.get("pageSize") or 5000, 5000)
    if not token.isdecimal() or size < 0:
        raise invalid("pageToken is not one that this service gave, or pageSize is negative.", field_path="pageToken")
    skus, begin = catalogue(), int(token)
    answer: dict[str, Any] = {"skus": list(skus[begin : begin + size])}
    if begin + size < len(skus):
        answer["nextPageToken"] = str(begin + size)
    return answer


@functools.cache
def catalogue() -> tuple[dict[str, Any], ...]:
    """Every price of the table as a Sku message. Raises OSError when the table is not there."""
    table = prices.table()
    place = _PLACES.get(table["region"], table["region"])
    found = []
    for description, group, unit, price in _prices(table, place):
        identifier = hashlib.sha256(description.encode()).hexdigest()[:12].upper()
        identifier = "-".join(identifier[index : index + 4] for index in (0, 4, 8))
        nanos = round(price * 10**9)
        found.append(
            {
                "name": f"{COMPUTE_ENGINE}/skus/{identifier}",
                "skuId": identifier,
                "description": description,
                "category": {
                    "serviceDisplayName": "Compute Engine",
                    "resourceFamily": "Storage" if unit == "GiBy.mo" else "Compute",
                    "resourceGroup": group,
                    "usageType": "OnDemand",
                },
                "serviceRegions": sorted(REGIONS),
                "serviceProviderName": "Google",
                "pricingInfo": [
                    {
                        "effectiveTime": f"{table['date']}T00:00:00Z",
                        "summary": f"from the project's own table of {table['date']}: an estimate",
                        "pricingExpression": {
                            "usageUnit": unit,
                            "displayQuantity": 1,
                            "tieredRates": [
                                {
                                    "startUsageAmount": 0,
                                    "unitPrice": {
                                        "currencyCode": "USD",
                                        "units": str(nanos // 10**9),
                                        "nanos": nanos % 10**9,
                                    },
                                }
                            ],
                        },
                        "currencyConversionRate": 1,
                    }
                ],
            }
        )
    return tuple(found)


def _prices(table: Mapping[str, Any], place: str) -> Iterator[tuple[str, str, str, float]]:
    """Description (as Google words it), group, unit and dollars of each."""
    for family, parts in table["families"].items():
        name = _FAMILIES.get(family, f"{family.upper()} Instance")
        yield f"{name} Core running in {place}", "CPU", "h", parts["core"]
        yield f"{name} Ram running in {place}", "RAM", "GiBy.h", parts["memory"]
    for kind, price in table["accelerators"].items():
        name = (
            kind.removeprefix("NVIDIA_").replace("TESLA_", "Tesla ").replace("A100_80GB", "Tesla A100 80GB").replace("_", " ")
        )
        yield f"Nvidia {name} GPU running in {place}", "GPU", "h", price
    for kind, price in table["disks"].items():
        yield _DISKS.get(kind, kind), "SSD" if kind == "pd-ssd" else "PDStandard", "GiBy.mo", price
