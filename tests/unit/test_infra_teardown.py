"""infra/teardown.py against a small HTTP server that plays Vertex AI's custom jobs and Cloud Storage's list of objects."""

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from infra.rest import RestError
from infra.teardown import BeforeDestroyProvider, Jobs, Results, regions, results, size, spare, stop_jobs

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
        self.kept: set[str] = set()
        self.objects: dict[str, int] = {}
        self.old: set[str] = set()

    def add(self, number: int, state: str, labels: dict[str, str] = LABELS, region: str = "r") -> str:
        name = f"projects/p/locations/{region}/customJobs/{number}"
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
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        start = int(query.get("pageToken", "0"))
        if self.path.startswith("/storage/v1/b/"):
            if not self.path.startswith("/storage/v1/b/bucket/o"):
                return self.answer(404, {"error": {"message": "no such bucket"}})
            names = sorted(name for name in self.server.objects if name.startswith(query["prefix"]))
            names = [name for name in names if name not in self.server.old or query.get("versions") == "true"]
            deleted = {name: {"timeDeleted": "2020-01-01T00:00:00Z"} for name in self.server.old}
            items = [{"name": name, "size": str(self.server.objects[name])} | deleted.get(name, {}) for name in names]
            listed: dict[str, Any] = {"items": items[start : start + 1]}
            return self.answer(200, listed | ({"nextPageToken": str(start + 1)} if start + 1 < len(names) else {}))
        parent = urlsplit(self.path).path.removeprefix("/v1/")
        jobs = [job for name, job in self.server.jobs.items() if name.startswith(f"{parent}/")]
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

    def do_DELETE(self) -> None:
        name = self.path.removeprefix("/v1/")
        if name in self.server.kept:
            return self.answer(403, {"error": {"message": "no permission to delete"}})
        del self.server.jobs[name]
        return self.answer(200, {"done": True})

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def tracebacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider does without them in its process, which here is the tests'."""
    monkeypatch.setattr(sys, "tracebacklimit", 1000, raising=False)


@pytest.fixture
def vertex(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vertex]:
    server = Vertex()
    Thread(target=server.serve_forever, daemon=True).start()
    for service in ("AIPLATFORM", "STORAGE"):
        monkeypatch.setenv(f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service}", f"http://127.0.0.1:{server.server_port}/")
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


def test_jobs_in_other_regions_are_cancelled_too(vertex: Vertex) -> None:
    here, there, elsewhere = (
        vertex.add(1, "RUNNING"),
        vertex.add(2, "RUNNING", region="s"),
        vertex.add(3, "RUNNING", region="t"),
    )
    vertex.objects = {"regions/s": 0, "runs/a/train-1.json": 9}
    assert regions("bucket", "", "r") == ["r", "s"]
    assert regions("no-such-bucket", "", "r") == ["r"]
    props = {"project": "p", "region": "r", "labels": LABELS, "bucket": "bucket", "on_destroy": "delete"}
    BeforeDestroyProvider().delete("id", props)
    assert sorted(vertex.cancelled) == sorted([here, there])
    assert vertex.jobs.keys() == {elsewhere} and vertex.jobs[elsewhere]["state"] == "JOB_STATE_RUNNING"


def test_a_job_that_does_not_end_is_named(vertex: Vertex, capsys: pytest.CaptureFixture) -> None:
    name = vertex.add(1, "RUNNING")
    vertex.polls = 1_000_000
    times = iter(range(0, 1_000_000, 100))
    with pytest.raises(RestError, match=rf"{name}\..*nothing of it is deleted: run `pulumi destroy` again"):
        stop_jobs(Jobs("p", "r", LABELS), sleep=lambda _: None, clock=lambda: next(times))
    assert capsys.readouterr().out == f"{name} is cancelled and waited for\n"
    # the destroy that is run again asks no second time, and goes on once the job has ended
    vertex.polls = 2
    stop_jobs(Jobs("p", "r", LABELS), sleep=lambda _: None)
    assert vertex.cancelled == [name] and capsys.readouterr().out == ""


def test_a_refusal_is_in_the_services_words(vertex: Vertex) -> None:
    vertex.refuse = 403
    with pytest.raises(RestError, match="403 no permission to list"):
        stop_jobs(Jobs("p", "r", LABELS))


def test_an_unreachable_service_fails_the_deletion(vertex: Vertex) -> None:
    vertex.shutdown()
    vertex.server_close()
    with pytest.raises(RestError, match="not reached"):
        stop_jobs(Jobs("p", "r", LABELS))


def test_a_stack_renamed_or_moved_is_torn_down_under_its_old_name() -> None:
    old = {"project": "p", "region": "r", "labels": LABELS, "bucket": "b", "prefix": "", "on_destroy": "refuse"}
    provider = BeforeDestroyProvider()
    new = {**old, "repository": "i", "__provider": "y"}
    older = provider.diff("id", old, new)  # what a stack remembers may be older than a key
    assert older.changes and not older.replaces
    old = {**new, "__provider": "x"}
    assert not provider.diff("id", old, new).changes
    assert provider.diff("id", old, {key: value for key, value in new.items() if key != "repository"}).replaces == [
        "repository"
    ]
    assert provider.diff("id", old, {**new, "region": "s"}).replaces == ["region"]
    assert provider.diff("id", old, {**new, "bucket": "c"}).replaces == ["bucket"]
    assert provider.diff("id", old, {**new, "prefix": "odcloud-dev/"}).replaces == ["prefix"]
    decided = provider.diff("id", old, {**new, "on_destroy": "delete"})
    assert decided.changes and not decided.replaces


def test_results_are_what_training_and_evaluation_left(vertex: Vertex) -> None:
    assert results("bucket", "") == Results(0, 0) == results("no-such-bucket", "")
    vertex.objects = {
        "data/train-0.tfrecord": 7,
        "train/r/ckpt-1": 1_500_000,
        "train/r/ckpt-2": 500_000,
        "eval/r/metrics.json": 9,
    }
    assert results("bucket", "") == Results(3, 2_000_009)
    assert str(results("bucket", "")) == "3 objects of training and evaluation (2.0 MB)"
    assert str(Results(1, 12)) == "1 object of training and evaluation (12 B)"
    vertex.old = {"train/r/ckpt-1"}
    assert results("bucket", "") == Results(2, 2_000_009, 1)
    assert str(Results(2, 12, 1)) == "2 objects and 1 old generation of training and evaluation (12 B)"
    vertex.refuse = 403
    with pytest.raises(RestError, match="gs://bucket cannot be listed: 403 no permission"):
        results("bucket", "")


def test_sizes_are_rounded() -> None:
    assert [size(value) for value in (0, 999, 1000, 1_234_567, 2e9, 3e12, 4e15)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.2 MB",
        "2.0 GB",
        "3.0 TB",
        "4000.0 TB",
    ]


def test_results_stop_a_destroy_unless_it_was_decided(vertex: Vertex, capsys: pytest.CaptureFixture) -> None:
    spare("bucket", "", "refuse")  # holds none
    vertex.objects = {"train/r/ckpt-1": 10}
    with pytest.raises(RestError, match=r"1 object .* in gs://bucket would be lost, so nothing is deleted.*onDestroy delete"):
        spare("bucket", "", "refuse")
    assert capsys.readouterr().out == ""
    spare("bucket", "", "delete")
    spare("bucket", "", "keepCheckpoints")
    gone, kept = capsys.readouterr().out.splitlines()
    assert "go with the bucket" in gone and "the bucket is kept" in kept
    vertex.old = {"train/r/ckpt-1"}  # deleted, but to be had back
    with pytest.raises(RestError, match=r"0 objects and 1 old generation .* would be lost"):
        spare("bucket", "", "refuse")


def test_in_a_bucket_of_others_only_what_is_the_stacks_own(vertex: Vertex, capsys: pytest.CaptureFixture) -> None:
    vertex.objects = {"train/theirs": 10, "odcloud-dev/train/r/ckpt-1": 5, "odcloud-dev/regions/s": 0, "regions/t": 0}
    assert results("bucket", "odcloud-dev/") == Results(1, 5)
    assert regions("bucket", "odcloud-dev/", "r") == ["r", "s"]
    spare("bucket", "odcloud-dev/", "delete")
    spare("bucket", "odcloud-dev/", "keepCheckpoints")
    where = "1 object of training and evaluation (5 B) in gs://bucket/odcloud-dev"
    assert capsys.readouterr().out.splitlines() == [f"{where} are deleted", f"{where} stay"]


def test_a_refused_destroy_has_not_touched_a_job(vertex: Vertex) -> None:
    vertex.add(1, "RUNNING")
    vertex.objects = {"train/r/ckpt-1": 10}
    props = {"project": "p", "region": "r", "labels": LABELS, "bucket": "bucket", "on_destroy": "refuse"}
    with pytest.raises(RestError):
        BeforeDestroyProvider().delete("id", props)
    assert vertex.cancelled == []
    BeforeDestroyProvider().delete("id", {**props, "on_destroy": "delete"})
    assert len(vertex.cancelled) == 1


@pytest.mark.parametrize("on_destroy", ["delete", "refuse", "keepCheckpoints"])
def test_ended_jobs_go_with_what_they_have_made(on_destroy: str, vertex: Vertex, capsys: pytest.CaptureFixture) -> None:
    mine = {vertex.add(1, "SUCCEEDED"), vertex.add(2, "FAILED"), vertex.add(3, "RUNNING")}
    others = {vertex.add(4, "SUCCEEDED", {"odcloud-stack": "another"}), vertex.add(5, "SUCCEEDED", {})}
    vertex.kept = {"projects/p/locations/r/customJobs/2"}
    props = {"project": "p", "region": "r", "labels": LABELS, "bucket": "bucket", "on_destroy": on_destroy}
    BeforeDestroyProvider().delete("id", props)
    told = [line for line in capsys.readouterr().out.splitlines() if "stays" in line]
    if on_destroy == "keepCheckpoints":
        assert vertex.jobs.keys() == mine | others and not told
    else:
        assert vertex.jobs.keys() == vertex.kept | others
        assert told == [f"{name} has ended and stays: 403 no permission to delete" for name in vertex.kept]
