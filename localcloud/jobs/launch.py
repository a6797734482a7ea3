"""Starts one replica: with its place in the cluster, its account's credentials and buckets, and its machine's limits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localcloud.jobs import cluster, gpus, machines, memory, metadata, mounts, replica
from localcloud.jobs.cluster import Replica
from localcloud.jobs.dialect import Dialect
from localcloud.jobs.store import ReplicaRow

if TYPE_CHECKING:
    from localcloud.cloud import Cloud


@dataclass(frozen=True)
class Host:
    """What of this machine there is for jobs: bytes of memory, and the UUIDs of its GPUs."""

    memory: int = field(default_factory=memory.capacity)
    gpus: Sequence[str] = ()


@dataclass(frozen=True)
class Job:
    """What the start of each of a job's replicas has in common; `region` is where the job was submitted to."""

    cloud: Cloud
    number: str
    spec: Mapping[str, Any]
    region: str
    dialect: Dialect
    host: Host

    @property
    def prefix(self) -> str:
        """How the markers of all its replicas' processes begin."""
        return f"{self.cloud.home}:{self.number}:"

    def memory_limit(self, each: Replica) -> int:
        """The bytes of memory that a replica may take: its machine type's, and no more than there is for jobs."""
        own = machines.size_of(self._machine_type(each)).memory
        return self.host.memory if own is None else min(own, self.host.memory)

    def disk_limit(self, each: Replica) -> int:
        """The bytes that a replica's files may take on the disk."""
        return machines.disk_of(self.spec["workerPoolSpecs"][each.pool])

    def machine(self, each: Replica) -> str:
        """The memory limit in words."""
        own = machines.size_of(self._machine_type(each)).memory
        if own is not None and own <= self.host.memory:
            return f"its machine type, {self._machine_type(each)}, has {memory.gib(own)}"
        return f"this machine has {memory.gib(self.host.memory)} for jobs"

    def _machine_type(self, each: Replica) -> str:
        return str(self.spec["workerPoolSpecs"][each.pool].get("machineSpec", {}).get("machineType", ""))

    def start(self, row: ReplicaRow, ports: Mapping[Replica, int], folder: Path, marker: str) -> replica.Process:
        """Start a replica, for the first time or again: with the same name, port and GPUs. Raises OSError."""
        own = metadata.variables(self.cloud, self.number)
        variables = cluster.environment(
            self.number,
            self.spec,
            ports,
            row.replica,
            project_number=self.cloud.project_number,
            region=self.region,
            roles=self.dialect.roles,
            tf_config_extra=self.dialect.tf_config,
        )
        given = gpus.of(self.cloud.db, self.number, row.replica)
        if self.host.gpus:
            variables |= gpus.variables(given)
        cpus = machines.size_of(self._machine_type(row.replica)).cpus
        seen = mounts.mounts_of(self.cloud, self.spec)
        if cluster.image(self.spec, row.replica.pool):
            from localcloud.jobs import container

            del own["CLOUDSDK_CONFIG"]  # nothing of this machine's user is in a container
            command = container.command(
                self.spec,
                row.replica,
                {**own, **variables},
                volumes=container.volumes(seen, self.cloud.buckets),
                limits=container.Limits(self.memory_limit(row.replica), self.disk_limit(row.replica), cpus, given),
                folder=folder,
                marker=marker,
            )
            return replica.spawn(command, folder, {}, marker)
        python = Path(row.python or "")
        command = [str(python), *cluster.arguments(self.spec, row.replica)]
        root = self.cloud.buckets
        if not seen.everything:
            root = folder / "gcs"
            command = mounts.show(seen, root, command)
        variables = {
            "PATH": f"{python.parent}:{replica.search_path()}",
            "PYTHONUNBUFFERED": "1",
            "GCS_ROOT": str(root),
            **own,
            **variables,
        }
        with on_cpus(cpus, row.port):
            return replica.spawn(command, folder, variables, marker)


@contextmanager
def on_cpus(count: int | None, place: int) -> Iterator[None]:
    """Processes started in the block run on so many of this machine's CPUs, different ones for each `place`.

    Where there are no more than that, or the system cannot bind processes, on all.
    """
    if count is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    every = sorted(os.sched_getaffinity(0))
    if count >= len(every):
        yield
        return
    os.sched_setaffinity(0, {every[(place * count + offset) % len(every)] for offset in range(count)})  # of this thread only
    try:
        yield
    finally:
        os.sched_setaffinity(0, every)
