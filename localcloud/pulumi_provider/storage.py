"""Buckets, their policies and their objects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localcloud.pulumi_provider import iam, rest
from localcloud.pulumi_provider.common import LABELS, PROJECT, REQUIRED, gone, labelled, project
from localcloud.pulumi_provider.emptying import empty
from localcloud.pulumi_provider.errors import ProviderError
from localcloud.pulumi_provider.kinds import Field, Kind, Properties, import_pattern, is_asset
from localcloud.pulumi_provider.rest import STORAGE, quote

PLURAL = {
    "matchesPrefix": "matchesPrefixes",
    "matchesSuffix": "matchesSuffixes",
    "matchesStorageClass": "matchesStorageClasses",
}
SINGULAR = {plural: singular for singular, plural in PLURAL.items()}
WEEK = 7 * 24 * 60 * 60
LIVE = {"LIVE": True, "ARCHIVED": False}


def condition_body(condition: Mapping[str, Any]) -> dict[str, Any]:
    """A lifecycle condition as the API has it."""
    body = {SINGULAR.get(name, name): value for name, value in condition.items() if name != "withState"}
    state = condition.get("withState")
    return {**body, "isLive": LIVE[state]} if state in LIVE else body


def condition_properties(condition: Mapping[str, Any]) -> dict[str, Any]:
    """A lifecycle condition as the type has it."""
    properties = {PLURAL.get(name, name): value for name, value in condition.items() if name != "isLive"}
    if "isLive" in condition:
        properties["withState"] = "LIVE" if condition["isLive"] else "ARCHIVED"
    return properties


OPTIONAL = ("versioning", "encryption")
"""Blocks that are the same in the type and in the API."""


def bucket_body(inputs: Properties) -> dict[str, Any]:
    rules = [
        {"action": rule["action"], "condition": condition_body(rule["condition"])} for rule in inputs.get("lifecycleRules", ())
    ]
    optional = {name: inputs[name] for name in OPTIONAL if name in inputs}
    return {
        **optional,
        "name": inputs["name"],
        "location": inputs["location"],
        "storageClass": inputs["storageClass"],
        "labels": inputs.get("labels", {}),
        "iamConfiguration": {
            "publicAccessPrevention": inputs["publicAccessPrevention"],
            "uniformBucketLevelAccess": {"enabled": inputs["uniformBucketLevelAccess"]},
        },
        "lifecycle": {"rule": rules},
        "softDeletePolicy": {"retentionDurationSeconds": str(retention(inputs["softDeletePolicy"]))},
    }


def retention(policy: Any) -> Any:
    """Seconds of a soft-delete policy; one that says nothing is Google's of a week. (What is not known yet stays so.)"""
    return policy.get("retentionDurationSeconds", WEEK) if isinstance(policy, Mapping) else policy


def read_bucket(inputs: Properties) -> dict[str, Any] | None:
    bucket = gone(STORAGE.call, "GET", f"b/{quote(inputs['name'])}")
    if bucket is None:
        return None
    access = bucket.get("iamConfiguration", {})
    # a block that was never given is shown only when somebody has switched it on
    optional = {name: bucket[name] for name in OPTIONAL if name in inputs and name in bucket}
    if bucket.get("versioning", {}).get("enabled"):
        optional["versioning"] = {"enabled": True}
    return {
        **optional,
        "project": inputs["project"],
        "name": bucket["name"],
        "location": bucket["location"],
        "storageClass": bucket["storageClass"],
        **labelled(bucket),
        "publicAccessPrevention": access.get("publicAccessPrevention", "inherited"),
        "uniformBucketLevelAccess": access.get("uniformBucketLevelAccess", {}).get("enabled", False),
        "lifecycleRules": [
            {"action": rule["action"], "condition": condition_properties(rule["condition"])}
            for rule in bucket.get("lifecycle", {}).get("rule", ())
        ],
        "softDeletePolicy": {
            "retentionDurationSeconds": int(bucket.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0))
        },
        "url": f"gs://{bucket['name']}",
        "selfLink": bucket.get("selfLink", ""),
        "projectNumber": int(bucket.get("projectNumber", 0)),
        "timeCreated": bucket.get("timeCreated", ""),
    }


def update_bucket(inputs: Properties) -> None:
    path = f"b/{quote(inputs['name'])}"
    body = bucket_body(inputs)
    # A patch merges labels: one that is not wanted any more has to be given as null.
    labels = dict.fromkeys(STORAGE.call("GET", path).get("labels", {}))
    absent = {name: None for name in OPTIONAL if name not in body}
    STORAGE.call("PATCH", path, body={**absent, **body, "labels": {**labels, **body["labels"]}})


def delete_bucket(inputs: Properties) -> None:
    path = f"b/{quote(inputs['name'])}"
    if inputs["forceDestroy"]:
        empty(inputs["name"])
    try:
        gone(STORAGE.call, "DELETE", path)
    except rest.Conflict as error:
        hint = (
            "" if inputs["forceDestroy"] else " (forceDestroy set to true and `pulumi up` let it be deleted with its objects)"
        )
        raise ProviderError(f"{error}{hint}") from None


def import_bucket(given: str) -> dict[str, Any] | None:
    """`NAME` or `PROJECT/NAME`; the location is read."""
    named = import_pattern("{project}/{name}", "{name}")(given)
    return None if named is None else {"project": project(), "location": "", **named}


BUCKET = Kind(
    fields={
        "name": Field(required=True, fixed=True, auto=63),
        "project": PROJECT,
        "location": Field(required=True, fixed=True, same=lambda old, new: old.upper() == new.upper()),
        "storageClass": Field(default="STANDARD"),
        "labels": Field(),
        "forceDestroy": Field(default=False),
        "publicAccessPrevention": Field(default="inherited"),
        "uniformBucketLevelAccess": Field(default=False),
        "lifecycleRules": Field(),
        "versioning": Field(),
        "encryption": Field(),
        "softDeletePolicy": Field(
            default={"retentionDurationSeconds": WEEK}, same=lambda old, new: retention(old) == retention(new)
        ),
    },
    identity=lambda inputs: inputs["name"],
    create=lambda inputs: STORAGE.call("POST", "b", {"project": inputs["project"]}, bucket_body(inputs)),
    read=read_bucket,
    update=update_bucket,
    delete=delete_bucket,
    changing=LABELS,
    reported=frozenset(OPTIONAL),
    unique=True,
    imported=import_bucket,
)


ONLY_FILES = "the local cloud's provider takes a FileAsset, nothing else"


def object_path(inputs: Properties) -> str:
    return f"b/{quote(inputs['bucket'])}/o/{quote(inputs['name'])}"


def upload_object(inputs: Properties) -> None:
    metadata = {"name": inputs["name"], "contentType": inputs["contentType"]}
    STORAGE.upload(f"b/{quote(inputs['bucket'])}/o", {"name": inputs["name"]}, metadata, Path(inputs["source"]["path"]))


def read_object(inputs: Properties) -> dict[str, Any] | None:
    found = gone(STORAGE.call, "GET", object_path(inputs))
    if found is None:
        return None
    live = {
        "contentType": found.get("contentType", ""),
        "md5hash": found.get("md5Hash", ""),
        "crc32c": found.get("crc32c", ""),
        "generation": int(found["generation"]),
        "storageClass": found.get("storageClass", ""),
        "selfLink": found.get("selfLink", ""),
        "mediaLink": found.get("mediaLink", ""),
        "outputName": found["name"],
    }
    uploaded = inputs.get("md5hash", live["md5hash"])
    if live["md5hash"] != uploaded:  # someone wrote other content: its file is unknown, so the next diff uploads ours again
        live["source"] = {**inputs["source"], "hash": ""}
    return live


OBJECT = Kind(
    fields={
        "bucket": REQUIRED,
        "name": Field(required=True, fixed=True, auto=255),
        "source": Field(required=True, wrong=lambda value: None if is_asset(value) and "path" in value else ONLY_FILES),
        "contentType": Field(default="application/octet-stream"),
    },
    identity=lambda inputs: f"{inputs['bucket']}-{inputs['name']}",
    create=upload_object,
    read=read_object,
    update=upload_object,
    delete=lambda inputs: gone(STORAGE.call, "DELETE", object_path(inputs)),
    changing=frozenset({"md5hash", "crc32c", "generation", "mediaLink"}),
)

BUCKET_MEMBER = iam.member_kind(
    iam.PolicyOf(
        scope=("bucket",),
        name="b/{bucket}",
        get=lambda inputs: STORAGE.call("GET", f"b/{quote(inputs['bucket'])}/iam", {"optionsRequestedPolicyVersion": 3}),
        set=lambda inputs, policy: STORAGE.call("PUT", f"b/{quote(inputs['bucket'])}/iam", body=policy),
        imported=import_pattern("b/{bucket}", "{bucket}"),
    )
)
