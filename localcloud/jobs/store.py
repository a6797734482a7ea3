"""The rows of jobs and of their replicas: everything that must outlive the server."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from localcloud.database import Database, register_schema
from localcloud.jobs import states
from localcloud.jobs.cluster import Replica
from localcloud.jobs.states import ReplicaState

register_schema("""
CREATE TABLE IF NOT EXISTS custom_jobs (
    number TEXT PRIMARY KEY,
    location TEXT NOT NULL,
    body TEXT NOT NULL,               -- what the client gave of the CustomJob, as JSON
    state TEXT NOT NULL,
    error TEXT,                       -- google.rpc.Status as JSON
    create_time TEXT NOT NULL,        -- times are RFC 3339 in UTC, of fixed width
    start_time TEXT,
    end_time TEXT,
    update_time TEXT NOT NULL,
    restarts INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS custom_jobs_by_state ON custom_jobs (state);
CREATE TABLE IF NOT EXISTS job_replicas (
    job TEXT NOT NULL,
    pool INTEGER NOT NULL,
    place INTEGER NOT NULL,
    port INTEGER NOT NULL,
    state TEXT NOT NULL,
    exit_code INTEGER,
    restarts INTEGER NOT NULL,        -- in all
    recent_restarts INTEGER NOT NULL, -- since the job was last started as a whole
    attempt INTEGER NOT NULL,         -- how often it was started
    start_time TEXT,
    end_time TEXT,
    pid INTEGER,
    process_created REAL,
    python TEXT,                      -- its interpreter
    stdout_offset INTEGER NOT NULL,   -- bytes of its output that are log entries already
    stderr_offset INTEGER NOT NULL,
    PRIMARY KEY (job, pool, place)
) WITHOUT ROWID;
""")


@dataclass
class ReplicaRow:
    """What is kept of one replica. Times are RFC 3339 text."""

    replica: Replica
    port: int
    state: ReplicaState = ReplicaState.PENDING
    exit_code: int | None = None
    restarts: int = 0
    recent_restarts: int = 0
    attempt: int = 0
    start_time: str | None = None
    end_time: str | None = None
    pid: int | None = None
    process_created: float | None = None
    python: str | None = None
    offsets: dict[str, int] = field(default_factory=lambda: {"stdout": 0, "stderr": 0})


def insert_job(db: Database, number: str, location: str, body: Mapping[str, Any], now: str) -> None:
    """A new job, queued."""
    db.execute(
        "INSERT INTO custom_jobs (number, location, body, state, create_time, update_time) VALUES (?, ?, ?, ?, ?, ?)",
        (number, location, json.dumps(body), states.QUEUED, now, now),
    )


def job(db: Database, number: str) -> sqlite3.Row | None:
    """The row of a job."""
    return db.one("SELECT * FROM custom_jobs WHERE number = ?", (number,))


def unfinished(db: Database) -> list[str]:
    """The numbers of the jobs that have not ended, in the order in which they were created."""
    marks = ", ".join("?" * len(states.ENDED))
    rows = db.query(
        f"SELECT number FROM custom_jobs WHERE state NOT IN ({marks}) ORDER BY create_time, number", sorted(states.ENDED)
    )
    return [row["number"] for row in rows]


def advance(db: Database, number: str, before: tuple[str, ...], after: str, now: str) -> bool:
    """Move a job from one of the states `before` to `after`; False when it was in another (cancelled meanwhile)."""
    started = ", start_time = coalesce(start_time, ?)" if after == states.RUNNING else ""
    marks = ", ".join("?" * len(before))
    sql = f"UPDATE custom_jobs SET state = ?, update_time = ?{started} WHERE number = ? AND state IN ({marks})"
    return bool(db.execute(sql, [after, now, *([now] if started else []), number, *before]))


def end_job(db: Database, number: str, state: str, error: Mapping[str, Any] | None, now: str) -> None:
    """The job's last state."""
    db.execute(
        "UPDATE custom_jobs SET state = ?, error = ?, end_time = ?, update_time = ? WHERE number = ?",
        (state, json.dumps(error) if error else None, now, now, number),
    )


def count_job_restart(db: Database, number: str, now: str) -> None:
    """One more restart of the job as a whole."""
    db.execute("UPDATE custom_jobs SET restarts = restarts + 1, update_time = ? WHERE number = ?", (now, number))


def delete_job(db: Database, number: str) -> None:
    """Forget a job and its replicas."""
    with db.transaction():
        db.execute("DELETE FROM custom_jobs WHERE number = ?", (number,))
        db.execute("DELETE FROM job_replicas WHERE job = ?", (number,))


def save_replica(db: Database, number: str, row: ReplicaRow) -> None:
    """Store a replica as it is now."""
    db.execute(
        "INSERT OR REPLACE INTO job_replicas (job, pool, place, port, state, exit_code, restarts, recent_restarts, attempt,"
        " start_time, end_time, pid, process_created, python, stdout_offset, stderr_offset)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            number,
            row.replica.pool,
            row.replica.index,
            row.port,
            row.state.value,
            row.exit_code,
            row.restarts,
            row.recent_restarts,
            row.attempt,
            row.start_time,
            row.end_time,
            row.pid,
            row.process_created,
            row.python,
            row.offsets["stdout"],
            row.offsets["stderr"],
        ),
    )


def replicas(db: Database, number: str) -> list[ReplicaRow]:
    """A job's replicas, by pool and place."""
    return [
        ReplicaRow(
            replica=Replica(row["pool"], row["place"]),
            port=row["port"],
            state=ReplicaState(row["state"]),
            exit_code=row["exit_code"],
            restarts=row["restarts"],
            recent_restarts=row["recent_restarts"],
            attempt=row["attempt"],
            start_time=row["start_time"],
            end_time=row["end_time"],
            pid=row["pid"],
            process_created=row["process_created"],
            python=row["python"],
            offsets={"stdout": row["stdout_offset"], "stderr": row["stderr_offset"]},
        )
        for row in db.query("SELECT * FROM job_replicas WHERE job = ? ORDER BY pool, place", (number,))
    ]


def ports_in_use(db: Database) -> set[int]:
    """The ports of the replicas of jobs that have not ended."""
    marks = ", ".join("?" * len(states.ENDED))
    sql = f"SELECT port FROM job_replicas JOIN custom_jobs ON number = job WHERE custom_jobs.state NOT IN ({marks})"
    rows = db.query(sql, sorted(states.ENDED))
    return {row["port"] for row in rows}
