"""What the declarations of several types share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from localcloud.pulumi_provider.kinds import Field
from localcloud.pulumi_provider.rest import NotFound

REQUIRED = Field(required=True, fixed=True)
PROJECT = Field(required=True, fixed=True, setting="project")
REGION = Field(required=True, fixed=True, setting="region")

LABELS = frozenset({"pulumiLabels", "effectiveLabels"})
"""Outputs that follow the input `labels`."""


def gone(call: Any, *args: Any, **kwargs: Any) -> Any:
    """The call's answer, or None if what it is about is not there."""
    try:
        return call(*args, **kwargs)
    except NotFound:
        return None


def labelled(resource: Mapping[str, Any]) -> dict[str, Any]:
    labels = dict(resource.get("labels", {}))
    return {"labels": labels, "pulumiLabels": labels, "effectiveLabels": labels}


def project() -> str:
    """The project of an id that names none: the environment's, as for the real provider."""
    return os.environ.get("GOOGLE_PROJECT", "")
