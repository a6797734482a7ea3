"""Cloud Billing: the catalogue tells the project's table of prices; budgets are kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from launcher.cost.prices import parsed

if TYPE_CHECKING:
    from conftest import LocalCloud

COMPUTE_ENGINE = "services/6F81-5844-456A"
TABLE = YAML(typ="safe").load(Path(__file__).parents[2] / "launcher" / "prices.yaml")
BUDGETS = "billingbudgets.billingAccounts.budgets"
ACCOUNT = "billingAccounts/012345-6789AB-CDEF01"


def test_the_catalogue_says_what_the_table_says(local_cloud: LocalCloud) -> None:
    (service,) = local_cloud.call("cloudbilling.services.list")["services"]
    assert service["name"] == COMPUTE_ENGINE
    skus: list[dict[str, Any]] = []
    page: dict[str, Any] = {}
    while True:
        answer = local_cloud.call("cloudbilling.services.skus.list", parent=COMPUTE_ENGINE, pageSize=7, **page)
        skus += answer["skus"]
        if "nextPageToken" not in answer:
            break
        page = {"pageToken": answer["nextPageToken"]}
    assert len({sku["skuId"] for sku in skus}) == len(skus) > 7
    assert {sku["pricingInfo"][0]["effectiveTime"][:10] for sku in skus} == {TABLE["date"]}
    read = parsed(skus, TABLE["region"], TABLE["date"])
    assert read.families == pytest.approx(
        {(family, part): price for family, parts in TABLE["families"].items() for part, price in parts.items()}
    )
    assert read.accelerators == pytest.approx(TABLE["accelerators"]) and read.disks == pytest.approx(TABLE["disks"])
    assert local_cloud.refusal(404, "cloudbilling.services.skus.list", parent="services/none")
    assert local_cloud.call("cloudbilling.projects.getBillingInfo", name="projects/odcloud-local")["billingEnabled"] is True


def test_budgets(local_cloud: LocalCloud) -> None:
    amount = {"specifiedAmount": {"units": "100"}}
    body = {"displayName": "odcloud", "amount": amount, "budgetFilter": {"projects": ["projects/odcloud-local"]}}
    made = local_cloud.call(f"{BUDGETS}.create", body, version="v1", parent=ACCOUNT)
    assert made["amount"]["specifiedAmount"] == {"units": "100", "currencyCode": "USD"}
    assert made["budgetFilter"]["projects"] == ["projects/100000000001"]
    change = {"amount": {"specifiedAmount": {"units": "200"}}, "displayName": "x", "etag": made["etag"]}
    changed = local_cloud.call(f"{BUDGETS}.patch", change, name=made["name"], updateMask="amount")
    assert (changed["amount"]["specifiedAmount"]["units"], changed["displayName"]) == ("200", "odcloud")
    # the etag is of before
    local_cloud.refusal(409, f"{BUDGETS}.patch", change, name=made["name"], updateMask="amount")
    assert changed in local_cloud.call(f"{BUDGETS}.list", parent=ACCOUNT)["budgets"]
    local_cloud.refusal(400, f"{BUDGETS}.create", {"displayName": "no amount"}, parent=ACCOUNT)
    local_cloud.refusal(400, f"{BUDGETS}.create", body, parent="billingAccounts/mine")
    local_cloud.call(f"{BUDGETS}.delete", name=made["name"])
    local_cloud.refusal(404, f"{BUDGETS}.get", name=made["name"])
