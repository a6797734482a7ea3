"""The Google APIs that the stack and its jobs use, switched on in the project, and waited for until they can be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_gcp import projects

from infra.usable import Usable

SERVICES = ("aiplatform", "artifactregistry", "cloudresourcemanager", "iam", "logging", "storage")


@dataclass(frozen=True)
class ServicesArgs:
    project: str
    region: str
    more: Sequence[str] = ()
    """Services beside SERVICES, without their `.googleapis.com`."""


class Services(pulumi.ComponentResource):
    """Everything else depends on it. Services stay on at destroy: the project's other users may need them."""

    def __init__(self, name: str, args: ServicesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("odcloud:infra:Services", name, None, opts)
        wanted = [*SERVICES, *args.more]
        switched = [
            projects.Service(
                service,
                project=args.project,
                service=f"{service}.googleapis.com",
                disable_on_destroy=False,
                opts=pulumi.ResourceOptions(parent=self),
            )
            for service in wanted
        ]
        Usable(
            "usable",
            {"project": args.project, "region": args.region, "services": wanted},
            pulumi.ResourceOptions(parent=self, depends_on=switched),
        )
        self.register_outputs({})
