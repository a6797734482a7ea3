"""A service that was switched on is refused for a while yet: a resource whose creation waits until all of them answer.

The provider waits only until a service is listed as on. Until that has reached all of Google's servers, some minutes at worst,
calls are answered 403 with the reason SERVICE_DISABLED (Cloud Storage: accessNotConfigured), as if it were off.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from infra.rest import Api, RestError, message

WAIT_SECONDS = 10 * 60
PAUSE_SECONDS = 1.0
IN_A_ROW = 3
"""Answers in a row that a service must give that was refused before: not all of Google's servers know it at once."""
OFF = frozenset({"SERVICE_DISABLED", "accessNotConfigured"})
QUESTIONS = {
    "aiplatform": (
        "https://{region}-aiplatform.googleapis.com/",
        "v1/projects/{project}/locations/{region}/customJobs?pageSize=1",
    ),
    "artifactregistry": (
        "https://artifactregistry.googleapis.com/",
        "v1/projects/{project}/locations/{region}/repositories?pageSize=1",
    ),
    "billingbudgets": ("https://billingbudgets.googleapis.com/", "v1/billingAccounts/{billing_account}/budgets?pageSize=1"),
    "cloudresourcemanager": ("https://cloudresourcemanager.googleapis.com/", "v1/projects/{project}"),
    "iam": ("https://iam.googleapis.com/", "v1/projects/{project}/serviceAccounts?pageSize=1"),
    "logging": ("https://logging.googleapis.com/", "v2/projects/{project}/logs?pageSize=1"),
    "storage": ("https://storage.googleapis.com/", "storage/v1/b?project={project}&maxResults=1"),
}
"""By service: its address, and something small to read there. Whether it may be read does not matter."""


def is_off(status: int, body: Mapping[str, Any]) -> bool:
    """Whether an answer says that the service is off, or cannot be reached at the moment, rather than anything else."""
    error = body.get("error")
    if status in (429, 500, 502, 503, 504):
        return True
    if status != 403 or not isinstance(error, dict):
        return False
    reasons = {part.get("reason") for part in (*error.get("details", ()), *error.get("errors", ()))}
    return bool(reasons & OFF) or "has not been used in project" in str(error.get("message"))


def wait(
    props: Mapping[str, Any],
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Ask each of `props["services"]` until none says that it is off.

    Raises:
        RestError: one still does after WAIT_SECONDS, or cannot be asked; the calls count against no project's quota.
    """
    mend = f"`gcloud auth application-default set-quota-project {props['project']}`"
    deadline = clock() + WAIT_SECONDS
    for service in props["services"]:
        address, question = QUESTIONS[service]
        api = Api(service, address.format(**props), "")
        refused, answers = False, 0
        while answers < (IN_A_ROW if refused else 1):
            if answers or refused:
                sleep(PAUSE_SECONDS)
            status, body = api.call("GET", question.format(**props))
            if not is_off(status, body):
                answers += 1
                continue
            said = message(status, body)
            if "requires a quota project" in said:  # its reason is SERVICE_DISABLED, too, and no waiting mends it
                raise RestError(
                    f"run {mend}, which says whose quota calls count against, and `pulumi up` again. It says: {said}"
                )
            other = ""
            if api.quota_project not in (None, props["project"]):
                other = f" (calls count against the quota of {api.quota_project}; if it is off there, {mend})"
            if not refused:
                say(f"{service}.googleapis.com is switched on, but not usable yet{other}: waiting")
            refused, answers = True, 0
            if clock() > deadline:
                raise RestError(
                    f"{service}.googleapis.com is switched on, but still refused after {WAIT_SECONDS // 60} minutes; run "
                    f"`pulumi up` again later{other}. It says: {said}"
                )


class UsableProvider(ResourceProvider):
    """Waits when it is created, and when services are added."""

    def create(self, props: dict[str, Any]) -> CreateResult:
        self._wait(props)
        return CreateResult(id_=props["project"], outs=dict(props))

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        changed = any(_olds.get(name) != value for name, value in _news.items() if name != "__provider")
        return DiffResult(changes=changed)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        self._wait(_news)
        return UpdateResult(outs=dict(_news))

    @staticmethod
    def _wait(props: Mapping[str, Any]) -> None:
        sys.tracebacklimit = 0  # as in teardown.py: errors go without a traceback
        wait(props, lambda line: print(line, flush=True))


class Usable(Resource, module="odcloud", name="Usable"):
    """Once it is there, the services can be used."""

    def __init__(self, name: str, props: Mapping[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(UsableProvider(), name, dict(props), opts)
