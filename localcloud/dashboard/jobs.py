"""Jobs as the pages show them: read from the stored rows, whichever service a job came by."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from localcloud.cloud import Cloud
from localcloud.dashboard import again, cost, text
from localcloud.database import register_schema
from localcloud.jobs import cluster, states, store
from localcloud.jobs.dialect import Dialect, dialect_of
from localcloud.jobs.states import ReplicaState
from localcloud.jobs.store import ReplicaRow

PAGE = 50
_KINDS = {"train": "Training", "eval": "Evaluation"}
# By what the page of all jobs tells them apart.
GROUPS = {
    "running": (states.RUNNING, states.CANCELLING),
    "waiting": (states.QUEUED, states.PENDING),
    "succeeded": (states.SUCCEEDED,),
    "failed": (states.FAILED, states.EXPIRED),
    "cancelled": (states.CANCELLED,),
}
_RUN = """json_extract(body, '$.labels."odcloud-run"')"""

register_schema(f"""
CREATE INDEX IF NOT EXISTS custom_jobs_by_create_time ON custom_jobs (create_time, number);
CREATE INDEX IF NOT EXISTS custom_jobs_by_run ON custom_jobs ({_RUN});
""")


@dataclass(frozen=True)
class Job:
    """A stored job. Times are RFC 3339 text; `now` is when it was looked at."""

    row: sqlite3.Row
    now: datetime

    @cached_property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.row["body"])
        return found

    @property
    def number(self) -> str:
        return str(self.row["number"])

    @property
    def spec(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.body["jobSpec"]
        return found

    @property
    def dialect(self) -> Dialect:
        return dialect_of(self.body)

    @property
    def name(self) -> str:
        return str(self.body.get("displayName") or self.number)

    @property
    def labels(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self.body.get("labels", {})
        return found

    @property
    def run(self) -> str | None:
        return self.labels.get("odcloud-run")

    @property
    def kind(self) -> str:
        return _KINDS.get(self.labels.get("odcloud-kind", ""), "Job")

    @property
    def trains_a_run(self) -> bool:
        """Whether it belongs to a run and is none of its evaluations: as a new job it becomes a run of its own."""
        return again.trains_a_run(self.labels)

    @property
    def service(self) -> str:
        return "ML Engine" if self.dialect.ml_engine else "Vertex AI"

    @property
    def state(self) -> str:
        return str(self.row["state"]).removeprefix("JOB_STATE_").lower().replace("_", " ")

    @property
    def live(self) -> bool:
        return self.row["state"] not in states.ENDED

    @property
    def may_be_cancelled(self) -> bool:
        return self.live and self.row["state"] != states.CANCELLING

    @property
    def error(self) -> str | None:
        return json.loads(self.row["error"])["message"] if self.row["error"] else None

    @property
    def took(self) -> float | None:
        """Seconds since its start, until its end."""
        return text.seconds_between(self.row["start_time"], self.row["end_time"], self.now)

    @property
    def hourly(self) -> float | None:
        return cost.hourly(self.spec)

    @property
    def cost(self) -> float | None:
        """Dollars that it would have cost so far; None when its machines have no price in the table."""
        hour = self.hourly
        return None if hour is None else hour * (self.took or 0.0) / 3600

    @property
    def replicas(self) -> str:
        """`1 chief · 2 workers · 1 ps`."""
        counts = Counter(self.dialect.roles[replica.pool] for replica in cluster.replicas(self.spec))
        return " · ".join(f"{count} {role}{'s' if count > 1 and role != 'ps' else ''}" for role, count in counts.items())

    @property
    def request(self) -> dict[str, Any]:
        """The message that the client sent to create it."""
        if not self.dialect.ml_engine:
            return self.body
        labels = {"labels": self.labels} if self.labels else {}
        return {"jobId": self.number, "trainingInput": self.body["trainingInput"], **labels}

    def argument(self, name: str) -> str | None:
        """The value of an argument of the program, as the primary replica gets it: `--NAME=VALUE` or `--NAME VALUE`."""
        pool = self.spec["workerPoolSpecs"][0]
        arguments = (pool.get("pythonPackageSpec") or pool.get("containerSpec", {})).get("args", [])
        for place, argument in enumerate(arguments):
            if argument.startswith(f"--{name}="):
                return str(argument.partition("=")[2])
            if argument == f"--{name}" and place + 1 < len(arguments):
                return str(arguments[place + 1])
        return None


@dataclass(frozen=True)
class ReplicaLine:
    """One replica of a job's page."""

    task: str
    role: str
    machine: str
    state: str
    exit_code: int | None
    restarts: int
    start: str | None
    took: float | None


def find(cloud: Cloud, number: str) -> Job | None:
    row = store.job(cloud.db, number)
    return Job(row, cloud.now()) if row else None


def named(cloud: Cloud, name: str) -> str | None:
    """The number of the newest job with a display name, or with this jobId."""
    sql = "SELECT number FROM custom_jobs WHERE number = ? OR json_extract(body, '$.displayName') = ? ORDER BY create_time DESC"
    row = cloud.db.one(f"{sql} LIMIT 1", (name, name))
    return None if row is None else str(row["number"])


def page(cloud: Cloud, before: str = "", group: str = "") -> tuple[list[Job], str | None]:
    """The newest jobs, all or of one of GROUPS (from the place `before` on), and where the next page begins."""
    time, _, number = before.partition(" ")
    wanted = GROUPS[group] if group else ()
    condition = f"state IN ({', '.join('?' * len(wanted))}) AND " if group else ""
    rows = cloud.db.query(
        f"SELECT * FROM custom_jobs WHERE {condition}(create_time, number) < (?, ?)"
        " ORDER BY create_time DESC, number DESC LIMIT ?",
        (*wanted, time or "9999", number, PAGE + 1),
    )
    now = cloud.now()
    last = f"{rows[PAGE - 1]['create_time']} {rows[PAGE - 1]['number']}" if len(rows) > PAGE else None
    return [Job(row, now) for row in rows[:PAGE]], last


def counts(cloud: Cloud) -> dict[str, int]:
    """How many jobs there are of each of GROUPS."""
    rows = cloud.db.query("SELECT state, count(*) AS jobs FROM custom_jobs GROUP BY state")
    found = {row["state"]: row["jobs"] for row in rows}
    return {group: sum(found.get(state, 0) for state in members) for group, members in GROUPS.items()}


def of_run(cloud: Cloud, run: str) -> list[Job]:
    """The jobs of a run, the newest first."""
    rows = cloud.db.query(f"SELECT * FROM custom_jobs WHERE {_RUN} = ? ORDER BY create_time DESC LIMIT 20", (run,))
    now = cloud.now()
    return [Job(row, now) for row in rows]


def replica_lines(cloud: Cloud, job: Job) -> list[ReplicaLine]:
    """Every replica of a job, those too that have not been started yet."""
    known = {row.replica: row for row in store.replicas(cloud.db, job.number)}
    last = ReplicaState.PENDING if job.live else ReplicaState.STOPPED
    found = []
    for replica in cluster.replicas(job.spec):
        row = known.get(replica) or ReplicaRow(replica, 0, state=last)
        machine = job.spec["workerPoolSpecs"][replica.pool].get("machineSpec", {})
        accelerator = f" + {machine.get('acceleratorCount', 1)} × {machine['acceleratorType']}" if _accelerated(machine) else ""
        found.append(
            ReplicaLine(
                job.dialect.task_name(replica),
                job.dialect.roles[replica.pool],
                machine.get("machineType", "–") + accelerator,
                row.state.value.lower(),
                row.exit_code,
                row.restarts,
                row.start_time,
                text.seconds_between(row.start_time, row.end_time, job.now),
            )
        )
    return found


def environment(cloud: Cloud, job: Job, task: str) -> dict[str, Any] | None:
    """A replica's TF_CONFIG and CLUSTER_SPEC; None before its job's replicas have their ports."""
    rows = store.replicas(cloud.db, job.number)
    ports = {row.replica: row.port for row in rows}
    for replica in ports:
        if job.dialect.task_name(replica) == task:
            config = {**cluster.tf_config(job.spec, ports, replica, job.dialect.roles), **job.dialect.tf_config}
            return {"TF_CONFIG": config, "CLUSTER_SPEC": cluster.cluster_spec(job.spec, ports, replica)}
    return None


def folders(job: Job) -> Iterator[tuple[str, str, str]]:
    """(what it is, bucket, prefix with a slash at its end) of the folders that the program was told to write to."""
    named = {"Training": "train_dir", "Evaluation": "eval_dir", "Checkpoints": "checkpoint_dir", "Job": "job-dir"}
    seen = set()
    for title, argument in named.items():
        match = re.fullmatch(r"gs://([^/]+)/?(.*?)/?", job.argument(argument) or "")
        if match and match.groups() not in seen:
            seen.add(match.groups())
            yield title, match[1], f"{match[2]}/" if match[2] else ""


def _accelerated(machine: Mapping[str, Any]) -> bool:
    return bool(machine.get("acceleratorType"))
