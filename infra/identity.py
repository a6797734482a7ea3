"""The account that training and evaluation jobs run as, and who may launch them; grants.py says what each needs and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pulumi
from pulumi_gcp import serviceaccount

from infra.bindings import Scopes, bind, member_of, own
from infra.grants import LAUNCHER, TRAINER


@dataclass(frozen=True)
class IdentityArgs:
    scopes: Scopes
    """What the grants are about; the trainer's account is this component's to add."""
    account: str
    """Account id: the part of the email before the @."""
    launchers: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    """Members as in an IAM policy, e.g. `group:vision@example.com`, by what their bindings are called after."""


class Identity(pulumi.ComponentResource):
    """`email` is the trainer's account; it is ready to use when the component is."""

    email: pulumi.Output[str]

    def __init__(self, name: str, args: IdentityArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("odcloud:infra:Identity", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        account = serviceaccount.Account(
            "trainer",
            project=args.scopes.project,
            account_id=args.account,
            display_name="Trainer: runs the jobs of one odcloud stack",
            opts=child,
        )
        scopes = replace(args.scopes, accounts={"trainer account": account.name})
        for grant in TRAINER:
            bind(grant, member_of(account.email), scopes, grant.name, child)
        for called, launcher in args.launchers.items():
            for grant in LAUNCHER:
                bind(grant, launcher, scopes, f"{grant.name}-{called}", child, own(args.account))
        self.email = account.email
        self.register_outputs({"email": self.email})
