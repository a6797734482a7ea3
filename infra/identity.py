"""The account that training and evaluation jobs run as, and who may launch them; grants.py says what each needs and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
    launchers: Sequence[str] = ()
    """Members as in an IAM policy, e.g. `group:vision@example.com`."""


class Identity(pulumi.ComponentResource):
    """`email` is the trainer's account; it is ready to use when the component is. `scopes` has the account in it."""

    email: pulumi.Output[str]
    scopes: Scopes

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
        self.scopes = replace(args.scopes, accounts={"trainer account": account.name})
        for grant in TRAINER:
            bind(grant, member_of(account.email), self.scopes, grant.name, child)
        for launcher in args.launchers:
            for grant in LAUNCHER:
                bind(grant, launcher, self.scopes, f"{grant.name}-{launcher}", child, own(args.account))
        self.email = account.email
        self.register_outputs({"email": self.email})
