"""What each page says: from the stored state to HTML. Every value is escaped by the templates."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from localcloud import prices
from localcloud.api import ApiError, invalid
from localcloud.dashboard import again, curves, files, jobs, text
from localcloud.dashboard.client import Client
from localcloud.dashboard.jobs import Job
from localcloud.dashboard.series import Progress, Watched

LINES = 200
_LOUD = frozenset({"WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY"})


class NotFound(Exception):
    """There is nothing at this address; the message says what is missing."""


@cache
def _templates() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    found.filters |= {
        "breakable": lambda name: Markup("_<wbr>").join(name.split("_")),
        "clock": text.clock,
        "counted": text.counted,
        "dollars": text.dollars,
        "duration": text.duration,
        "json": lambda value: json.dumps(value, indent=2, ensure_ascii=False),
        "number": text.number,
        "plain": text.plain,
        "query": lambda values: urlencode({name: value for name, value in values.items() if value}, quote_via=quote),
        "size": lambda value: text.size(int(value)),
    }
    found.tests["picture"] = files.is_picture
    found.tests["readable"] = files.is_text
    return found


def render(name: str, **values: Any) -> str:
    """A template with its values. What is no Unicode (half a surrogate pair, say) is replaced."""
    return _templates().get_template(name).render(**values).encode("utf-8", "replace").decode()


class Views:
    """The pages of a signed-in visitor. Each raises NotFound, or ApiError from the service that it asks."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._cloud = client.cloud
        self._watched = Watched(self._steps)
        self._starting = threading.Lock()

    def jobs(self, request: Request) -> Response:
        """All jobs, the newest first; `?state=` chooses one of the groups, `?before=` earlier ones."""
        before, group = request.query_params.get("before", ""), request.query_params.get("state", "")
        if group and group not in jobs.GROUPS:
            raise NotFound(f"There is no group {group!r} of jobs.")
        found, older = jobs.page(self._cloud, before, group)
        progress = {job.number: self._watched.progress(job.number) for job in found if job.live}
        return self._page(
            request,
            "jobs.html.j2",
            jobs=found,
            progress=progress,
            counts=jobs.counts(self._cloud),
            group=group,
            older=older,
            newest=not before,
            prices=prices.table(),
            refresh=0 if before else 2 if progress else 5,
        )

    def job(self, request: Request, number: str) -> Response:
        """One job; `?task=` chooses a replica, `?older=` earlier lines of its log."""
        job = self._found(number)
        replicas = jobs.replica_lines(self._cloud, job)
        tasks = ["service", *(replica.task for replica in replicas)]
        task, older = request.query_params.get("task", ""), request.query_params.get("older", "")
        if task and task not in tasks:
            raise NotFound(f"Job {number} has no replica {task!r}.")
        progress = self._watched.progress(number)
        shown = task if task not in ("", "service") else replicas[0].task
        lines, earlier = self._log(number, task, older)
        return self._page(
            request,
            "job.html.j2",
            job=job,
            replicas=replicas,
            tasks=tasks,
            task=task,
            lines=lines,
            earlier=earlier,
            older=older,
            progress=progress,
            charts=self._charts(job, progress),
            environment=jobs.environment(self._cloud, job, shown),
            environment_of=shown,
            folders=list(jobs.folders(job)),
            related=[other for other in jobs.of_run(self._cloud, job.run) if other.number != number] if job.run else [],
            prices=prices.table(),
            refresh=2 if job.live and not older else 0,
        )

    def report(self, request: Request, number: str) -> Response:
        """What the evaluations of a job's run left: metrics, pictures and where the files are."""
        job = self._found(number)
        named = [folder for each in (jobs.of_run(self._cloud, job.run) if job.run else [job]) for folder in jobs.folders(each)]
        found: Mapping[str, Any] = {}
        pictures: list[dict[str, Any]] = []
        for title, bucket, prefix in named:
            if title == "Evaluation" and (left := files.metrics(self._client, bucket, prefix)):
                listed = files.listing(self._client, bucket, prefix, "").get("items", [])
                found, pictures = left, [item for item in listed if files.is_picture(item["name"])][: files.MOST_PICTURES]
                break
        return self._page(
            request,
            "report.html.j2",
            job=job,
            found=found,
            metrics=files.numbers(found, "metrics"),
            per_class=files.numbers(found, "per_class"),
            pictures=pictures,
            charts=self._charts(job, self._watched.progress(number)),
            folders=list(dict.fromkeys(named)),
            refresh=0,
        )

    def cancel(self, request: Request, number: str) -> Response:
        """Asks the job's own service to cancel it, and goes back to its page."""
        job = self._found(number)
        if job.dialect.ml_engine:
            self._client.json("ml.projects.jobs.cancel", name=f"projects/{self._cloud.project}/jobs/{number}")
        else:
            parent = f"projects/{self._cloud.project}/locations/{job.row['location']}"
            self._client.json("aiplatform.projects.locations.customJobs.cancel", name=f"{parent}/customJobs/{number}")
        return RedirectResponse(f"/ui/jobs/{number}", status_code=303)

    def again(self, request: Request, number: str) -> Response:
        """Asks the job's own service for the same job once more, and goes to the new one's page.

        The form says when its page was made, and the name is made of that: a second click finds the job of the first."""
        job, seconds = self._found(number), request.state.form.get("now", "")
        if job.live:
            raise ApiError(400, "FAILED_PRECONDITION", f"Job {job.name} is {job.state}: it can be run again when it has ended.")
        if not re.fullmatch(r"[1-9][0-9]{9}", seconds):
            raise invalid("The form says no time. Reload the page, try again.")
        body = again.copied(job.request, int(seconds))
        with self._starting:
            made = jobs.named(self._cloud, body.get("jobId") or body["displayName"])
            if made is None and job.dialect.ml_engine:
                made = self._client.json("ml.projects.jobs.create", body, parent=f"projects/{self._cloud.project}")["jobId"]
            elif made is None:
                parent = f"projects/{self._cloud.project}/locations/{job.row['location']}"
                name = self._client.json("aiplatform.projects.locations.customJobs.create", body, parent=parent)["name"]
                made = name.rpartition("/")[2]
        return RedirectResponse(f"/ui/jobs/{made}", status_code=303)

    def buckets(self, request: Request) -> Response:
        """All buckets."""
        return self._page(request, "buckets.html.j2", buckets=files.buckets(self._client), refresh=0)

    def bucket(self, request: Request, bucket: str) -> Response:
        """Objects and folders below `?prefix=`."""
        prefix, token = request.query_params.get("prefix", ""), request.query_params.get("page", "")
        listed = files.listing(self._client, bucket, prefix, token)
        parts = prefix.split("/")[:-1]
        trail = [(part, "/".join(parts[: place + 1]) + "/") for place, part in enumerate(parts)]
        items = listed.get("items", [])
        return self._page(
            request,
            "bucket.html.j2",
            bucket=bucket,
            prefix=prefix,
            trail=trail,
            folders=listed.get("prefixes", []),
            items=items,
            pictures=[item for item in items if files.is_picture(item["name"])][: files.MOST_PICTURES],
            later=listed.get("nextPageToken", ""),
            refresh=0,
        )

    def content(self, request: Request, bucket: str) -> Response:
        """An object, `?name=`, to be shown or, with `?keep=1`, to be saved."""
        name = request.query_params.get("name", "")
        return files.content(self._client, request, bucket, name, keep=bool(request.query_params.get("keep")))

    def _page(self, request: Request, template: str, **values: Any) -> Response:
        here = {"project": self._cloud.project, "region": self._cloud.region, "mark": request.state.form_mark}
        return HTMLResponse(render(template, **here, **values))

    def _found(self, number: str) -> Job:
        job = jobs.find(self._cloud, number)
        if job is None:
            raise NotFound(f"There is no job {number}.")
        return job

    def _charts(self, job: Job, progress: Progress) -> list[tuple[str, str, Markup]]:
        """(title, note, figure) of the curves for which the run's jobs have told anything."""
        measured = dict(progress.metrics)
        for other in jobs.of_run(self._cloud, job.run) if job.run else ():
            if other.number != job.number:
                measured = {**self._watched.progress(other.number).metrics, **measured}
        precision = [
            (name, [(float(step), values[name]) for step, values in sorted(measured.items()) if name in values])
            for name in ("AP", "AP50")
        ]
        end, loss, speed = progress.steps, curves.thin(progress.loss), progress.speed
        light = {"AP50": ", light"}
        drawn: list[tuple[str, str, list[tuple[str, list[curves.Point]]], tuple[float, float] | None]] = [
            ("Loss", f"{_last(loss)}; strong: smoothed", [("smoothed", curves.smooth(loss)), ("as told", loss)], None),
            ("Steps per second", _last(speed), [("steps/s", speed)], None),
            (
                "Average precision",
                "; ".join(f"{name} {_last(line)}{light.get(name, '')}" for name, line in precision if line),
                precision,
                (0.0, 1.0),
            ),
        ]
        figures = [
            (title, note, curves.chart(f"chart-{place}", title, lines, last=end, span=span))
            for place, (title, note, lines, span) in enumerate(drawn)
        ]
        return [figure for figure in figures if figure[2]]

    def _log(self, number: str, task: str, older: str) -> tuple[list[dict[str, Any]], str]:
        """The last lines of a job's log, or those before the page token `older`, in order; and the token of earlier ones."""
        condition = f'resource.labels.job_id="{number}"' + (f' AND resource.labels.task_name="{task}"' if task else "")
        body = {
            "resourceNames": [f"projects/{self._cloud.project}"],
            "filter": condition,
            "orderBy": "timestamp desc",
            "pageSize": LINES,
            **({"pageToken": older} if older else {}),
        }
        answer = self._client.json("logging.entries.list", body)
        return [_line(entry) for entry in reversed(answer.get("entries", []))], answer.get("nextPageToken", "")

    def _steps(self, number: str, after: str) -> Iterable[Mapping[str, Any]]:
        later = f' AND timestamp>"{after}"' if after else ""
        body = {
            "resourceNames": [f"projects/{self._cloud.project}"],
            "filter": f'resource.labels.job_id="{number}" AND jsonPayload.step:*{later}',
            "pageSize": 1000,
        }
        while True:
            answer = self._client.json("logging.entries.list", body)
            yield from answer.get("entries", [])
            if not answer.get("nextPageToken"):
                return
            body["pageToken"] = answer["nextPageToken"]


def _last(line: Sequence[curves.Point]) -> str:
    return text.number(line[-1][1]) if line else ""


def _line(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A log entry to show. Plain lines on stderr are ERRORs in the log, chatter or not: loud is what a program calls so."""
    payload = entry.get("jsonPayload")
    message = entry.get("textPayload", "")
    plain = payload is None or "levelname" in payload
    if payload is not None:
        message = payload["message"] if isinstance(payload.get("message"), str) else json.dumps(payload, ensure_ascii=False)
    task = entry.get("resource", {}).get("labels", {}).get("task_name", "")
    return {
        "time": entry["timestamp"],
        "task": task,
        "loud": entry["severity"] in _LOUD and (not plain or task == "service"),
        "message": message,
    }
