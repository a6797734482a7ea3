"""What a job's service account may do: bindings of the policies that were set, for the roles that jobs are given.

Source of the roles' permissions: Google's page "IAM roles and permissions index". A role that is not here grants nothing, nor
does a binding with a condition. The owner's token is not asked for permissions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localcloud.api import ApiError
from localcloud.policies import get_policy

if TYPE_CHECKING:
    from localcloud.cloud import Cloud

READ = ("storage.objects.get", "storage.objects.list")
WRITE = ("storage.objects.create", "storage.objects.delete", "storage.objects.update")
LOG = "logging.logEntries.create"
PULL = "artifactregistry.repositories.downloadArtifacts"
_PROJECT = ("resourcemanager.projects.get", "resourcemanager.projects.list")
_OBJECT_ADMIN = (*READ, *WRITE, "storage.objects.getIamPolicy", "storage.objects.setIamPolicy")
_SERVICE_AGENT = "roles/aiplatform.customCodeServiceAgent"  # which the account of a job that names none has in the project

ROLES: Mapping[str, frozenset[str]] = {
    "roles/storage.objectViewer": frozenset({*READ, *_PROJECT}),
    "roles/storage.objectUser": frozenset({*READ, *WRITE, *_PROJECT}),
    "roles/storage.objectAdmin": frozenset({*_OBJECT_ADMIN, *_PROJECT}),
    "roles/logging.logWriter": frozenset({LOG}),
    "roles/artifactregistry.reader": frozenset({PULL, *(f"artifactregistry.repositories.{verb}" for verb in ("get", "list"))}),
    # of its permissions those on what is offered here
    _SERVICE_AGENT: frozenset(
        {
            *READ,
            *WRITE,
            *(f"storage.buckets.{verb}" for verb in ("create", "delete", "get", "list")),
            *(f"aiplatform.customJobs.{verb}" for verb in ("cancel", "create", "delete", "get", "list")),
            *(f"artifactregistry.repositories.{verb}" for verb in ("downloadArtifacts", "get", "list")),
            *(f"iam.serviceAccounts.{verb}" for verb in ("get", "list")),
            *_PROJECT,
            LOG,
        }
    ),
}

# The permissions that a method needs, each on the bucket, repository or project that a parameter names ("": the project).
# Of any other method the permission has the method's own name, on the project.
_METHODS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "storage.buckets.get": (("storage.buckets.get", "bucket"),),
    "storage.buckets.insert": (("storage.buckets.create", ""),),
    "storage.buckets.delete": (("storage.buckets.delete", "bucket"),),
    "storage.objects.get": (("storage.objects.get", "bucket"),),
    "storage.objects.list": (("storage.objects.list", "bucket"),),
    "storage.objects.insert": (("storage.objects.create", "bucket"),),
    "storage.objects.delete": (("storage.objects.delete", "bucket"),),
    "storage.objects.patch": (("storage.objects.update", "bucket"),),
    "storage.objects.update": (("storage.objects.update", "bucket"),),
    "storage.objects.copy": (("storage.objects.get", "sourceBucket"), ("storage.objects.create", "destinationBucket")),
    "storage.objects.rewrite": (("storage.objects.get", "sourceBucket"), ("storage.objects.create", "destinationBucket")),
    "storage.objects.move": (("storage.objects.create", "bucket"), ("storage.objects.delete", "bucket")),
    "storage.objects.compose": (("storage.objects.get", "destinationBucket"), ("storage.objects.create", "destinationBucket")),
    "logging.entries.write": ((LOG, ""),),
    "cloudresourcemanager.projects.get": (("resourcemanager.projects.get", ""),),
    "cloudresourcemanager.projects.list": (("resourcemanager.projects.list", ""),),
    "artifactregistry.projects.locations.repositories.get": (("artifactregistry.repositories.get", "name"),),
}


@dataclass(frozen=True)
class Resource:
    """What a policy is on: its key among the stored policies, and its name for a person."""

    key: str
    name: str


def bucket(name: str) -> Resource:
    """A bucket of Cloud Storage."""
    return Resource(f"storage/buckets/{name}", f"gs://{name}")


def project(cloud: Cloud) -> Resource:
    """The project, whose policy holds for everything in it."""
    return Resource(f"projects/{cloud.project}", f"projects/{cloud.project}")


def repository(name: str) -> Resource:
    """A repository of Artifact Registry: `projects/P/locations/L/repositories/R`."""
    return Resource(name, name)


def allowed(cloud: Cloud, email: str, permission: str, on: Resource) -> bool:
    """Whether an account has a permission on a resource, by the resource's policy or the project's."""
    if email == cloud.service_agent and permission in ROLES[_SERVICE_AGENT]:
        return True
    members = {f"serviceAccount:{email}", "allAuthenticatedUsers", "allUsers"}
    return any(
        permission in ROLES.get(binding["role"], ()) and "condition" not in binding and members & set(binding["members"])
        for key in (on.key, project(cloud).key)
        for binding in get_policy(cloud, key).get("bindings", [])
    )


def refusal(cloud: Cloud, email: str, permission: str, on: Resource) -> str | None:
    """None when the account has the permission, else why not: the permission, and the binding that would give it."""
    if allowed(cloud, email, permission, on):
        return None
    granting = " or ".join(role for role, given in ROLES.items() if permission in given and role != _SERVICE_AGENT)
    mend = f"bind {granting}" if granting else "bind a role that has it (none that the local cloud knows does)"
    return (
        f"{email} does not have {permission} access to {on.name}. Permission '{permission}' denied on resource (or it may not"
        f" exist): {mend} on {on.name} to serviceAccount:{email}."
    )


def check_call(cloud: Cloud, email: str, method_id: str, params: Mapping[str, Any]) -> None:
    """Raises ApiError 403 unless the account may call the method with these parameters."""
    if is_test(method_id):
        return
    parts = [part for part in method_id.split(".") if part not in ("projects", "locations")]
    for permission, parameter in _METHODS.get(method_id, ((".".join(parts), ""),)):
        if not parameter:
            on = project(cloud)
        elif parameter == "name":
            on = repository(params[parameter])
        else:
            on = bucket(params[parameter])
        if reason := refusal(cloud, email, permission, on):
            raise ApiError(403, "PERMISSION_DENIED", reason)


def is_test(method_id: str) -> bool:
    """Whether a method asks which permissions its caller has: anybody may call it, for the answer is what the caller has."""
    return method_id.endswith(".testIamPermissions")


def told(cloud: Cloud, email: str, params: Mapping[str, Any], answer: Any) -> Any:
    """The answer of such a method as the account may have it: of the permissions that it tests those that it has."""
    on = bucket(params["bucket"]) if "bucket" in params else repository(params["resource"])
    held = [permission for permission in answer["permissions"] if allowed(cloud, email, permission, on)]
    rest = {key: value for key, value in answer.items() if key != "permissions"}
    return {**rest, "permissions": held} if held else rest
