"""Before a stack goes, its jobs stop: a resource that does nothing until it is deleted.

It depends on everything that jobs use, so that `pulumi destroy` deletes it first.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

ENDED = {f"JOB_STATE_{state}" for state in ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "PARTIALLY_SUCCEEDED")}
WAIT_SECONDS = 15 * 60
REQUEST_SECONDS = 60


class TeardownError(Exception):
    """The stack's jobs are not known to have ended, so nothing may be taken from under them."""


class Jobs:
    """The Vertex AI custom jobs of one stack, over REST."""

    def __init__(self, project: str, region: str, labels: Mapping[str, str]) -> None:
        """
        Raises:
            TeardownError: no credentials.
        """
        import requests

        override = os.environ.get("CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM")
        base = override or f"https://{region}-aiplatform.googleapis.com/"
        self.root = f"{base.rstrip('/')}/v1"
        self.parent = f"projects/{project}/locations/{region}"
        self.labels = labels
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {access_token()}"

    def call(self, verb: str, path: str, **params: str) -> tuple[int, dict[str, Any]]:
        """One request; its status and JSON.

        Raises:
            TeardownError: no answer, or not one of the service's.
        """
        import requests

        url = f"{self.root}/{path}"
        try:
            answer = self.session.request(verb, url, params=params, timeout=REQUEST_SECONDS)
            body = answer.json()
        except requests.exceptions.JSONDecodeError:
            raise TeardownError(f"{url}: answered {answer.status_code} without JSON; is this the right endpoint?") from None
        except requests.exceptions.RequestException as error:
            raise TeardownError(
                f"Vertex AI is not reached at {url} ({type(error).__name__}), so the stack's jobs cannot be stopped and "
                'nothing is deleted. On the local cloud: `odcloud local start`, `eval "$(odcloud local env)"`, and again.'
            ) from None
        return answer.status_code, body

    def active(self) -> list[dict[str, Any]]:
        """Jobs with the stack's labels that have not ended.

        Raises:
            TeardownError: they cannot be listed.
        """
        jobs: list[dict[str, Any]] = []
        wanted = " AND ".join(f'labels.{key}="{value}"' for key, value in self.labels.items())
        token = ""
        while True:
            page = {"pageToken": token} if token else {}
            status, body = self.call("GET", f"{self.parent}/customJobs", filter=wanted, pageSize="100", **page)
            if status != 200:
                raise TeardownError(f"the stack's jobs cannot be listed: {message(status, body)}")
            jobs += [job for job in body.get("customJobs", []) if self.labels.items() <= job.get("labels", {}).items()]
            token = body.get("nextPageToken", "")
            if not token:
                return [job for job in jobs if job.get("state") not in ENDED]

    def cancel(self, job: Mapping[str, Any]) -> None:
        """Ask the service to cancel a job; one that has ended in the meantime is well, too.

        Raises:
            TeardownError: refused for another reason.
        """
        status, body = self.call("POST", f"{job['name']}:cancel")
        if status not in (200, 400, 404):
            raise TeardownError(f"{job['name']} cannot be cancelled: {message(status, body)}")


def message(status: int, body: Mapping[str, Any]) -> str:
    error = body.get("error")
    return f"{status} {error.get('message', '')}" if isinstance(error, dict) else str(status)


def access_token() -> str:
    """The environment's token, else one from Application Default Credentials.

    Raises:
        TeardownError: neither.
    """
    token = os.environ.get("GOOGLE_OAUTH_ACCESS_TOKEN")
    if token:
        return token
    import google.auth
    import google.auth.exceptions
    import google.auth.transport.requests

    try:
        credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
        credentials.refresh(google.auth.transport.requests.Request())
    except google.auth.exceptions.GoogleAuthError as error:
        raise TeardownError(
            f"no credentials to stop the stack's jobs with ({str(error).splitlines()[0]}). Run `gcloud auth "
            'application-default login`, or on the local cloud `eval "$(odcloud local env)"`.'
        ) from None
    return str(credentials.token)


def stop_jobs(jobs: Jobs, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic) -> None:
    """Cancel the stack's jobs and wait until all have ended.

    Raises:
        TeardownError: the service fails, or a job is still not ended after WAIT_SECONDS.
    """
    deadline = clock() + WAIT_SECONDS
    pause = 0.2
    while active := jobs.active():
        for job in active:
            if job.get("state") != "JOB_STATE_CANCELLING":
                jobs.cancel(job)
        if clock() > deadline:
            names = ", ".join(job["name"] for job in active)
            raise TeardownError(f"still not ended {WAIT_SECONDS // 60} minutes after being cancelled: {names}")
        sleep(pause)
        pause = min(2 * pause, 10.0)


class RunningJobsProvider(ResourceProvider):
    """Deleting cancels; everything else only remembers whose jobs they are."""

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult(id_=f"{props['project']}/{props['region']}", outs=dict(props))

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        identity = ("project", "region", "labels")
        changed = [key for key in identity if _olds.get(key) != _news.get(key)]
        return DiffResult(changes=bool(changed), replaces=changed, delete_before_replace=True)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        return UpdateResult(outs=dict(_news))

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        # Pulumi shows a dynamic provider's traceback; in its process, which only this provider has, errors go without one.
        sys.tracebacklimit = 0
        stop_jobs(Jobs(_props["project"], _props["region"], _props["labels"]))


class RunningJobs(Resource, module="odcloud", name="RunningJobs"):
    """The stack's jobs, as far as Pulumi is concerned: stopped when this is deleted."""

    def __init__(self, name: str, props: Mapping[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(RunningJobsProvider(), name, dict(props), opts)


@dataclass(frozen=True)
class TeardownArgs:
    project: str
    region: str
    labels: Mapping[str, str]
    """Jobs that carry all of these are the stack's."""


class Teardown(pulumi.ComponentResource):
    """Give it, as `depends_on`, everything that jobs use."""

    def __init__(self, name: str, args: TeardownArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("odcloud:infra:Teardown", name, None, opts)
        RunningJobs(
            "running-jobs",
            {"project": args.project, "region": args.region, "labels": dict(args.labels)},
            opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(parent=self)),
        )
        self.register_outputs({})
