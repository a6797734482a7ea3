"""The Google APIs that the stack and its jobs use, switched on in the project, and waited for until they can be used."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_gcp import projects

from infra.usable import Usable

SERVICES = ("aiplatform", "artifactregistry", "cloudresourcemanager", "iam", "logging", "storage")
SIGN_IN = ("iamcredentials", "sts")
"""What a workflow exchanges its token with. Nothing of `pulumi up` calls them, so they are not waited for."""


@dataclass(frozen=True)
class ServicesArgs:
    project: str
    region: str
    billing_account: str | None = None
    """Of the stack's budget, if it has one."""
    delivery: bool = False
    """Whether workflows deploy the stack."""


class Services(pulumi.ComponentResource):
    """Everything else depends on it. Services stay on at destroy: the project's other users may need them."""

    def __init__(self, name: str, args: ServicesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("odcloud:infra:Services", name, None, opts)
        billing = {"billing_account": args.billing_account} if args.billing_account else {}
        used = [*SERVICES, *(["billingbudgets"] if billing else [])]
        switched = [
            projects.Service(
                service,
                project=args.project,
                service=f"{service}.googleapis.com",
                disable_on_destroy=False,
                opts=pulumi.ResourceOptions(parent=self),
            )
            for service in (*used, *(SIGN_IN if args.delivery else ()))
        ]
        Usable(
            "usable",
            {"project": args.project, "region": args.region, "services": used, **billing},
            pulumi.ResourceOptions(parent=self, depends_on=switched),
        )
        self.register_outputs({})
