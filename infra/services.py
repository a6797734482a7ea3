"""The Google APIs that the stack and its jobs use, switched on in the project."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_gcp import projects

SERVICES = ("aiplatform", "artifactregistry", "cloudresourcemanager", "iam", "logging", "storage")


@dataclass(frozen=True)
class ServicesArgs:
    project: str


class Services(pulumi.ComponentResource):
    """Everything else depends on it. Services stay on at destroy: the project's other users may need them."""

    def __init__(self, name: str, args: ServicesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("odcloud:infra:Services", name, None, opts)
        for service in SERVICES:
            projects.Service(
                service,
                project=args.project,
                service=f"{service}.googleapis.com",
                disable_on_destroy=False,
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({})
