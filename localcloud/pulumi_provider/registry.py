"""Artifact Registry's repositories and their policies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from localcloud.pulumi_provider import iam, rest
from localcloud.pulumi_provider.common import LABELS, PROJECT, REGION, REQUIRED, gone, labelled
from localcloud.pulumi_provider.errors import ProviderError
from localcloud.pulumi_provider.kinds import Field, Kind, Properties, import_pattern
from localcloud.pulumi_provider.rest import REPOSITORIES

CHANGEABLE = ("description", "labels", "cleanupPolicies", "cleanupPolicyDryRun", "dockerConfig")
TIMES = frozenset({"olderThan", "newerThan"})
REPOSITORY_NAME = "projects/{{project}}/locations/{{location}}/repositories/{{{}}}"


def repositories_path(inputs: Properties) -> str:
    return f"projects/{inputs['project']}/locations/{inputs['location']}/repositories"


def repository_body(inputs: Properties) -> dict[str, Any]:
    body = {name: inputs[name] for name in ("format", "mode", *CHANGEABLE) if name in inputs and name != "cleanupPolicies"}
    if "cleanupPolicies" in inputs:
        body["cleanupPolicies"] = {policy["id"]: cleanup_body(policy) for policy in inputs["cleanupPolicies"]}
    return body


def cleanup_body(policy: Mapping[str, Any]) -> dict[str, Any]:
    """A cleanup policy as the API has it: times in seconds (`30d` is what the type takes too)."""
    condition = dict(policy.get("condition", {}))
    for name in TIMES & condition.keys():
        condition[name] = f"{seconds(condition[name])}s"
    return {**policy, "condition": condition} if "condition" in policy else dict(policy)


def seconds(text: str) -> int:
    """Seconds of `30d`, `12h`, `5m` or `86400s`.

    Raises:
        ProviderError: it is none of these.
    """
    match = re.fullmatch(r"(\d+)([dhms])", text)
    if not match:
        raise ProviderError(f"{text!r} is no time of a cleanup policy, such as 30d, 12h, 5m or 86400s")
    return int(match[1]) * {"d": 86400, "h": 3600, "m": 60, "s": 1}[match[2]]


def same_policies(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> bool:
    """Whether two lists of cleanup policies say the same, in whatever order and units."""

    def said(policies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {str(policy["id"]): cleanup_body(policy) for policy in policies}

    try:
        return said(old) == said(new)
    except (ProviderError, KeyError, TypeError, AttributeError):
        return False  # not known yet, or wrong, which is said when it is written


def repository_path(inputs: Properties) -> str:
    return f"{repositories_path(inputs)}/{inputs['repositoryId']}"


def read_repository(inputs: Properties) -> dict[str, Any] | None:
    repository = gone(REPOSITORIES.call, "GET", repository_path(inputs))
    if repository is None:
        return None
    kept = ("format", "mode", "description", "createTime", "updateTime", "cleanupPolicyDryRun", "dockerConfig")
    live = {name: repository[name] for name in kept if name in repository}
    if policies := list(repository.get("cleanupPolicies", {}).values()):
        live["cleanupPolicies"] = policies
    return {**live, **labelled(repository), "name": inputs["repositoryId"]}


def delete_repository(inputs: Properties) -> None:
    operation = gone(REPOSITORIES.call, "DELETE", repository_path(inputs))
    if operation is not None:
        rest.finish(REPOSITORIES, operation)


REPOSITORY = Kind(
    fields={
        "project": PROJECT,
        "location": REGION,
        "repositoryId": REQUIRED,
        "format": REQUIRED,
        "mode": Field(fixed=True, default="STANDARD_REPOSITORY"),
        "description": Field(),
        "labels": Field(),
        "cleanupPolicies": Field(same=same_policies),
        "cleanupPolicyDryRun": Field(),
        "dockerConfig": Field(),
    },
    identity=repository_path,
    create=lambda inputs: rest.finish(
        REPOSITORIES,
        REPOSITORIES.call(
            "POST", repositories_path(inputs), {"repository_id": inputs["repositoryId"]}, repository_body(inputs)
        ),
    ),
    read=read_repository,
    update=lambda inputs: REPOSITORIES.call(
        "PATCH", repository_path(inputs), {"updateMask": ",".join(CHANGEABLE)}, repository_body(inputs)
    ),
    delete=delete_repository,
    changing=LABELS | {"updateTime"},
    reported=frozenset(CHANGEABLE),
    unique=True,
    imported=import_pattern(REPOSITORY_NAME.format("repositoryId"), "{project}/{location}/{repositoryId}"),
)


OF_REPOSITORY = REPOSITORY_NAME.format("repository")


def policy_path(inputs: Properties) -> str:
    return OF_REPOSITORY.format_map(inputs)


REPOSITORY_MEMBER = iam.member_kind(
    iam.PolicyOf(
        scope=("project", "location", "repository"),
        name=OF_REPOSITORY,
        get=lambda inputs: REPOSITORIES.call(
            "GET", f"{policy_path(inputs)}:getIamPolicy", {"options.requestedPolicyVersion": 3}
        ),
        set=lambda inputs, policy: REPOSITORIES.call("POST", f"{policy_path(inputs)}:setIamPolicy", body={"policy": policy}),
        imported=import_pattern(OF_REPOSITORY, "{project}/{location}/{repository}"),
    )
)
