"""A project's services and policy."""

from __future__ import annotations

from typing import Any

from localcloud.pulumi_provider import common, iam, rest
from localcloud.pulumi_provider.common import PROJECT, REQUIRED
from localcloud.pulumi_provider.kinds import Field, Kind, Properties, import_pattern
from localcloud.pulumi_provider.rest import PROJECTS, SERVICES


def enabled_services(project: str) -> set[str]:
    """Names of the services that are on."""
    query = {"filter": "state:ENABLED", "fields": "services/name,nextPageToken", "pageSize": 200}
    names: set[str] = set()
    while True:
        page = SERVICES.call("GET", f"projects/{project}/services", query)
        names |= {service["name"].rpartition("/")[2] for service in page.get("services", ())}
        if "nextPageToken" not in page:
            return names
        query["pageToken"] = page["nextPageToken"]


def enable_service(inputs: Properties) -> None:
    project, service = inputs["project"], inputs["service"]
    if service not in enabled_services(project):
        started = SERVICES.call("POST", f"projects/{project}/services:batchEnable", body={"serviceIds": [service]})
        rest.finish(SERVICES, started)


def get_project(arguments: Properties) -> dict[str, Any]:
    """The function getProject."""
    project = PROJECTS.call("GET", f"projects/{arguments.get('projectId') or common.project()}")
    labels = project.get("labels", {})
    return {
        "id": f"projects/{project['projectId']}",
        "projectId": project["projectId"],
        "name": project.get("name", ""),
        "number": project["projectNumber"],
        "labels": labels,
        "effectiveLabels": labels,
    }


def disable_service(inputs: Properties) -> None:
    if inputs["disableOnDestroy"]:
        path = f"projects/{inputs['project']}/services/{inputs['service']}:disable"
        rest.finish(SERVICES, SERVICES.call("POST", path, body={}))


SERVICE = Kind(
    fields={"project": PROJECT, "service": REQUIRED, "disableOnDestroy": Field(default=False)},
    identity=lambda inputs: f"{inputs['project']}/{inputs['service']}",
    create=enable_service,
    read=lambda inputs: {} if inputs["service"] in enabled_services(inputs["project"]) else None,
    update=lambda inputs: None,  # only remembered until the resource is deleted
    delete=disable_service,
    imported=import_pattern("{project}/{service}"),
)

PROJECT_MEMBER = iam.member_kind(
    iam.PolicyOf(
        scope=("project",),
        name="{project}",
        get=lambda inputs: PROJECTS.call(
            "POST", f"projects/{inputs['project']}:getIamPolicy", body={"options": {"requestedPolicyVersion": 3}}
        ),
        set=lambda inputs, policy: PROJECTS.call(
            "POST",
            f"projects/{inputs['project']}:setIamPolicy",
            body={"policy": policy, "updateMask": "bindings,etag,auditConfigs"},
        ),
        imported=import_pattern("projects/{project}", "{project}"),
    )
)
