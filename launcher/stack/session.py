"""A stack and a way to talk to Google about it: what every command begins with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from launcher import vertex
from launcher.errors import UserError
from launcher.google.api import Google, GoogleError
from launcher.stack import lookup

if TYPE_CHECKING:
    from infra.outputs import StackOutputs

_JOBS = "aiplatform.projects.locations.customJobs"
_MARKS = "regions/"
"""Objects of the stack's bucket that are called after the regions its jobs were launched in beside its own."""


def _created(job: Mapping[str, Any]) -> str:
    return str(job.get("createTime", ""))


@dataclass(frozen=True)
class Session:
    """The stack's outputs and Google's services at the endpoints they name."""

    outputs: StackOutputs
    google: Google

    @property
    def parent(self) -> str:
        return vertex.parent(self.outputs.project, self.google.region)

    def now(self) -> datetime:
        """The time by the service's clock, which the times of jobs and logs are of; by this machine's before any answer."""
        return self.google.date or datetime.now(timezone.utc)

    def own(self, name: str) -> str:
        """The name that an object of the stack has in its bucket, which may not be the stack's alone."""
        return self.outputs.prefix + name

    def in_region(self, region: str) -> Session:
        """The same stack, its jobs in another region."""
        return self if region == self.google.region else Session(self.outputs, self.google.in_region(region))

    def of(self, job: Mapping[str, Any]) -> Session:
        """The session for the region that a job is in."""
        return self.in_region(vertex.region(job))

    def regions(self) -> list[str]:
        """The regions that the stack's jobs may be in: this one, and those that were launched in besides (see `mark`)."""
        names: list[str] = []
        if self.outputs.bucket:
            try:
                found = self.google.pages("storage.objects.list", "items", bucket=self.outputs.bucket, prefix=self.own(_MARKS))
                names = [item["name"].removeprefix(self.own(_MARKS)) for item in found]
            except GoogleError as error:
                if error.status not in (403, 404):  # who may not look into the bucket, or has none, sees this region's jobs
                    raise
        return list(dict.fromkeys((self.google.region, *names)))

    def mark(self) -> None:
        """Notes in the bucket that jobs are launched in this session's region, too. Raises GoogleError and UserError."""
        self.put(self.own(_MARKS + self.google.region), b"", "text/plain")

    def jobs(self, display_name: str | None = None) -> list[dict[str, Any]]:
        """The region's custom jobs, those of odcloud or not, the newest first."""
        chosen = {"filter": f'display_name="{display_name}"'} if display_name else {}
        found = self.google.pages(f"{_JOBS}.list", "customJobs", parent=self.parent, pageSize=100, **chosen)
        return sorted(found, key=_created, reverse=True)

    def jobs_everywhere(self, display_name: str | None = None) -> list[dict[str, Any]]:
        """The same over all the stack's regions."""
        found = [job for region in self.regions() for job in self.in_region(region).jobs(display_name)]
        return sorted(found, key=_created, reverse=True)

    def get(self, number: str) -> dict[str, Any]:
        """A job of the region by its number. Raises UserError when there is none."""
        job = self._got(number)
        if job is None:
            raise UserError(f"no job {number} in {self.parent}; `odcloud jobs list` shows what there is")
        return job

    def _got(self, number: str) -> dict[str, Any] | None:
        try:
            job: dict[str, Any] = self.google.call(f"{_JOBS}.get", name=f"{self.parent}/customJobs/{number}")
        except GoogleError as error:
            if error.status == 404:
                return None
            raise
        return job

    def find(self, text: str) -> dict[str, Any]:
        """The job that a number, a display name or a run id (its newest training) means, in any of the stack's regions.

        `of` it is the session to go on with. Raises UserError.
        """
        if text.isdigit():
            if job := self._got(text):
                return job
            regions = self.regions()
            found = (job for region in regions[1:] if (job := self.in_region(region)._got(text)))
            if job := next(found, None):
                return job
            where = ", ".join(self.in_region(region).parent for region in regions)
            raise UserError(f"no job {text} in {where}; `odcloud jobs list` shows what there is")
        if '"' not in text and (named := self.jobs_everywhere(display_name=text)):
            return named[0]
        there = [str(job["displayName"]) for job in self.jobs_everywhere() if vertex.run(job)]
        hint = f"; the newest: {', '.join(dict.fromkeys(there[:3]))}" if there else "; there are none yet"
        raise UserError(f"no job has the number, run id or name {text!r}{hint} (`odcloud jobs list` shows all)")

    def create(self, body: Mapping[str, Any], allowed: Callable[[], bool]) -> dict[str, Any]:
        """Creates a custom job: sent once, never repeated here, and only if `allowed` says so right before it is sent."""
        job: dict[str, Any] = self.google.call(f"{_JOBS}.create", parent=self.parent, body=body, repeat=False, allowed=allowed)
        return job

    def cancel(self, number: str) -> None:
        """Asks for a job to be cancelled."""
        self.google.call(f"{_JOBS}.cancel", name=f"{self.parent}/customJobs/{number}", body={}, repeat=True)

    def delete(self, number: str) -> None:
        """Deletes a job that has ended, and waits until that is done. Raises GoogleError, and UserError if it failed."""
        operation = self.google.call(f"{_JOBS}.delete", name=f"{self.parent}/customJobs/{number}")
        while not operation.get("done"):
            time.sleep(1.0)
            operation = self.google.call("aiplatform.projects.locations.operations.get", name=operation["name"])
        if "error" in operation:
            raise UserError(f"job {number} could not be deleted: {operation['error'].get('message', operation['error'])}")

    def objects(self, prefix: str) -> Iterator[dict[str, Any]]:
        """The objects of the stack's bucket whose names begin with `prefix`. Raises UserError when there is no such bucket."""
        try:
            yield from self.google.pages("storage.objects.list", "items", bucket=self.outputs.bucket, prefix=prefix)
        except GoogleError as error:
            raise self.explained(error) from error

    def put(self, name: str, content: bytes, content_type: str) -> None:
        """Writes an object of the stack's bucket; one that is there already stays. Raises GoogleError and UserError."""
        try:
            self.google.upload(self.outputs.bucket, name, content, content_type, if_generation=0)
        except GoogleError as error:
            if error.status != 412:
                raise self.explained(error) from error

    def explained(self, error: GoogleError) -> Exception:
        """A failed write or listing in the stack's bucket; 404 can only mean the bucket."""
        if error.status != 404:
            return error
        return UserError(
            f"the bucket gs://{self.outputs.bucket}, output 'bucket' of the stack, does not exist; "
            "run `pulumi refresh` and `pulumi up` to make it"
        )


def connect(stack_name: str | None) -> Session:
    """The session for a stack, by default the selected one. Raises UserError."""
    return attach(lookup.outputs(stack_name))


def attach(outputs: StackOutputs) -> Session:
    """The session for a stack whose outputs are known."""
    return Session(outputs, Google(outputs.region, outputs.endpoints))
