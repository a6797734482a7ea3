"""Service Usage: which services the project has switched on. Nothing depends on it here, but clients check it."""

from __future__ import annotations

import re
from typing import Any

from localcloud.api import Call, invalid, method
from localcloud.cloud import Cloud
from localcloud.database import register_schema
from localcloud.services.operations import finished
from localcloud.services.projects import check_project

register_schema("CREATE TABLE IF NOT EXISTS enabled_services (name TEXT PRIMARY KEY) WITHOUT ROWID;")

# what the local cloud offers; other services can be switched on too, and do nothing
TITLES = {
    "aiplatform.googleapis.com": "Vertex AI API",
    "artifactregistry.googleapis.com": "Artifact Registry API",
    "billingbudgets.googleapis.com": "Cloud Billing Budget API",
    "cloudresourcemanager.googleapis.com": "Cloud Resource Manager API",
    "iam.googleapis.com": "Identity and Access Management (IAM) API",
    "logging.googleapis.com": "Cloud Logging API",
    "ml.googleapis.com": "AI Platform Training & Prediction API",
    "serviceusage.googleapis.com": "Service Usage API",
    "storage.googleapis.com": "Cloud Storage API",
}
_NAME = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")
_KIND = "google.api.serviceusage.v1"
MAX_BATCH = 20


@method("serviceusage.services.list")
def list_(call: Call) -> dict[str, Any]:
    check_project(call.cloud, call.params["parent"])
    enabled = _enabled(call.cloud)
    names = sorted(enabled | set(TITLES))
    match call.params.get("filter", ""):
        case "":
            pass
        case "state:ENABLED":
            names = [name for name in names if name in enabled]
        case "state:DISABLED":
            names = [name for name in names if name not in enabled]
        case other:
            raise invalid(f"Invalid filter {other!r}: state:ENABLED and state:DISABLED are allowed.")
    limit = max(1, min(call.params.get("pageSize") or 50, 200))
    names = [name for name in names if name > call.params.get("pageToken", "")]
    answer: dict[str, Any] = {"services": [_service(call.cloud, name, name in enabled) for name in names[:limit]]}
    if len(names) > limit:
        answer["nextPageToken"] = names[limit - 1]
    return answer


@method("serviceusage.services.get")
def get(call: Call) -> dict[str, Any]:
    name = _name(call)
    return _service(call.cloud, name, name in _enabled(call.cloud))


@method("serviceusage.services.batchGet")
def batch_get(call: Call) -> dict[str, Any]:
    check_project(call.cloud, call.params["parent"])
    enabled = _enabled(call.cloud)
    names = [_checked(full.rpartition("/")[2]) for full in call.params.get("names", [])]
    return {"services": [_service(call.cloud, name, name in enabled) for name in names]}


@method("serviceusage.services.enable")
def enable(call: Call) -> dict[str, Any]:
    name = _name(call)
    _enable(call.cloud, [name])
    return finished(
        call.cloud, "", kind=f"{_KIND}.EnableServiceResponse", response={"service": _service(call.cloud, name, True)}
    )


@method("serviceusage.services.batchEnable")
def batch_enable(call: Call) -> dict[str, Any]:
    check_project(call.cloud, call.params["parent"])
    names = [_checked(name) for name in call.body.get("serviceIds", [])]
    if not 1 <= len(names) <= MAX_BATCH:
        raise invalid(f"A single request can enable 1 to {MAX_BATCH} services.", field_path="serviceIds")
    _enable(call.cloud, names)
    services = [_service(call.cloud, name, True) for name in names]
    return finished(call.cloud, "", kind=f"{_KIND}.BatchEnableServicesResponse", response={"services": services})


@method("serviceusage.services.disable")
def disable(call: Call) -> dict[str, Any]:
    name = _name(call)
    call.cloud.db.execute("DELETE FROM enabled_services WHERE name = ?", (name,))
    return finished(
        call.cloud, "", kind=f"{_KIND}.DisableServiceResponse", response={"service": _service(call.cloud, name, False)}
    )


def _enable(cloud: Cloud, names: list[str]) -> None:
    with cloud.db.transaction():
        for name in names:
            cloud.db.execute("INSERT OR IGNORE INTO enabled_services VALUES (?)", (name,))


def _enabled(cloud: Cloud) -> set[str]:
    return {row["name"] for row in cloud.db.query("SELECT name FROM enabled_services")}


def _name(call: Call) -> str:
    """The service of `projects/P/services/NAME`."""
    _, project, _, name = call.params["name"].split("/", 3)
    check_project(call.cloud, project)
    return _checked(name)


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise invalid(f"'{name}' is not the name of a service, as storage.googleapis.com is.")
    return name


def _service(cloud: Cloud, name: str, enabled: bool) -> dict[str, Any]:
    return {
        "name": f"projects/{cloud.project_number}/services/{name}",
        "parent": f"projects/{cloud.project_number}",
        "config": {"name": name, "title": TITLES.get(name, name)},
        "state": "ENABLED" if enabled else "DISABLED",
    }
