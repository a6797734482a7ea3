"""Artifact Registry: repositories and their policies. They hold no artifacts: images are in the Docker engine's own store."""

from __future__ import annotations

import json
import re
from typing import Any

from localcloud.api import ApiError, Call, invalid, method, not_found
from localcloud.cloud import Cloud, rfc3339
from localcloud.database import register_schema
from localcloud.policies import delete_policy, get_policy, set_policy
from localcloud.regions import REGIONS
from localcloud.services.operations import finished
from localcloud.services.projects import check_project

register_schema("CREATE TABLE IF NOT EXISTS repositories (name TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;")

_KIND = "google.devtools.artifactregistry.v1"
_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
UPDATABLE = ("description", "labels", "cleanupPolicies", "cleanupPolicyDryRun", "dockerConfig", "vulnerabilityScanningConfig")
LOCATIONS = (*sorted(REGIONS), "us", "europe", "asia")


@method("artifactregistry.projects.locations.list")
def list_locations(call: Call) -> dict[str, Any]:
    project = _project(call, call.params["name"])
    return {"locations": [{"name": f"{project}/locations/{place}", "locationId": place} for place in LOCATIONS]}


@method("artifactregistry.projects.locations.repositories.create")
def create(call: Call) -> dict[str, Any]:
    parent = _canonical(call, call.params["parent"])
    repository_id = call.params.get("repositoryId", "")
    if not _ID.fullmatch(repository_id):
        raise invalid(
            f"Invalid repository id '{repository_id}': 1 to 63 lowercase letters, digits and hyphens, beginning with a letter.",
            field_path="repositoryId",
        )
    if call.body.get("format", "FORMAT_UNSPECIFIED") == "FORMAT_UNSPECIFIED":
        raise invalid("The format of a repository is required.", field_path="format")
    name = f"{parent}/repositories/{repository_id}"
    now = rfc3339(call.cloud.now())
    body = {**call.body, "name": name, "createTime": now, "updateTime": now}
    if body.get("mode", "MODE_UNSPECIFIED") == "MODE_UNSPECIFIED":
        body["mode"] = "STANDARD_REPOSITORY"
    with call.cloud.db.transaction():
        if call.cloud.db.one("SELECT 1 FROM repositories WHERE name = ?", (name,)):
            raise ApiError(409, "ALREADY_EXISTS", "the repository already exists")
        call.cloud.db.execute("INSERT INTO repositories VALUES (?, ?)", (name, json.dumps(body)))
    return _finished(call, parent, f"{_KIND}.Repository", _repository(call.cloud, name))


@method("artifactregistry.projects.locations.repositories.get")
def get(call: Call) -> dict[str, Any]:
    return _repository(call.cloud, _canonical(call, call.params["name"]))


@method("artifactregistry.projects.locations.repositories.list")
def list_(call: Call) -> dict[str, Any]:
    parent = _canonical(call, call.params["parent"])
    limit = max(1, min(call.params.get("pageSize") or 100, 1000))
    begin = "" if parent.endswith("/locations/-") else f"{parent}/"
    rows = call.cloud.db.query(
        "SELECT name FROM repositories WHERE substr(name, 1, ?) = ? AND name > ? ORDER BY name LIMIT ?",
        (len(begin), begin, call.params.get("pageToken", ""), limit + 1),
    )
    answer: dict[str, Any] = {"repositories": [_repository(call.cloud, row["name"]) for row in rows[:limit]]}
    if len(rows) > limit:
        answer["nextPageToken"] = rows[limit - 1]["name"]
    return answer


@method("artifactregistry.projects.locations.repositories.patch")
def patch(call: Call) -> dict[str, Any]:
    name = _canonical(call, call.params["name"])
    mask = re.sub(r"_([a-z])", lambda match: match[1].upper(), call.params.get("updateMask", "*"))
    names = [key for key in UPDATABLE if key in call.body] if mask == "*" else [part.split(".")[0] for part in mask.split(",")]
    if wrong := [key for key in names if key not in UPDATABLE]:
        raise invalid(f"{', '.join(wrong)} of a repository cannot be changed.", field_path="updateMask")
    with call.cloud.db.transaction():
        body = _repository(call.cloud, name)
        for key in names:
            if key in call.body:
                body[key] = call.body[key]
            else:
                body.pop(key, None)
        body["updateTime"] = rfc3339(call.cloud.now())
        call.cloud.db.execute("UPDATE repositories SET body = ? WHERE name = ?", (json.dumps(body), name))
    return _repository(call.cloud, name)


@method("artifactregistry.projects.locations.repositories.delete")
def delete(call: Call) -> dict[str, Any]:
    name = _canonical(call, call.params["name"])
    with call.cloud.db.transaction():
        _repository(call.cloud, name)
        call.cloud.db.execute("DELETE FROM repositories WHERE name = ?", (name,))
        delete_policy(call.cloud, name)
    return _finished(call, name.rsplit("/", 2)[0], "google.protobuf.Empty", {})


@method("artifactregistry.projects.locations.repositories.getIamPolicy")
def get_iam_policy(call: Call) -> dict[str, Any]:
    return get_policy(call.cloud, _existing(call))


@method("artifactregistry.projects.locations.repositories.setIamPolicy")
def set_iam_policy(call: Call) -> dict[str, Any]:
    return set_policy(call.cloud, _existing(call), call.body.get("policy", {}))


@method("artifactregistry.projects.locations.repositories.testIamPermissions")
def test_iam_permissions(call: Call) -> dict[str, Any]:
    _existing(call)
    return {"permissions": call.body.get("permissions", [])}


def _finished(call: Call, parent: str, kind: str, response: dict[str, Any]) -> dict[str, Any]:
    metadata = {"@type": f"type.googleapis.com/{_KIND}.OperationMetadata"}
    return finished(call.cloud, parent, kind=kind, response=response, metadata=metadata)


def _project(call: Call, name: str) -> str:
    check_project(call.cloud, name.split("/")[1])
    return f"projects/{call.cloud.project}"


def _canonical(call: Call, name: str) -> str:
    """The name with the project's id, which clients may give as its number."""
    return "/".join([_project(call, name), *name.split("/")[2:]])


def _existing(call: Call) -> str:
    name = _canonical(call, call.params["resource"])
    _repository(call.cloud, name)
    return name


def _repository(cloud: Cloud, name: str) -> dict[str, Any]:
    row = cloud.db.one("SELECT body FROM repositories WHERE name = ?", (name,))
    if row is None:
        raise not_found("Requested entity was not found.")
    body: dict[str, Any] = json.loads(row["body"])
    return body
