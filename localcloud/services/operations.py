"""Long-running operations. What the local cloud does is done when it answers, so an operation is a record of what was done."""

from __future__ import annotations

import json
import time
from typing import Any

from localcloud.api import Call, method, not_found
from localcloud.cloud import Cloud
from localcloud.database import register_schema

register_schema("CREATE TABLE IF NOT EXISTS operations (name TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;")


def finished(
    cloud: Cloud, parent: str, *, kind: str, response: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Records and returns an operation that is done.

    `parent`: what its name begins with (`projects/p/locations/l`, or empty). `kind`: the type of the response, as in
    `google.protobuf.Empty`. `metadata` is passed on as it is (with its `@type`).
    """
    name = f"{parent}/operations/{time.time_ns()}" if parent else f"operations/{time.time_ns()}"
    body: dict[str, Any] = {
        "name": name,
        "done": True,
        "response": {"@type": f"type.googleapis.com/{kind}", **(response or {})},
    }
    if metadata is not None:
        body["metadata"] = metadata
    cloud.db.execute("INSERT INTO operations VALUES (?, ?)", (name, json.dumps(body)))
    return body


@method(
    "serviceusage.operations.get",
    "cloudresourcemanager.operations.get",
    "artifactregistry.projects.locations.operations.get",
    "aiplatform.projects.locations.operations.get",
    "aiplatform.projects.locations.customJobs.operations.get",
    "iam.projects.locations.workloadIdentityPools.operations.get",
    "iam.projects.locations.workloadIdentityPools.providers.operations.get",
)
def get(call: Call) -> dict[str, Any]:
    row = call.cloud.db.one("SELECT body FROM operations WHERE name = ?", (call.params["name"],))
    if row is None:
        raise not_found(f"Operation {call.params['name']} was not found.")
    body: dict[str, Any] = json.loads(row["body"])
    return body
