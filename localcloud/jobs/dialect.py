"""How the service that a job was submitted to speaks of its replicas: Vertex AI and the ML Engine before it differ. Pure.

Source for ML Engine: its page "TF_CONFIG and distributed training", and the task names and error messages of its logs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from localcloud.jobs.cluster import TENSORFLOW_ROLES, Replica


@dataclass(frozen=True)
class Dialect:
    """Names as on Vertex AI, unless ML Engine's are given. `tf_config`: what TF_CONFIG holds besides cluster and task."""

    roles: tuple[str, ...] = TENSORFLOW_ROLES
    ml_engine: bool = False
    tf_config: Mapping[str, Any] = field(default_factory=dict)

    def task_name(self, replica: Replica) -> str:
        """The replica in log entries: `workerpool1-0`, or `worker-replica-0`."""
        return f"{self.roles[replica.pool]}-replica-{replica.index}" if self.ml_engine else replica.task_name

    def spoken(self, replica: Replica) -> str:
        """The replica in error messages: `workerpool1-0`, or `worker 0`."""
        return f"{self.roles[replica.pool]} {replica.index}" if self.ml_engine else replica.task_name


def dialect_of(body: Mapping[str, Any]) -> Dialect:
    """The dialect of a stored job: one that has a `trainingInput` came by ML Engine."""
    given = body.get("trainingInput")
    if given is None:
        return Dialect()
    container = "imageUri" in given.get("masterConfig", {})
    primary = "chief" if container and given.get("useChiefInTfConfig") else "master"
    return Dialect((primary, *TENSORFLOW_ROLES[1:]), True, {"job": _snake(given)})


def _snake(value: Any) -> Any:
    """A message with the names of its protocol buffer: `masterType` -> `master_type`."""
    if isinstance(value, Mapping):
        return {re.sub(r"[A-Z]", lambda found: "_" + found[0].lower(), name): _snake(inner) for name, inner in value.items()}
    return [_snake(inner) for inner in value] if isinstance(value, list) else value
