"""The machine's GPUs, dealt out to replicas: each to one at a time, whatever its job, also over a restart of the server."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from localcloud.database import Database, register_schema
from localcloud.jobs import cluster, machines, states
from localcloud.jobs.cluster import Replica

register_schema("""
CREATE TABLE IF NOT EXISTS replica_gpus (
    gpu TEXT PRIMARY KEY,             -- its UUID, so that no two replicas have it
    job TEXT NOT NULL,
    pool INTEGER NOT NULL,
    place INTEGER NOT NULL
) WITHOUT ROWID;
""")


def detect(command: str = "nvidia-smi") -> list[str]:
    """The UUIDs of the GPUs that NVIDIA's driver tells of, in its order; none without the driver."""
    try:
        done = subprocess.run(
            [command, "--query-gpu=uuid", "--format=csv,noheader"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse(done.stdout) if done.returncode == 0 else []


def parse(output: str) -> list[str]:
    """The UUIDs in the output of `nvidia-smi --query-gpu=uuid --format=csv,noheader`."""
    return [line.strip() for line in output.splitlines() if line.strip().startswith(("GPU-", "MIG-"))]


def needed(spec: Mapping[str, Any]) -> int:
    """How many GPUs a CustomJobSpec's machines have together."""
    return sum(machines.gpus_of(spec["workerPoolSpecs"][each.pool]) for each in cluster.replicas(spec))


def free(db: Database, present: Sequence[str]) -> list[str]:
    """Those of the machine's GPUs that no replica of a job that runs has."""
    marks = ", ".join("?" * len(states.ENDED))
    db.execute(
        f"DELETE FROM replica_gpus WHERE job NOT IN (SELECT number FROM custom_jobs WHERE state NOT IN ({marks}))",
        sorted(states.ENDED),
    )
    taken = {row["gpu"] for row in db.query("SELECT gpu FROM replica_gpus")}
    return [gpu for gpu in present if gpu not in taken]


def deal(db: Database, number: str, spec: Mapping[str, Any], present: Sequence[str]) -> int:
    """Give a job's replicas, in order, the GPUs that their machines have; returns how many too few there were.

    A replica gets as many as it asks for, or as are left.
    """
    missing = 0
    with db.transaction():
        left = free(db, present)
        for each in cluster.replicas(spec):
            wanted = machines.gpus_of(spec["workerPoolSpecs"][each.pool])
            given, left = left[:wanted], left[wanted:]
            missing += wanted - len(given)
            for gpu in given:
                db.execute("INSERT INTO replica_gpus VALUES (?, ?, ?, ?)", (gpu, number, each.pool, each.index))
    return missing


def of(db: Database, number: str, replica: Replica) -> list[str]:
    """The GPUs that were dealt to a replica."""
    rows = db.query(
        "SELECT gpu FROM replica_gpus WHERE job = ? AND pool = ? AND place = ? ORDER BY gpu",
        (number, replica.pool, replica.index),
    )
    return [row["gpu"] for row in rows]


def variables(given: Sequence[str]) -> dict[str, str]:
    """The environment by which a replica sees its GPUs and no other, on a machine that has some."""
    return {"NVIDIA_VISIBLE_DEVICES": ",".join(given) or "none", "CUDA_VISIBLE_DEVICES": ",".join(given)}
