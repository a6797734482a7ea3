"""One launch, one job, however bad the way to Google: a gateway before a real local cloud loses and refuses what it should."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from launcher_stage import Stage

LOSE_ANSWER, LOSE_REQUEST = "lose the answer", "lose the request"


class Gateway(ThreadingHTTPServer):
    """Passes requests on to `port`; those whose verb and path end as `where` says meet the next of `troubles` first."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.port = port
        self.where = ("", "")
        self.troubles: list[str | int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Gateway

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        verb, end = self.server.where
        met = self.command == verb and self.path.partition("?")[0].endswith(end) and self.server.troubles
        trouble = self.server.troubles.pop(0) if met else None
        if trouble == LOSE_REQUEST:
            return self._hang_up()
        if isinstance(trouble, int):
            return self._answer(trouble, b'{"error": {"message": "Come back later.", "status": "TROUBLE"}}')
        onward = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        onward.request(
            self.command, self.path, body=body or None, headers={**self.headers, "Host": f"127.0.0.1:{self.server.port}"}
        )
        answer = onward.getresponse()
        content = answer.read()
        onward.close()
        if trouble == LOSE_ANSWER:
            return self._hang_up()
        return self._answer(answer.status, content)

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _hang_up(self) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = _pass

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("stage"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment.items():
            patch.setenv(name, value)
        try:
            made.fill_bucket()
            made.behave(steps=1)
            yield made
        finally:
            made.close()


@pytest.fixture
def gateway(stage: Stage) -> Iterator[Gateway]:
    with Gateway(stage.port) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def through(gateway: Gateway) -> dict[str, str]:
    return {f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{name}": gateway.url for name in ("AIPLATFORM", "STORAGE", "LOGGING")}


@pytest.mark.parametrize(
    ("run", "troubles"),
    [
        ("answer-lost", [LOSE_ANSWER]),
        ("request-lost", [LOSE_REQUEST]),
        ("unavailable", [503, 500]),
        ("busy", [429]),
        ("all", [503, LOSE_REQUEST, LOSE_ANSWER]),
    ],
)
def test_a_create_call_in_trouble_makes_one_job(stage: Stage, gateway: Gateway, run: str, troubles: list[str | int]) -> None:
    gateway.where, gateway.troubles = ("POST", "/customJobs"), list(troubles)
    done = stage.run(
        "train", "--config", "job.yaml", "--run", run, "--detach", "--format", "json", check=True, **through(gateway)
    )
    assert not gateway.troubles
    told = json.loads(done.stdout)
    assert told["run"] == run
    made = stage.session().jobs(display_name=run)
    assert [job["name"].rpartition("/")[2] for job in made] == [told["job"]]
    record = json.loads((stage.folder / f".odcloud/buckets/stage/runs/{run}/train-1.json").read_text())
    assert record["job"] == made[0]["name"]


@pytest.mark.parametrize("trouble", [LOSE_ANSWER, LOSE_REQUEST, 503])
def test_a_record_whose_answer_is_lost_is_known_as_one_s_own(stage: Stage, gateway: Gateway, trouble: str | int) -> None:
    run = f"record-{trouble}".replace(" ", "-")
    gateway.where, gateway.troubles = ("POST", "/upload/storage/v1/b/stage/o"), [trouble]
    stage.run("train", "--config", "job.yaml", "--run", run, "--detach", check=True, **through(gateway))
    assert not gateway.troubles
    assert len(stage.session().jobs(display_name=run)) == 1
    assert [path.name for path in (stage.folder / f".odcloud/buckets/stage/runs/{run}").iterdir()] == ["train-1.json"]


def test_a_refused_create_is_said_once_and_can_be_mended(stage: Stage, gateway: Gateway) -> None:
    gateway.where, gateway.troubles = ("POST", "/customJobs"), [403]
    done = stage.run("train", "--config", "job.yaml", "--run", "refused", **through(gateway))
    assert done.returncode == 2
    assert "answered 403 TROUBLE to aiplatform.projects.locations.customJobs.create: Come back later." in done.stderr
    assert stage.session().jobs(display_name="refused") == []
    mended = stage.run("train", "--config", "job.yaml", "--run", "refused", "--detach", check=True, **through(gateway))
    assert "waiting" not in mended.stderr
    assert len(stage.session().jobs(display_name="refused")) == 1


def test_following_outlives_lost_answers(stage: Stage, gateway: Gateway) -> None:
    gateway.where, gateway.troubles = ("POST", "/entries:list"), [503, LOSE_ANSWER, 429, LOSE_REQUEST, LOSE_ANSWER]
    done = stage.run("train", "--config", "job.yaml", "--run", "followed", check=True, **through(gateway))
    assert not gateway.troubles
    assert "step 1/1" in done.stderr
    assert done.stderr.count("chief: SUCCEEDED") == 1
