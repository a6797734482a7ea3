"""The repository for container images that jobs run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_gcp import artifactregistry


@dataclass(frozen=True)
class RegistryArgs:
    project: str
    region: str
    repository: str
    labels: Mapping[str, str]


class Registry(pulumi.ComponentResource):
    """`repository` is a Docker repository beside the bucket."""

    repository: artifactregistry.Repository

    def __init__(self, name: str, args: RegistryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("odcloud:infra:Registry", name, None, opts)
        self.repository = artifactregistry.Repository(
            "repository",
            project=args.project,
            location=args.region,
            repository_id=args.repository,
            description="Images of training jobs",
            format="DOCKER",
            mode="STANDARD_REPOSITORY",
            labels=dict(args.labels),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({"repository": self.repository.name})
