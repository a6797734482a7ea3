"""The stack's bucket: private, labelled, and tidy by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_gcp import storage

TEMPORARY_PREFIXES = ("tmp/", "staging/")
DAY = 24 * 60 * 60


@dataclass(frozen=True)
class StorageArgs:
    project: str
    region: str
    bucket: str
    labels: Mapping[str, str]
    force_destroy: bool
    temporary_days: int
    soft_delete_days: int


class Storage(pulumi.ComponentResource):
    """`bucket` holds data, packages, configurations, checkpoints and run records."""

    bucket: storage.Bucket

    def __init__(self, name: str, args: StorageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("odcloud:infra:Storage", name, None, opts)
        self.bucket = storage.Bucket(
            "bucket",
            project=args.project,
            name=args.bucket,
            location=args.region.upper(),  # as the service gives it back
            labels=dict(args.labels),
            uniform_bucket_level_access=True,
            public_access_prevention="enforced",
            force_destroy=args.force_destroy,
            soft_delete_policy=storage.BucketSoftDeletePolicyArgs(retention_duration_seconds=args.soft_delete_days * DAY),
            lifecycle_rules=[
                storage.BucketLifecycleRuleArgs(
                    action=storage.BucketLifecycleRuleActionArgs(type="Delete"),
                    condition=storage.BucketLifecycleRuleConditionArgs(
                        age=args.temporary_days, matches_prefixes=list(TEMPORARY_PREFIXES)
                    ),
                )
            ],
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({"bucket": self.bucket.name})
