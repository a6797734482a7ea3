"""Budgets of a billing account."""

from __future__ import annotations

from typing import Any

from localcloud.pulumi_provider.common import gone
from localcloud.pulumi_provider.kinds import Field, Kind, Properties, import_pattern
from localcloud.pulumi_provider.rest import BUDGETS

SAME = ("displayName", "amount", "thresholdRules", "ownershipScope")
"""Properties that are the same in the type and in the API."""


def budget_body(inputs: Properties) -> dict[str, Any]:
    """In the type each label of `budgetFilter` has one value, in the API a list; `allUpdatesRule` is `notificationsRule`."""
    body = {name: inputs[name] for name in SAME if name in inputs}
    if "allUpdatesRule" in inputs:
        body["notificationsRule"] = inputs["allUpdatesRule"]
    if "budgetFilter" in inputs:
        labels = {name: [value] for name, value in inputs["budgetFilter"].get("labels", {}).items()}
        body["budgetFilter"] = {**inputs["budgetFilter"], **({"labels": labels} if labels else {})}
    return body


def read_budget(inputs: Properties) -> dict[str, Any] | None:
    budget = gone(BUDGETS.call, "GET", budget_path(inputs))
    if budget is None:
        return None
    live = {name: budget[name] for name in SAME if name in budget}
    given = inputs.get("amount", {}).get("specifiedAmount")
    if given is not None and "currencyCode" not in given and "specifiedAmount" in budget.get("amount", {}):
        # the account's own: whoever gave none did not mean none (at an import nothing is given, and all is shown)
        amount = {name: value for name, value in budget["amount"]["specifiedAmount"].items() if name != "currencyCode"}
        live["amount"] = {"specifiedAmount": amount}
    if "notificationsRule" in budget:
        live["allUpdatesRule"] = budget["notificationsRule"]
    if "budgetFilter" in budget:
        labels = {name: values[0] for name, values in budget["budgetFilter"].get("labels", {}).items()}
        live["budgetFilter"] = {**budget["budgetFilter"], **({"labels": labels} if labels else {})}
    return {**live, "name": budget["name"].rpartition("/")[2]}


def budget_path(inputs: Properties) -> str:
    return f"billingAccounts/{inputs['billingAccount']}/budgets/{inputs['name'].rpartition('/')[2]}"


BUDGET = Kind(
    fields={
        "billingAccount": Field(required=True, fixed=True),
        "amount": Field(required=True),
        "displayName": Field(),
        "budgetFilter": Field(),
        "thresholdRules": Field(),
        "allUpdatesRule": Field(),
        "ownershipScope": Field(),
    },
    identity=lambda inputs: budget_path({"name": "", **inputs}),
    create=lambda inputs: BUDGETS.call("POST", f"billingAccounts/{inputs['billingAccount']}/budgets", body=budget_body(inputs)),
    read=read_budget,
    update=lambda inputs: BUDGETS.call(
        "PATCH",
        budget_path(inputs),
        {"updateMask": "displayName,amount,thresholdRules,ownershipScope,notificationsRule,budgetFilter"},
        budget_body(inputs),
    ),
    delete=lambda inputs: gone(BUDGETS.call, "DELETE", budget_path(inputs)),
    assigned=("name",),
    reported=frozenset({*SAME, "budgetFilter", "allUpdatesRule"}),
    imported=import_pattern(
        "billingAccounts/{billingAccount}/budgets/{name}", "{billingAccount}/{name}", "{billingAccount} {name}"
    ),
)
