"""Makes launcher/methods.json: what a launch needs of Google's discovery documents, 3 MB of which would be read otherwise.

Run it after an update of google-api-python-client; a test says when it has to be.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from launcher.google.api import document

TARGET = Path(__file__).parents[1] / "launcher" / "methods.json"
METHODS = (
    "aiplatform.projects.locations.customJobs.cancel",
    "aiplatform.projects.locations.customJobs.create",
    "aiplatform.projects.locations.customJobs.delete",
    "aiplatform.projects.locations.customJobs.get",
    "aiplatform.projects.locations.customJobs.list",
    "logging.entries.list",
    "storage.objects.get",
    "storage.objects.insert",
    "storage.objects.list",
)


def digest() -> dict[str, Any]:
    """The documents' part that METHODS need."""
    made: dict[str, Any] = {}
    for method_id in METHODS:
        service, *resources, name = method_id.split(".")
        node = whole = document(service)
        for resource in resources:
            node = node["resources"][resource]
        method = node["methods"][name]
        common = {key: whole[key] for key in ("rootUrl", "servicePath")}
        known = made.setdefault(service, {**common, "parameters": _places(whole["parameters"]), "methods": {}})
        known["methods"][method_id] = {
            **{key: method[key] for key in ("httpMethod", "path", "mediaUpload") if key in method},
            "parameters": _places(method.get("parameters", {})),
        }
    return made


def _places(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: {"location": parameter["location"]} for name, parameter in parameters.items()}


def text() -> str:
    return json.dumps(digest(), separators=(",", ":"), sort_keys=True) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text())
