"""Which replica this process is, and where the others are: TF_CONFIG, read once.

TF_CONFIG (TensorFlow's distributed training guide; set by Vertex AI on each replica):
`{"cluster": {"chief": ["host:port"], "worker": […], "ps": […]}, "task": {"type": "worker", "index": 0}}`; ML Engine wrote
"master" for the chief.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from trainer.errors import InputError

CHIEF, WORKER, PS, EVALUATOR = "chief", "worker", "ps", "evaluator"
_ROLES = (CHIEF, WORKER, PS, EVALUATOR)


@dataclass(frozen=True)
class Cluster:
    """The replicas that train together and this process's place among them."""

    role: str
    index: int
    addresses: Mapping[str, tuple[str, ...]]

    @property
    def alone(self) -> bool:
        """True when there is nobody to train with: one process does everything."""
        return not self.workers and not self.servers

    @property
    def synchronous(self) -> bool:
        """True when chief and workers compute each step together: no parameter server holds the variables."""
        return bool(self.workers) and not self.servers

    @property
    def workers(self) -> tuple[str, ...]:
        return self.addresses.get(WORKER, ())

    @property
    def servers(self) -> tuple[str, ...]:
        return self.addresses.get(PS, ())

    @property
    def processes(self) -> int:
        """How many train: the chief and the workers."""
        return 1 + len(self.workers)

    @property
    def rank(self) -> int:
        """This process's place among those that train, the chief first."""
        return 0 if self.role == CHIEF else 1 + self.index

    @property
    def chief(self) -> str:
        return self.addresses[CHIEF][0]

    @property
    def name(self) -> str:
        return f"{self.role} {self.index}"

    def others(self) -> dict[str, str]:
        """Address of each other replica, by its name."""
        found = {f"{role} {i}": host for role, hosts in self.addresses.items() for i, host in enumerate(hosts)}
        found.pop(self.name, None)
        return found

    def spec(self) -> dict[str, list[str]]:
        """What tf.train.ClusterSpec takes. An evaluator is never in it: servers would wait for it for ever."""
        return {role: list(hosts) for role, hosts in self.addresses.items() if hosts}


def from_environment(environ: Mapping[str, str] = os.environ) -> Cluster:
    """Reads TF_CONFIG; without it this process is a chief on its own.

    Raises InputError when it is not what TensorFlow defines, or asks for something that this trainer cannot do.
    """
    text = environ.get("TF_CONFIG", "").strip()
    if not text:
        return Cluster(CHIEF, 0, {})
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"TF_CONFIG is not valid JSON: {error}") from error
    return parse(config)


def parse(config: object) -> Cluster:
    """The same from TF_CONFIG's decoded JSON."""
    if not isinstance(config, dict):
        raise InputError("TF_CONFIG must be a JSON object with the keys cluster and task")
    addresses = _addresses(config.get("cluster") or {})
    role, index = _task(config.get("task") or {})
    if role == EVALUATOR:
        raise InputError(
            "TF_CONFIG: task evaluator: training has no evaluator; evaluation is a job of its own (python -m trainer.evaluate, "
            "odcloud eval). Leave the evaluator pool out of the training job"
        )
    if addresses and index >= len(addresses.get(role, ())):
        raise InputError(
            f"TF_CONFIG: task {role} {index} is not in the cluster, which has {len(addresses.get(role, ()))} of {role}"
        )
    cluster = Cluster(role, index, addresses)
    _require_supported(cluster)
    return cluster


def _addresses(cluster: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(cluster, dict):
        raise InputError('TF_CONFIG: cluster must be an object of role: ["host:port", …]')
    addresses: dict[str, tuple[str, ...]] = {}
    for key, hosts in cluster.items():
        role = _role(key, "cluster")
        if not isinstance(hosts, list) or not all(
            isinstance(host, str) and host.rpartition(":")[2].isdigit() for host in hosts
        ):
            raise InputError(f'TF_CONFIG: cluster.{key} must be a list of "host:port"')
        if role in addresses:
            raise InputError("TF_CONFIG: cluster names both master and chief; keep one")
        if hosts and role != EVALUATOR:
            addresses[role] = tuple(hosts)
    return addresses


def _task(task: object) -> tuple[str, int]:
    if not isinstance(task, dict):
        raise InputError('TF_CONFIG: task must be an object like {"type": "worker", "index": 0}')
    index = task.get("index", 0)
    if isinstance(index, str) and index.isdigit():
        index = int(index)
    if not isinstance(index, int) or index < 0:
        raise InputError(f"TF_CONFIG: task.index must be a number from 0 on, not {index!r}")
    return _role(task.get("type", CHIEF), "task.type"), index


def _role(name: object, where: str) -> str:
    role = CHIEF if name == "master" else name
    if role not in _ROLES:
        raise InputError(f"TF_CONFIG: {where}: unknown role {name!r}; known are chief (or master), worker, ps, evaluator")
    return str(role)


def _require_supported(cluster: Cluster) -> None:
    if cluster.alone:
        return
    if len(cluster.addresses.get(CHIEF, ())) != 1:
        raise InputError("TF_CONFIG: a cluster needs exactly one chief (or master)")
    if not cluster.workers:
        raise InputError(
            "TF_CONFIG: parameter servers without a worker: add a worker (workerCount: 1), or leave the servers out"
        )
