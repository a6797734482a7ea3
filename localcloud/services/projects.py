"""Cloud Resource Manager: the one project of the local cloud, and its IAM policy."""

from __future__ import annotations

from typing import Any

from localcloud.api import ApiError, Call, method
from localcloud.cloud import Cloud
from localcloud.policies import get_policy, set_policy

CREATED = "2017-07-14T02:40:00Z"


def check_project(cloud: Cloud, project: str) -> None:
    """Raises ApiError (403, as the services do) unless `project` is our id or number, with or without `projects/` before it."""
    name = project.removeprefix("projects/")
    if name not in (cloud.project, cloud.project_number):
        raise ApiError(
            403,
            "PERMISSION_DENIED",
            f"Permission denied on resource project {name} (or it may not exist): the local cloud's is {cloud.project}.",
        )


@method("cloudresourcemanager.projects.get@v1")
def get_v1(call: Call) -> dict[str, Any]:
    check_project(call.cloud, call.params["projectId"])
    return _project_v1(call.cloud)


@method("cloudresourcemanager.projects.list@v1")
def list_v1(call: Call) -> dict[str, Any]:
    return {"projects": [_project_v1(call.cloud)]}


@method("cloudresourcemanager.projects.get@v3")
def get_v3(call: Call) -> dict[str, Any]:
    check_project(call.cloud, call.params["name"])
    return _project_v3(call.cloud)


@method("cloudresourcemanager.projects.search@v3")
def search_v3(call: Call) -> dict[str, Any]:
    return {"projects": [_project_v3(call.cloud)]}


@method("cloudresourcemanager.projects.getIamPolicy")
def get_iam_policy(call: Call) -> dict[str, Any]:
    return get_policy(call.cloud, _resource(call))


@method("cloudresourcemanager.projects.setIamPolicy")
def set_iam_policy(call: Call) -> dict[str, Any]:
    return set_policy(call.cloud, _resource(call), call.body.get("policy", {}))


@method("cloudresourcemanager.projects.testIamPermissions")
def test_iam_permissions(call: Call) -> dict[str, Any]:
    _resource(call)
    return {"permissions": call.body.get("permissions", [])}


def _resource(call: Call) -> str:
    check_project(call.cloud, call.params["resource"])
    return f"projects/{call.cloud.project}"


def _project_v1(cloud: Cloud) -> dict[str, Any]:
    return {
        "projectId": cloud.project,
        "projectNumber": cloud.project_number,
        "name": cloud.project,
        "lifecycleState": "ACTIVE",
        "createTime": CREATED,
        "labels": {},
    }


def _project_v3(cloud: Cloud) -> dict[str, Any]:
    return {
        "name": f"projects/{cloud.project_number}",
        "projectId": cloud.project,
        "displayName": cloud.project,
        "state": "ACTIVE",
        "createTime": CREATED,
        "updateTime": CREATED,
        "labels": {},
    }
