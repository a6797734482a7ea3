"""What stacks that are no more have left in a project: with their label or their accounts' names, but no stack to remove it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from launcher import vertex
from launcher.google.api import GoogleError
from launcher.stack import pulumi
from launcher.stack.place import Place
from launcher.stack.session import Session

LABEL = "odcloud-stack"
"""The label of everything that a stack makes and that can have labels (infra/config.py)."""
ACCOUNTS = {"odcloud-": "Trainer: ", "deploy-": "Deployer: ", "preview-": "Previewer: "}
"""Beginnings of the ids of a stack's accounts, and of their display names: accounts have no labels (infra/identity.py)."""
NAMED = "odcloud-"
"""Beginning of a pool's id, and of the title of the condition on the bindings of a stack's launchers (infra/bindings.py)."""


class Left(NamedTuple):
    """A thing of a stack, and the command that removes it."""

    stack: str
    what: str
    remove: str


def orphans(stack: str | None, form: str) -> int:
    """Show what belongs to stacks that Pulumi does not know, or knows to be empty. Returns 1 if there is anything.

    Raises:
        UserError: no Pulumi, no project; or Google refuses a list.
    """
    session = Place.of(None, None, (), stack).session(bucket=False)
    alive = _stacks()
    try:
        left = [one for one in everything(session) if one.stack not in alive]
    except GoogleError as error:
        raise session.explained(error) from error
    if form == "json":
        print(json.dumps([one._asdict() for one in left], indent=2))
    elif left:
        print("\n".join(f"{one.what} of the stack {one.stack}\n    remove it: {one.remove}" for one in left))
    else:
        print(f"nothing in {session.outputs.project} is left of a stack that is no more")
    return 1 if left else 0


def everything(session: Session) -> Iterator[Left]:
    """All that stacks have in the project: buckets, accounts, pools, bindings; in the region repositories and running jobs."""
    google, project, region = session.google, session.outputs.project, session.google.region
    place = f"projects/{project}/locations/{region}"
    for bucket in google.pages("storage.buckets.list", "items", project=project):
        if LABEL in bucket.get("labels", {}):
            name = f"gs://{bucket['name']}"
            yield Left(bucket["labels"][LABEL], f"bucket {name}", f"gcloud storage rm --recursive {name}")
    repositories = "artifactregistry.projects.locations.repositories.list"
    for repository in google.pages(repositories, "repositories", parent=place):
        if LABEL in repository.get("labels", {}):
            name = repository["name"].rpartition("/")[2]
            remove = f"gcloud artifacts repositories delete {name} --location {region} --project {project}"
            yield Left(repository["labels"][LABEL], f"repository {name}", remove)
    for job in session.jobs():
        if LABEL in job.get("labels", {}) and vertex.state(job) not in vertex.ENDED:
            number = job["name"].rpartition("/")[2]
            remove = f"gcloud ai custom-jobs cancel {number} --region {region} --project {project}"
            yield Left(job["labels"][LABEL], f"job {number} ({job['displayName']})", remove)
    for account in google.pages("iam.projects.serviceAccounts.list", "accounts", name=f"projects/{project}"):
        for beginning, title in ACCOUNTS.items():
            if account["email"].startswith(beginning) and account.get("displayName", "").startswith(title):
                stack = account["email"].partition("@")[0].removeprefix(beginning)
                remove = f"gcloud iam service-accounts delete {account['email']} --project {project}"
                yield Left(stack, f"account {account['email']}", remove)
    pools = "iam.projects.locations.workloadIdentityPools.list"
    for pool in google.pages(pools, "workloadIdentityPools", parent=f"projects/{project}/locations/global"):
        name = pool["name"].rpartition("/")[2]
        if name.startswith(NAMED) and pool.get("state") != "DELETED":
            remove = f"gcloud iam workload-identity-pools delete {name} --location global --project {project}"
            yield Left(name.removeprefix(NAMED), f"workload identity pool {name}", remove)
    with_conditions = {"options": {"requestedPolicyVersion": 3}}
    policy = google.call("cloudresourcemanager.projects.getIamPolicy", resource=project, body=with_conditions, repeat=True)
    for binding in policy.get("bindings", ()):
        role, condition = binding["role"], binding.get("condition", {})
        if condition.get("title", "").startswith(NAMED):
            for member in binding["members"]:
                given = ",".join(f"{key}={condition[key]}" for key in ("title", "expression"))
                remove = (
                    f"gcloud projects remove-iam-policy-binding {project} --member {shlex.quote(member)} --role {role} "
                    f"--condition {shlex.quote(given)}"
                )
                yield Left(condition["title"].removeprefix(NAMED), f"{role} of {member}", remove)


def _stacks() -> set[str]:
    """The stacks of this project's folder that hold anything, in the backend that Pulumi is logged in to."""
    found = json.loads(pulumi.run(pulumi.project_folder(Path.cwd()), "stack", "ls", "--json"))
    return {stack["name"].rpartition("/")[2] for stack in found if stack.get("resourceCount", 1)}
