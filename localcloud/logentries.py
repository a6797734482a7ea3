"""Log entries as they are stored: what services, jobs and clients write, in one table with an index by job and time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from localcloud.database import register_schema
from localcloud.logfilter import SEVERITIES
from localcloud.moments import micros_of, rfc3339

if TYPE_CHECKING:
    from localcloud.cloud import Cloud

register_schema("""
CREATE TABLE IF NOT EXISTS log_entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- who follows the log goes on after the last one that was seen
    micros INTEGER NOT NULL,          -- timestamp in microseconds since 1970
    insert_id TEXT NOT NULL,
    job_id TEXT NOT NULL,             -- resource.labels.job_id, '' when there is none
    task_name TEXT NOT NULL,          -- resource.labels.task_name, '' when there is none
    resource_type TEXT NOT NULL,
    severity INTEGER NOT NULL,
    log_name TEXT NOT NULL,
    entry TEXT NOT NULL               -- the LogEntry as JSON
);
CREATE INDEX IF NOT EXISTS log_entries_by_job ON log_entries (job_id, micros, insert_id);
CREATE INDEX IF NOT EXISTS log_entries_by_time ON log_entries (micros, insert_id);
""")

_lock = threading.Lock()
_last = 0


def _tick() -> int:
    """The time in microseconds, later at each call: entries keep the order they were written in."""
    global _last
    with _lock:
        _last = max(_last + 1, time.time_ns() // 1000)
        return _last


def append(cloud: Cloud, entries: Iterable[Mapping[str, Any]]) -> None:
    """Store LogEntry messages; what they lack (timestamp, insertId, severity) is added. Raises ValueError (timestamp)."""
    rows = []
    skew = round(cloud.skew.total_seconds() * 1e6)
    for entry in entries:
        now = _tick()
        received = now + skew
        micros = micros_of(entry["timestamp"]) if entry.get("timestamp") else received
        whole = {
            "insertId": f"{now:014x}",  # of fixed width and growing: clients page by it within one timestamp
            "severity": "DEFAULT",
            **entry,
            "timestamp": rfc3339(micros),
            "receiveTimestamp": rfc3339(received),
        }
        resource = whole.get("resource", {})
        labels = resource.get("labels", {})
        rows.append(
            (
                micros,
                whole["insertId"],
                labels.get("job_id", ""),
                labels.get("task_name", ""),
                resource.get("type", ""),
                SEVERITIES.get(whole["severity"], 0),
                whole.get("logName", ""),
                json.dumps(whole, ensure_ascii=False),
            )
        )
    with cloud.db.transaction():
        for row in rows:
            cloud.db.execute(
                "INSERT INTO log_entries (micros, insert_id, job_id, task_name, resource_type, severity, log_name, entry)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )
