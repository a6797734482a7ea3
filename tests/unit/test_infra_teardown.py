"""infra/teardown.py against a small HTTP server that plays Vertex AI's custom jobs."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from infra.teardown import Jobs, RunningJobsProvider, TeardownError, stop_jobs

LABELS = {"odcloud-stack": "dev"}


class Vertex(ThreadingHTTPServer):
    """Jobs by name; a cancelled one is CANCELLING until it was listed `polls` times more."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.cancelled: list[str] = []
        self.authorizations: set[str | None] = set()
        self.polls = 2
        self.refuse = 0

    def add(self, number: int, state: str, labels: dict[str, str] = LABELS) -> str:
        name = f"projects/p/locations/r/customJobs/{number}"
        self.jobs[name] = {"name": name, "state": f"JOB_STATE_{state}", "labels": labels}
        return name


class Handler(BaseHTTPRequestHandler):
    server: Vertex

    def answer(self, status: int, body: dict[str, Any]) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_GET(self) -> None:
        self.server.authorizations.add(self.headers["Authorization"])
        if self.server.refuse:
            return self.answer(self.server.refuse, {"error": {"message": "no permission to list"}})
        jobs = list(self.server.jobs.values())
        start = int(parse_qs(urlsplit(self.path).query).get("pageToken", ["0"])[0])
        page: dict[str, Any] = {"customJobs": json.loads(json.dumps(jobs[start : start + 1]))}  # one a page
        if start + 1 < len(jobs):
            page["nextPageToken"] = str(start + 1)
        else:
            self.server.polls -= 1
            for job in jobs:
                if job["state"] == "JOB_STATE_CANCELLING" and self.server.polls <= 0:
                    job["state"] = "JOB_STATE_CANCELLED"
        return self.answer(200, page)

    def do_POST(self) -> None:
        name = self.path.removeprefix("/v1/").removesuffix(":cancel")
        self.server.cancelled.append(name)
        self.server.jobs[name]["state"] = "JOB_STATE_CANCELLING"
        self.answer(200, {})

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def vertex(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vertex]:
    server = Vertex()
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", "token")
    yield server
    server.shutdown()
    server.server_close()


def test_running_jobs_of_the_stack_are_cancelled_and_waited_for(vertex: Vertex) -> None:
    running = [vertex.add(1, "RUNNING"), vertex.add(3, "QUEUED")]
    vertex.add(2, "SUCCEEDED")
    vertex.add(4, "RUNNING", {"odcloud-stack": "another"})
    vertex.add(5, "RUNNING", {})
    stop_jobs(Jobs("p", "r", LABELS), sleep=lambda _: None)
    assert sorted(vertex.cancelled) == sorted(running)  # each once
    assert all(vertex.jobs[name]["state"] == "JOB_STATE_CANCELLED" for name in running)
    assert vertex.authorizations == {"Bearer token"}


def test_a_job_that_does_not_end_is_named(vertex: Vertex) -> None:
    name = vertex.add(1, "RUNNING")
    vertex.polls = 1_000_000
    times = iter(range(0, 1_000_000, 100))
    with pytest.raises(TeardownError, match=name):
        stop_jobs(Jobs("p", "r", LABELS), sleep=lambda _: None, clock=lambda: next(times))


def test_a_refusal_is_in_the_services_words(vertex: Vertex) -> None:
    vertex.refuse = 403
    with pytest.raises(TeardownError, match="403 no permission to list"):
        stop_jobs(Jobs("p", "r", LABELS))


def test_an_unreachable_service_fails_the_deletion(vertex: Vertex) -> None:
    vertex.shutdown()
    vertex.server_close()
    with pytest.raises(TeardownError, match="not reached"):
        stop_jobs(Jobs("p", "r", LABELS))


def test_a_stack_renamed_or_moved_stops_the_jobs_under_its_old_name() -> None:
    old = {"project": "p", "region": "r", "labels": LABELS, "__provider": "x"}
    provider = RunningJobsProvider()
    assert not provider.diff("id", old, {**old, "__provider": "y"}).changes
    assert provider.diff("id", old, {**old, "region": "s"}).replaces == ["region"]
