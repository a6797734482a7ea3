"""Jobs of ML Engine's own API, made by `gcloud ai-platform` and not by odcloud.

Google's own ended on 2025-01-31; what stands in for Google may still answer. Shapes: `GoogleCloudMlV1__Job` in the discovery
document `ml.v1`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher import mlengine
from launcher.errors import UserError
from launcher.google.api import GoogleError
from launcher.jobs.logs import Reader
from launcher.jobs.view import View
from launcher.stack.session import Session


def find(where: Session, text: str) -> tuple[Session, dict[str, Any], bool]:
    """The job that a number, name or run means, with its region's session, and whether it is one of ML Engine's API.

    Such a one has a custom job's fields, as `described` gives them. Raises UserError, GoogleError.
    """
    try:
        job = where.find(text)
        return where.of(job), job, False
    except UserError as error:
        if where.google.is_google("ml") or not mlengine.is_name(text):
            raise
        try:
            found = where.google.call("ml.projects.jobs.get", name=f"projects/{where.outputs.project}/jobs/{text}")
        except GoogleError as missing:
            if missing.status not in (404, 501):
                raise
            raise error from None
        return where, described(found, where.outputs.project), True


def described(job: Mapping[str, Any], project: str) -> dict[str, Any]:
    """A job of ML Engine with the field names of a custom job; its number is its name, its state its own word."""
    same = ("state", "createTime", "startTime", "endTime", "labels")
    found = {key: job[key] for key in same if job.get(key) is not None}
    if job.get("errorMessage"):
        found["error"] = {"message": job["errorMessage"]}
    return {"name": f"projects/{project}/jobs/{job['jobId']}", "displayName": job["jobId"], **found}


def snapshot(where: Session, job: Mapping[str, Any]) -> View:
    """Such a job with what its log says of it until now; its replicas are those whose life the log tells."""
    entries = Reader(where, job).new()
    tasks = dict.fromkeys(entry.task for entry in entries if "replica" in entry.payload)
    view = View(job, sorted(tasks, key=_place))
    view.absorb(entries)
    return view


def _place(task: str) -> tuple[int, int, str]:
    """master-replica-0, worker-replica-0, worker-replica-1, …, ps-replica-0: in the order of worker pools."""
    role, _, index = task.partition("-replica-")
    roles = ("master", "worker", "ps")
    return (roles.index(role) if role in roles else len(roles), int(index) if index.isdigit() else 0, task)
