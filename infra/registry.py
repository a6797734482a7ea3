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


KEPT_VERSIONS = 10
UNTAGGED_SECONDS = 30 * 24 * 60 * 60


def cleanup() -> list[artifactregistry.RepositoryCleanupPolicyArgs]:
    """An image that lost its tag goes after 30 days, but never one of the ten newest, which a run may still name by digest."""
    return [
        artifactregistry.RepositoryCleanupPolicyArgs(
            id="delete-untagged",
            action="DELETE",
            condition=artifactregistry.RepositoryCleanupPolicyConditionArgs(
                tag_state="UNTAGGED", older_than=f"{UNTAGGED_SECONDS}s"
            ),
        ),
        artifactregistry.RepositoryCleanupPolicyArgs(
            id="keep-newest",
            action="KEEP",
            most_recent_versions=artifactregistry.RepositoryCleanupPolicyMostRecentVersionsArgs(keep_count=KEPT_VERSIONS),
        ),
    ]


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
            cleanup_policies=cleanup(),
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True),  # as the bucket
        )
        self.register_outputs({"repository": self.repository.name})
