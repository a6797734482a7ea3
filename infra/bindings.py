"""A grant becomes a resource: the one place where the stack makes IAM bindings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi
from pulumi_gcp import artifactregistry, projects, serviceaccount, storage

from infra.grants import Grant


@dataclass(frozen=True)
class Scopes:
    """What grants are about: the project, and what else they name.

    `accounts`: `projects/P/serviceAccounts/EMAIL` by a grant's scope, e.g. `trainer account`.
    """

    project: str
    region: str = ""
    bucket: pulumi.Input[str] = ""
    repository: pulumi.Input[str] = ""
    accounts: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)


ALWAYS = "request.time > timestamp('2000-01-01T00:00:00Z')"


def own(stack: str) -> projects.IAMMemberConditionArgs:
    """A condition that always holds, titled `stack`: bindings of one role and member are told apart by their conditions alone.

    Without it, two stacks that name the same member would share one binding, and the first that goes would take it along.
    """
    return projects.IAMMemberConditionArgs(title=stack, expression=ALWAYS)


def bind(
    grant: Grant,
    member: pulumi.Input[str],
    scopes: Scopes,
    name: str,
    opts: pulumi.ResourceOptions,
    condition: projects.IAMMemberConditionArgs | None = None,
) -> pulumi.Resource:
    """Give `member` the grant's role on its scope; a resource called `name`. `condition`: of what is given project-wide."""
    if grant.scope == "project":
        return projects.IAMMember(name, project=scopes.project, role=grant.role, member=member, condition=condition, opts=opts)
    if grant.scope == "bucket":
        return storage.BucketIAMMember(name, bucket=scopes.bucket, role=grant.role, member=member, opts=opts)
    if grant.scope == "repository":
        return artifactregistry.RepositoryIamMember(
            name,
            project=scopes.project,
            location=scopes.region,
            repository=scopes.repository,
            role=grant.role,
            member=member,
            opts=opts,
        )
    account = scopes.accounts[grant.scope]
    return serviceaccount.IAMMember(name, service_account_id=account, role=grant.role, member=member, opts=opts)


def member_of(email: pulumi.Output[str]) -> pulumi.Output[str]:
    """An account as a policy names it."""
    return email.apply(lambda address: f"serviceAccount:{address}")
