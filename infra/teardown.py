"""Before a stack goes, its results are looked after and its jobs stop: a resource that does nothing until it is deleted.

It depends on everything that jobs use, so that `pulumi destroy` deletes it first.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from infra.rest import Api, RestError, message

if TYPE_CHECKING:  # for pydantic behind it would double the start of the process that deletes
    from infra.config import OnDestroy

ENDED = {f"JOB_STATE_{state}" for state in ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "PARTIALLY_SUCCEEDED")}
WAIT_SECONDS = 15 * 60
RESULTS = ("train/", "eval/")
"""Prefixes of what training and evaluation leave in the stack's bucket."""
MARKS = "regions/"
"""Prefix of objects, each called after a region in which the launcher has started jobs of the stack beside its own."""


class TeardownError(RestError):
    """Nothing may be taken away: the stack's jobs or results are in the way."""


class Jobs:
    """The Vertex AI custom jobs of one stack: those that carry all of `labels`."""

    def __init__(self, project: str, region: str, labels: Mapping[str, str]) -> None:
        """
        Raises:
            RestError: no credentials.
        """
        self.api = Api("aiplatform", f"https://{region}-aiplatform.googleapis.com/", "v1")
        self.parent = f"projects/{project}/locations/{region}"
        self.labels = labels

    def every(self) -> list[dict[str, Any]]:
        """Jobs with the stack's labels.

        Raises:
            RestError: they cannot be listed.
        """
        wanted = " AND ".join(f'labels.{key}="{value}"' for key, value in self.labels.items())
        pages = self.api.pages(f"{self.parent}/customJobs", "the stack's jobs", filter=wanted, pageSize="100")
        jobs = [job for page in pages for job in page.get("customJobs", [])]
        return [job for job in jobs if self.labels.items() <= job.get("labels", {}).items()]

    def active(self) -> list[dict[str, Any]]:
        """Those of them that have not ended. Raises as `every`."""
        return [job for job in self.every() if job.get("state") not in ENDED]

    def cancel(self, job: Mapping[str, Any]) -> None:
        """Ask the service to cancel a job; one that has ended in the meantime is well, too.

        Raises:
            RestError: refused for another reason.
        """
        status, body = self.api.call("POST", f"{job['name']}:cancel")
        if status not in (200, 400, 404):
            raise RestError(f"{job['name']} cannot be cancelled: {message(status, body)}")

    def delete(self, job: Mapping[str, Any]) -> str | None:
        """Ask the service to forget a job that has ended; returns why it refuses, if it does. Raises RestError: not reached."""
        status, body = self.api.call("DELETE", job["name"])
        return None if status in (200, 404) else message(status, body)


def stop_jobs(jobs: Jobs, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic) -> None:
    """Cancel the stack's jobs and wait until all have ended.

    Raises:
        RestError: the service fails, or a job is still not ended after WAIT_SECONDS.
    """
    deadline = clock() + WAIT_SECONDS
    pause = 0.2
    while active := jobs.active():
        for job in active:
            if job.get("state") != "JOB_STATE_CANCELLING":
                jobs.cancel(job)
                print(f"{job['name']} is cancelled and waited for", flush=True)
        if clock() > deadline:
            names = ", ".join(job["name"] for job in active)
            raise TeardownError(
                f"still not ended {WAIT_SECONDS // 60} minutes after being cancelled: {names}. They use what the stack "
                "has made, so nothing of it is deleted: run `pulumi destroy` again when they have ended."
            )
        sleep(pause)
        pause = min(2 * pause, 10.0)


def forget_jobs(jobs: Jobs) -> None:
    """Delete the stack's jobs, which have ended; one that the service keeps is told, and is in nobody's way.

    Raises:
        RestError: they cannot be listed, or the service is not reached.
    """
    kept = {job["name"]: refusal for job in jobs.every() if (refusal := jobs.delete(job))}
    for name, refusal in kept.items():
        print(f"{name} has ended and stays: {refusal}", flush=True)


def regions(bucket: str, prefix: str, own: str) -> list[str]:
    """Where the stack's jobs may be: its own region, and those that the launcher has noted in the bucket.

    Raises:
        RestError: it cannot be listed.
    """
    api = Api("storage", "https://storage.googleapis.com/", "storage/v1")
    pages = api.pages(f"b/{quote(bucket, safe='')}/o", f"the objects of gs://{bucket}", prefix=prefix + MARKS)
    noted = [item["name"].removeprefix(prefix + MARKS) for page in pages for item in page.get("items", [])]
    return list(dict.fromkeys((own, *noted)))


class Results(NamedTuple):
    """How much is under RESULTS in a stack's place; `old`: generations that a bucket with versioning could still restore."""

    objects: int
    bytes: int
    old: int = 0

    def __str__(self) -> str:
        old = f" and {self.old:,} old generation{'' if self.old == 1 else 's'}" if self.old else ""
        return f"{self.objects:,} object{'' if self.objects == 1 else 's'}{old} of training and evaluation ({size(self.bytes)})"


def size(count: float) -> str:
    """Bytes for people, in powers of 1,000.

    >>> size(999), size(1_234_567)
    ('999 B', '1.2 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def results(bucket: str, prefix: str) -> Results:
    """What a bucket holds under the stack's prefix; nothing if there is no such bucket.

    Raises:
        RestError: it cannot be listed.
    """
    api = Api("storage", "https://storage.googleapis.com/", "storage/v1")
    path, fields = f"b/{quote(bucket, safe='')}/o", "items(size,timeDeleted),nextPageToken"
    found = [
        item
        for folder in RESULTS
        for page in api.pages(path, f"the objects of gs://{bucket}", prefix=prefix + folder, versions="true", fields=fields)
        for item in page.get("items", [])
    ]
    old = sum("timeDeleted" in item for item in found)
    return Results(len(found) - old, sum(int(item["size"]) for item in found), old)


def spare(bucket: str, prefix: str, on_destroy: OnDestroy) -> None:
    """Say what becomes of the results under a prefix of a bucket, "" for all of it.

    Raises:
        TeardownError: they are in the way, and the stack's configuration does not say that they may go.
    """
    held = results(bucket, prefix)
    if not held.objects and not held.old:
        return
    place = f"gs://{bucket}/{prefix}".rstrip("/")
    where = f"{held} in {place}"
    if on_destroy == "refuse":
        raise TeardownError(
            f"{where} would be lost, so nothing is deleted. Decide with `pulumi config set odcloud:onDestroy delete`, or "
            "`keepCheckpoints` to leave them where they are, then `pulumi up`, then `pulumi destroy` again. (If this was "
            "`pulumi up`: a changed location, name, region or project would replace the bucket. Set it back first.)"
        )
    kept = "stay" if prefix else "stay: the bucket is kept"
    gone = "are deleted" if prefix else "go with the bucket"
    print(f"{where} {gone if on_destroy == 'delete' else kept}", flush=True)


IDENTITY = ("project", "region", "labels", "bucket", "prefix", "repository")
"""Whose jobs and results are looked after: when one of these changes, those of the old ones are, as before a destroy."""


class BeforeDestroyProvider(ResourceProvider):
    """Deleting looks after the results and cancels the jobs; everything else only remembers whose they are."""

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult(id_=f"{props['project']}/{props['region']}", outs=dict(props))

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        changed = [key for key in (*IDENTITY, "on_destroy") if _olds.get(key) != _news.get(key)]
        replaces = [key for key in changed if key in IDENTITY and key in _olds]  # a state may be older than a key
        return DiffResult(changes=bool(changed), replaces=replaces, delete_before_replace=True)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        return UpdateResult(outs=dict(_news))

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        # Pulumi shows a dynamic provider's traceback; in its process, which only this provider has, errors go without one.
        sys.tracebacklimit = 0
        # Before the jobs are stopped, so that a refused destroy has touched nothing; after it, for what they wrote meanwhile.
        bucket, prefix = _props["bucket"], _props.get("prefix") or ""
        spare(bucket, prefix, _props["on_destroy"])
        places = [Jobs(_props["project"], region, _props["labels"]) for region in regions(bucket, prefix, _props["region"])]
        for jobs in places:
            stop_jobs(jobs)
        if _props["on_destroy"] == "refuse":
            spare(bucket, prefix, "refuse")
        if _props["on_destroy"] != "keepCheckpoints":  # which keeps what tells how they were made, too
            for jobs in places:
                forget_jobs(jobs)


class BeforeDestroy(Resource, module="odcloud", name="BeforeDestroy"):
    """What must be so before anything of the stack is deleted, as far as Pulumi is concerned: seen to when this is deleted."""

    def __init__(self, name: str, props: Mapping[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(BeforeDestroyProvider(), name, dict(props), opts)


@dataclass(frozen=True)
class TeardownArgs:
    project: str
    region: str
    labels: Mapping[str, str]
    """Jobs that carry all of these are the stack's."""
    bucket: pulumi.Input[str]
    repository: pulumi.Input[str]
    """Both are the resources' own outputs, so that Pulumi asks here before it replaces one, as for a changed location."""
    on_destroy: OnDestroy
    prefix: str = ""
    """Of the stack's own objects in the bucket."""


class Teardown(pulumi.ComponentResource):
    """Give it, as `depends_on`, everything that jobs use."""

    def __init__(self, name: str, args: TeardownArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("odcloud:infra:Teardown", name, None, opts)
        BeforeDestroy(
            "before-destroy",
            {
                "project": args.project,
                "region": args.region,
                "labels": dict(args.labels),
                "bucket": args.bucket,
                "prefix": args.prefix,
                "repository": args.repository,
                "on_destroy": args.on_destroy,
            },
            opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(parent=self)),
        )
        self.register_outputs({})
