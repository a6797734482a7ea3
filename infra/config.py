"""The stack's configuration (Pulumi.<stack>.yaml), read into one typed value; every mistake is told at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from infra.errors import StackError

NAMESPACE = "odcloud"
LABEL = "odcloud-stack"
"""Key of the label that every resource and job of a stack carries; its value is the stack's name."""

OnDestroy = Literal["delete", "keepCheckpoints", "refuse"]


def none_or_a_week(days: int) -> int:
    """What Cloud Storage takes as days of soft delete. Raises ValueError."""
    if 0 < days < 7:
        raise ValueError("must be 0, or 7 to 90, for Cloud Storage")
    return days


class StackConfig(BaseModel):
    """What a stack is made from; fields are `odcloud:<camelCase>` but for project and region, which are the provider's."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    # Restricted so that `odcloud-<stack>` is a valid service account id (at most 30 characters) and label.
    stack: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?$", description="the stack's name")]
    project: Annotated[str, Field(pattern=r"^[a-z][-a-z0-9]{4,28}[a-z0-9]$", description="id of the Google Cloud project")]
    region: Annotated[str, Field(pattern=r"^[a-z]+-[a-z]+[0-9]+$", description="region of bucket and jobs, e.g. us-central1")]
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][-a-z0-9_.]{1,61}[a-z0-9]$", description="name of the bucket")]
    existing_bucket: Annotated[
        str | None,
        Field(
            pattern=r"^[a-z0-9][-a-z0-9_.]{1,61}[a-z0-9]$",
            description="a bucket that is there already, to be used instead of one of the stack's own",
        ),
    ] = None
    bucket_location: Annotated[
        str | None, Field(pattern=r"^[A-Za-z0-9-]{2,40}$", description="location of the bucket, if not the jobs' region")
    ] = None
    on_destroy: Annotated[OnDestroy, Field(description="what `pulumi destroy` does with results of training in the bucket")] = (
        "refuse"
    )
    versioning: Annotated[bool, Field(description="keep old generations of objects, for 30 days")] = False
    kms_key: Annotated[
        str | None,
        Field(
            pattern=r"^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$",
            description="Cloud KMS key that encrypts the bucket's objects",
        ),
    ] = None
    checkpoint_days: Annotated[int | None, Field(ge=1, le=3650, description="days until what is under train/ goes")] = None
    temporary_days: Annotated[int, Field(ge=1, le=365, description="days until objects under tmp/ and staging/ go")] = 7
    soft_delete_days: Annotated[
        int, Field(ge=0, le=90, description="days a deleted object can be restored; 0 or 7–90"), AfterValidator(none_or_a_week)
    ] = 7
    pipeline_config: Annotated[Path, Field(description="pipeline configuration, from the project's folder")] = Path(
        "examples/digits/pipeline.config"
    )
    data_dir: Annotated[Path | None, Field(description="dataset to upload, from the project's folder; none if not set")] = None
    launchers: Annotated[
        tuple[Annotated[str, Field(pattern=r"^(user|group|serviceAccount|principal|principalSet):\S+$")], ...],
        Field(description="who may launch jobs, as in an IAM policy, e.g. group:vision@example.com"),
    ] = ()
    github_repository: Annotated[
        str | None,
        Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+$", description="OWNER/NAME whose workflows may deploy"),
    ] = None
    github_branch: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", description="the branch whose workflows may deploy")
    ] = "main"
    billing_account: Annotated[
        str | None, Field(pattern=r"^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", description="billing account that the budget is of")
    ] = None
    budget: Annotated[
        int | None, Field(ge=1, description="amount a month, in the billing account's currency, of which mail warns")
    ] = None
    # The newest that Google lists with TensorFlow, promised until 2026-07-11 only; an image of one's own is not bound to that.
    executor_image_uri: Annotated[str, Field(min_length=1, description="Vertex AI's prebuilt training image")] = (
        "us-docker.pkg.dev/vertex-ai/training/tf-cpu.2-17.py310:latest"
    )

    @model_validator(mode="before")
    @classmethod
    def name_bucket(cls, values: dict[str, Any]) -> dict[str, Any]:
        own = f"{values.get('project')}-{NAMESPACE}-{values.get('stack')}"
        return {"bucket": values.get("existingBucket") or own, **values}

    @property
    def name(self) -> str:
        """Name of the stack's account and repository."""
        return f"{NAMESPACE}-{self.stack}"

    @property
    def prefix(self) -> str:
        """Beginning of the names of the stack's objects: it may do as it likes only in a bucket of its own."""
        return f"{self.name}/" if self.existing_bucket else ""

    @property
    def labels(self) -> dict[str, str]:
        return {LABEL: self.stack}


OWN_BUCKET = ("bucket", "bucketLocation", "versioning", "kmsKey", "checkpointDays", "temporaryDays", "softDeleteDays")
"""Settings of a bucket that the stack makes."""

PROVIDER_KEYS = {"gcp:project": "project", "gcp:region": "region"}


def load(stack: str, values: Mapping[str, str]) -> StackConfig:
    """Read a stack's configuration as Pulumi gives it: `{"gcp:project": …, "odcloud:forceDestroy": "true", …}`.

    Raises:
        StackError: anything is missing, unknown or malformed; the message names every such key and what it is for.
    """
    given: dict[str, Any] = {"stack": stack}
    for key, value in values.items():
        namespace, _, name = key.partition(":")
        if key in PROVIDER_KEYS:
            given[PROVIDER_KEYS[key]] = value
        elif key == f"{NAMESPACE}:launchers":
            given["launchers"] = listed(value)
        elif namespace == NAMESPACE:
            # A stack's own name, project and region are not to be set a second time: shown as unknown.
            given[name if name not in ("stack", "project", "region") else key] = value
    config, lines = None, together(given)
    try:
        config = StackConfig.model_validate(given)
    except ValidationError as error:
        lines = [
            *(
                describe(str(item["loc"][0]), item["type"], item["msg"], given)
                for item in error.errors()
                if item["loc"][0] != "bucket" or "bucket" in given  # its default is wrong only if project or stack is
            ),
            *lines,
        ]
    if config is None or lines:
        listing = "".join(f"\n  {line}" for line in lines)
        raise StackError(f"Pulumi.{stack}.yaml: the stack's configuration is not usable:{listing}")
    return config


def together(given: Mapping[str, Any]) -> list[str]:
    """One line on each mistake that is in no setting alone, but in which are set."""
    lines = []
    if "existingBucket" in given and (clash := [name for name in OWN_BUCKET if name in given]):
        names = ", ".join(f"{NAMESPACE}:{name}" for name in clash)
        lines.append(f"{names} and {NAMESPACE}:existingBucket exclude each other: what is there stays as it is.")
    key, location = str(given.get("kmsKey", "")).split("/"), str(given.get("bucketLocation") or given.get("region")).lower()
    if len(key) == 8 and key[3] != {"eu": "europe"}.get(location, location):  # otherwise it is refused, when the bucket is made
        lines.append(f"{NAMESPACE}:kmsKey is in {key[3]}, the bucket in {location}: a key must be where the bucket is.")
    if ("budget" in given) != ("billingAccount" in given):
        lines.append(f"{NAMESPACE}:budget and {NAMESPACE}:billingAccount belong together; set both, or neither.")
    return lines


def listed(value: str) -> list[str] | str:
    """A list as `pulumi config set --path 'odcloud:launchers[0]' …` stores it; anything else as it is, to be refused."""
    try:
        parsed = json.loads(value)
    except ValueError:
        return value
    return parsed if isinstance(parsed, list) else value


def describe(field: str, kind: str, message: str, given: Mapping[str, Any]) -> str:
    """One line on one mistake: where, what, what to do."""
    fields = {info.alias or name: info for name, info in StackConfig.model_fields.items()}
    if field == "stack":
        return f"stack name {given['stack']!r}: lower-case letters, digits and dashes, at most 22 characters."
    key = {name: key for key, name in PROVIDER_KEYS.items()}.get(field, f"{NAMESPACE}:{field}" if ":" not in field else field)
    if kind == "extra_forbidden":
        known = ", ".join(f"{NAMESPACE}:{name}" for name in fields if name not in ("stack", "project", "region"))
        return f"{key}: no such setting; there are {known}."
    meaning = fields[field].description
    if kind == "missing":
        return f"{key}: not set ({meaning}); set it with `pulumi config set {key} VALUE`."
    if kind == "tuple_type":
        return f"{key}: {given[field]!r} is no list ({meaning}); set each with `pulumi config set --path '{key}[0]' VALUE`."
    message = message.removeprefix("Value error, ")  # which pydantic puts before a validator's own words
    return f"{key}: {given.get(field, '')!r} ({meaning}): {message[0].lower() + message[1:]}."


def main(arguments: Sequence[str]) -> int:
    """`python -m infra.config STACK` checks what standard input holds, `{"gcp:project": "…", …}`: 2 if it is wrong."""
    (stack,) = arguments
    try:
        load(stack, json.load(sys.stdin))
    except StackError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
