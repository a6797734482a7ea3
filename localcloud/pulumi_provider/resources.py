"""The types that are served. Bodies and paths are those that the real provider sends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from localcloud.pulumi_provider import accounts, billing, federation, projects, registry, storage
from localcloud.pulumi_provider.errors import ProviderError
from localcloud.pulumi_provider.kinds import Kind, Properties

KINDS: Mapping[str, Kind] = {
    "gcp:artifactregistry/repository:Repository": registry.REPOSITORY,
    "gcp:artifactregistry/repositoryIamMember:RepositoryIamMember": registry.REPOSITORY_MEMBER,
    "gcp:billing/budget:Budget": billing.BUDGET,
    "gcp:iam/workloadIdentityPool:WorkloadIdentityPool": federation.POOL,
    "gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider": federation.PROVIDER,
    "gcp:projects/iAMMember:IAMMember": projects.PROJECT_MEMBER,
    "gcp:projects/service:Service": projects.SERVICE,
    "gcp:serviceaccount/account:Account": accounts.ACCOUNT,
    "gcp:serviceaccount/iAMMember:IAMMember": accounts.ACCOUNT_MEMBER,
    "gcp:storage/bucket:Bucket": storage.BUCKET,
    "gcp:storage/bucketIAMMember:BucketIAMMember": storage.BUCKET_MEMBER,
    "gcp:storage/bucketObject:BucketObject": storage.OBJECT,
}

FUNCTIONS: Mapping[str, Callable[[Properties], dict[str, Any]]] = {
    "gcp:organizations/getProject:getProject": projects.get_project,
}
"""The functions that are served, from their arguments to what they return."""


def kind_of(urn: str) -> tuple[str, Kind]:
    """Type token and kind of a resource's URN (`urn:pulumi:stack::project::parent$type::name`).

    Raises:
        ProviderError: a type that is not served.
    """
    token = urn.split("::")[2].rpartition("$")[2]
    if token not in KINDS:
        known = ", ".join(sorted(KINDS))
        raise ProviderError(f"{token} is not served by the local cloud's provider; it serves {known}")
    return token, KINDS[token]
