"""The stack's bucket: private, labelled, and tidy by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_gcp import storage

from infra.config import OnDestroy

TEMPORARY_PREFIXES = ("tmp/", "staging/")
CHECKPOINT_PREFIXES = ("train/",)
OLD_GENERATION_DAYS = 30
DAY = 24 * 60 * 60
MULTI_REGIONS = {"US": ("us-",), "EU": ("europe-",), "ASIA": ("asia-",)}
"""Regions that a bucket's location holds, by how their names begin (cloud.google.com/storage/docs/locations)."""


@dataclass(frozen=True)
class StorageArgs:
    project: str
    location: str
    bucket: str
    labels: Mapping[str, str]
    on_destroy: OnDestroy
    temporary_days: int
    soft_delete_days: int
    checkpoint_days: int | None = None
    versioning: bool = False
    kms_key: str | None = None


def far_away(location: str, region: str, existing: bool = False) -> str | None:
    """What is to be said of a bucket elsewhere than the jobs that read it, if it is."""
    place = location.upper()
    if place == region.upper() or region.startswith(MULTI_REGIONS.get(place, ())):
        return None
    mend = (
        "Choose another bucket, or a region that it holds."
        if existing
        else (f"Leave odcloud:bucketLocation out, or choose a location that holds {region}.")
    )
    return (
        f"the bucket is in {place}, the jobs run in {region}: every step reads across regions, which is slower and billed as "
        f"network traffic. {mend}"
    )


def expiry(days: int, prefixes: tuple[str, ...]) -> storage.BucketLifecycleRuleArgs:
    """Objects under the prefixes go after some days."""
    return storage.BucketLifecycleRuleArgs(
        action=storage.BucketLifecycleRuleActionArgs(type="Delete"),
        condition=storage.BucketLifecycleRuleConditionArgs(age=days, matches_prefixes=list(prefixes)),
    )


def lifecycle(args: StorageArgs) -> list[storage.BucketLifecycleRuleArgs]:
    """Temporary objects go always, checkpoints and old generations if the stack says so."""
    rules = [expiry(args.temporary_days, TEMPORARY_PREFIXES)]
    if args.checkpoint_days is not None:
        rules.append(expiry(args.checkpoint_days, CHECKPOINT_PREFIXES))
    if args.versioning:
        condition = storage.BucketLifecycleRuleConditionArgs(days_since_noncurrent_time=OLD_GENERATION_DAYS)
        rules.append(
            storage.BucketLifecycleRuleArgs(action=storage.BucketLifecycleRuleActionArgs(type="Delete"), condition=condition)
        )
    return rules


class Storage(pulumi.ComponentResource):
    """`bucket` holds data, packages, configurations, checkpoints and run records."""

    bucket: pulumi.Output[str]
    """Its name, known when it is there."""

    def __init__(self, name: str, args: StorageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("odcloud:infra:Storage", name, None, opts)
        made = storage.Bucket(
            "bucket",
            project=args.project,
            name=args.bucket,
            location=args.location.upper(),  # as the service gives it back
            labels=dict(args.labels),
            uniform_bucket_level_access=True,
            public_access_prevention="enforced",
            # The teardown has asked first: it is deleted before the bucket, and refuses if results are in the way.
            force_destroy=args.on_destroy != "keepCheckpoints",
            soft_delete_policy=storage.BucketSoftDeletePolicyArgs(retention_duration_seconds=args.soft_delete_days * DAY),
            versioning=storage.BucketVersioningArgs(enabled=True) if args.versioning else None,
            encryption=storage.BucketEncryptionArgs(default_kms_key_name=args.kms_key) if args.kms_key else None,
            lifecycle_rules=lifecycle(args),
            # Replaced in this order only, the teardown refuses before anything has happened.
            opts=pulumi.ResourceOptions(
                parent=self, retain_on_delete=args.on_destroy == "keepCheckpoints", delete_before_replace=True
            ),
        )
        self.bucket = made.name
        self.register_outputs({"bucket": self.bucket})
