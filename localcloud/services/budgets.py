"""Cloud Billing budgets: kept and checked; nothing is ever spent here, so none is ever exceeded."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import uuid
from typing import Any

from localcloud import masks
from localcloud.api import ApiError, Call, invalid, method, not_found
from localcloud.database import register_schema

register_schema("CREATE TABLE IF NOT EXISTS budgets (name TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;")

_ACCOUNT = re.compile(r"billingAccounts/[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}")
_FIELDS = ("displayName", "amount", "budgetFilter", "thresholdRules", "notificationsRule", "ownershipScope")
_METHODS = "billingbudgets.billingAccounts.budgets"


@method(f"{_METHODS}.create")
def create(call: Call) -> dict[str, Any]:
    """A budget of a billing account; of which one does not matter here, as long as its id could be one."""
    name = f"{_account(call.params['parent'])}/budgets/{uuid.uuid4()}"
    return _store(call, {"name": name, **{key: call.body[key] for key in _FIELDS if key in call.body}})


@method(f"{_METHODS}.get")
def get(call: Call) -> dict[str, Any]:
    return _read(call)


@method(f"{_METHODS}.list")
def list_(call: Call) -> dict[str, Any]:
    """A page of an account's budgets."""
    parent = f"{_account(call.params['parent'])}/"
    size = max(1, min(call.params.get("pageSize") or 100, 100))
    rows = call.cloud.db.query(
        "SELECT name, body FROM budgets WHERE substr(name, 1, ?) = ? AND name > ? ORDER BY name LIMIT ?",
        (len(parent), parent, call.params.get("pageToken", ""), size + 1),
    )
    answer: dict[str, Any] = {"budgets": [json.loads(row["body"]) for row in rows[:size]]} if rows else {}
    if len(rows) > size:
        answer["nextPageToken"] = rows[size - 1]["name"]
    return answer


@method(f"{_METHODS}.patch")
def patch(call: Call) -> dict[str, Any]:
    """What the mask names, changed; 409 when the etag given is not the current one."""
    with call.cloud.db.transaction():
        old = _read(call)
        if call.body.get("etag", old["etag"]) != old["etag"]:
            raise ApiError(409, "ABORTED", f"The etag {call.body['etag']!r} is not the current one of {old['name']}.")
        return _store(call, masks.merge(old, call.body, call.params.get("updateMask", ""), _FIELDS))


@method(f"{_METHODS}.delete")
def delete(call: Call) -> dict[str, Any]:
    call.cloud.db.execute("DELETE FROM budgets WHERE name = ?", (_read(call)["name"],))
    return {}


def _account(name: str) -> str:
    if not _ACCOUNT.fullmatch(name):
        raise invalid(f"{name!r} is no billing account, such as billingAccounts/012345-6789AB-CDEF01.", field_path="parent")
    return name


def _read(call: Call) -> dict[str, Any]:
    row = call.cloud.db.one("SELECT body FROM budgets WHERE name = ?", (call.params["name"],))
    if row is None:
        raise not_found("Requested entity was not found.")
    body: dict[str, Any] = json.loads(row["body"])
    return body


def _store(call: Call, budget: dict[str, Any]) -> dict[str, Any]:
    """Checks, completes and keeps a budget. Raises ApiError 400."""
    amount = budget.get("amount", {})
    if ("specifiedAmount" in amount) == ("lastPeriodAmount" in amount):
        raise invalid("Exactly one of specified_amount and last_period_amount must be set.", field_path="budget.amount")
    if "specifiedAmount" in amount:
        amount["specifiedAmount"].setdefault("currencyCode", "USD")
    for rule in budget.get("thresholdRules", []):
        if rule.get("thresholdPercent", 0) < 0:
            raise invalid("A threshold percent must not be negative.", field_path="budget.threshold_rules")
        rule.setdefault("spendBasis", "CURRENT_SPEND")
    budget.setdefault("budgetFilter", {}).setdefault("creditTypesTreatment", "INCLUDE_ALL_CREDITS")
    budget["budgetFilter"].setdefault("calendarPeriod", "MONTH")
    if projects := budget["budgetFilter"].get("projects"):
        own = f"projects/{call.cloud.project_number}"
        budget["budgetFilter"]["projects"] = [own if name == f"projects/{call.cloud.project}" else name for name in projects]
    body = {key: value for key, value in budget.items() if key != "etag"}
    body["etag"] = base64.b64encode(hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()[:9]).decode()
    call.cloud.db.execute("INSERT OR REPLACE INTO budgets VALUES (?, ?)", (body["name"], json.dumps(body)))
    return body
