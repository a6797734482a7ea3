"""A budget's alert: whoever pays hears of it before a stack has become dear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_gcp import billing, organizations

THRESHOLDS = (0.5, 0.9, 1.0)
"""Shares of the amount at which the billing account's administrators and users get mail."""


@dataclass(frozen=True)
class BudgetArgs:
    project: str
    account: str
    """Id of the billing account, e.g. 012345-6789AB-CDEF01."""
    amount: int
    """A month, in the account's currency."""
    name: str
    labels: Mapping[str, str]
    """Only what carries this label counts."""


class Budget(pulumi.ComponentResource):
    """It tells, and stops nothing: `odcloud train --max-cost` ends a job."""

    def __init__(self, name: str, args: BudgetArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("odcloud:infra:Budget", name, None, opts)
        number = organizations.get_project_output(project_id=args.project).number
        billing.Budget(
            "budget",
            billing_account=args.account,
            display_name=args.name,
            amount=billing.BudgetAmountArgs(
                specified_amount=billing.BudgetAmountSpecifiedAmountArgs(units=str(args.amount)),
            ),
            budget_filter=billing.BudgetBudgetFilterArgs(
                projects=[pulumi.Output.concat("projects/", number)],  # by its number, as the service gives it back
                labels=dict(args.labels),
                calendar_period="MONTH",
                credit_types_treatment="INCLUDE_ALL_CREDITS",
            ),
            threshold_rules=[
                billing.BudgetThresholdRuleArgs(threshold_percent=share, spend_basis="CURRENT_SPEND") for share in THRESHOLDS
            ],
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})
