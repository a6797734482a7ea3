"""Calls over a real HTTP server that misbehaves on request."""

from __future__ import annotations

import json
import runpy
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import UserError
from launcher.google import api
from launcher.google.api import Google, GoogleError


class Service(ThreadingHTTPServer):
    """Answers with what `answers` holds, one after the other: (status, body, headers), or None to hang up without an answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, Any, dict[str, str]] | None] = []
        self.requests: list[tuple[str, str, bytes]] = []
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def _answer(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.command, self.path, content))
        self.server.headers.append(dict(self.headers))
        answer = self.server.answers.pop(0)
        if answer is None:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        status, body, headers = answer
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = _answer

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", "secret")
    for name in api.VERSIONS:
        monkeypatch.delenv(api.override_name(name), raising=False)
    monkeypatch.setattr(api.time, "sleep", lambda seconds: None)
    with Service() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def client(service: Service) -> Google:
    return Google("us-central1", dict.fromkeys(api.VERSIONS, service.url))


NAME = "projects/p/locations/us-central1/customJobs/1"
PARENT = "projects/p/locations/us-central1"


def test_addresses_come_from_the_discovery_documents(service: Service) -> None:
    service.answers = [(200, {}, {})] * 3
    client(service).call(
        "aiplatform.projects.locations.customJobs.list", parent=PARENT, filter='display_name="a b"', pageSize=5
    )
    client(service).call("storage.objects.get", bucket="b", object="a/b c.txt")
    client(service).upload("b", "a/b.json", b"{}", "application/json", if_generation=0)
    assert [path for _, path, _ in service.requests] == [
        "/v1/projects/p/locations/us-central1/customJobs?filter=display_name%3D%22a+b%22&pageSize=5",
        "/storage/v1/b/b/o/a%2Fb%20c.txt",
        "/upload/storage/v1/b/b/o?name=a%2Fb.json&uploadType=media&ifGenerationMatch=0",
    ]


def test_a_parameter_that_the_method_does_not_have_is_a_bug(service: Service) -> None:
    with pytest.raises(TypeError, match="pagesize"):
        client(service).call("storage.objects.list", bucket="b", pagesize=3)


@pytest.fixture
def signed_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Application Default Credentials as `gcloud auth application-default login` leaves them, with these fields besides."""

    def sign_in(**more: str) -> None:
        monkeypatch.delenv("GOOGLE_OAUTH_ACCESS_TOKEN")
        monkeypatch.delenv("GOOGLE_CLOUD_QUOTA_PROJECT", raising=False)
        user = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r", "token": "user's"}
        path = tmp_path / "adc.json"
        path.write_text(json.dumps({**user, "expiry": "2999-01-01T00:00:00Z", **more}))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))

    return sign_in


def test_calls_count_against_the_credentials_quota_project(
    service: Service, signed_in: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    service.answers = [(200, {}, {})] * 4
    client(service).call("storage.buckets.get", bucket="b")
    signed_in(quota_project_id="kites")
    client(service).call("storage.buckets.get", bucket="b")
    client(service).upload("b", "a.json", b"{}", "application/json", if_generation=0)
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "balloons")
    client(service).call("storage.buckets.get", bucket="b")
    assert [headers["Authorization"] for headers in service.headers] == ["Bearer secret", *["Bearer user's"] * 3]
    assert [headers.get("X-Goog-User-Project") for headers in service.headers] == [None, "kites", "kites", "balloons"]


def test_a_token_that_nobody_renews_is_an_outage_and_not_a_refusal(
    service: Service, signed_in: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    signed_in(expiry="2020-01-01T00:00:00Z")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
    with pytest.raises(GoogleError) as caught:
        client(service).call("aiplatform.projects.locations.customJobs.create", parent=PARENT, body={})
    assert caught.value.transient and not caught.value.unclear
    assert "no new access token" in str(caught.value)
    with pytest.raises(UserError, match="no new access token"):
        client(service).access_token()
    assert service.requests == []


@pytest.mark.parametrize("trouble", [(503, {}, {}), (429, {}, {}), (500, b"<html>", {}), None])
def test_reads_are_repeated(service: Service, trouble: Any) -> None:
    service.answers = [trouble, trouble, (200, {"state": "JOB_STATE_RUNNING"}, {})]
    got = client(service).call("aiplatform.projects.locations.customJobs.get", name=NAME)
    assert got == {"state": "JOB_STATE_RUNNING"}
    assert len(service.requests) == 3


@pytest.mark.parametrize("trouble", [(503, {}, {}), (429, {}, {}), None])
def test_what_creates_is_sent_once_whatever_happens(service: Service, trouble: Any) -> None:
    service.answers = [(200, {}, {}), trouble]
    google = client(service)
    google.call("aiplatform.projects.locations.customJobs.get", name=NAME)  # leaves a connection open, that may be stale
    with pytest.raises(GoogleError) as caught:
        google.call("aiplatform.projects.locations.customJobs.create", parent=PARENT, body={})
    assert caught.value.transient
    assert [verb for verb, _, _ in service.requests] == ["GET", "POST"]


def test_the_end_of_patience(service: Service) -> None:
    service.answers = [(503, {"error": {"code": 503, "status": "UNAVAILABLE", "message": "Try later."}}, {})] * 9
    with pytest.raises(GoogleError) as caught:
        client(service).call("storage.buckets.get", bucket="b")
    assert len(service.requests) == api.ATTEMPTS
    assert "answered 503 UNAVAILABLE to storage.buckets.get: Try later.; that is the service's own trouble" in str(caught.value)


def test_retry_after_is_honoured(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(api.time, "sleep", slept.append)
    date = {"Date": "Fri, 01 Jan 2027 00:00:00 GMT", "Retry-After": "Fri, 01 Jan 2027 00:00:20 GMT"}
    service.answers = [(429, {}, {"Retry-After": "7"}), (503, {}, date), (200, {}, {})]
    client(service).call("storage.buckets.get", bucket="b")
    assert 7 <= slept[0] < 8
    assert len(slept) == 2
    assert slept[1] >= 20


def test_a_service_that_asks_for_too_much_patience_is_not_asked_again(service: Service) -> None:
    service.answers = [(429, {}, {"Retry-After": "9999"}), (200, {}, {})]
    with pytest.raises(GoogleError) as caught:
        client(service).call("storage.buckets.get", bucket="b")
    assert caught.value.retry_after == 9999
    assert len(service.requests) == 1


def test_pauses_grow_and_differ() -> None:
    first, fourth = [api.pause(1) for _ in range(50)], [api.pause(4) for _ in range(50)]
    assert len(set(first)) > 1
    assert max(first) <= 0.8 < min(fourth)


def test_a_request_that_is_not_allowed_any_more_is_not_sent(service: Service) -> None:
    with pytest.raises(GoogleError) as caught:
        client(service).call("aiplatform.projects.locations.customJobs.create", parent=PARENT, body={}, allowed=lambda: False)
    assert not caught.value.sent
    assert not caught.value.unclear
    assert service.requests == []


@pytest.mark.parametrize(
    ("trouble", "unclear"), [((503, {}, {}), True), ((408, {}, {}), True), ((429, {}, {}), False), (None, True)]
)
def test_which_failures_leave_it_unclear_what_happened(service: Service, trouble: Any, unclear: bool) -> None:
    service.answers = [trouble]
    with pytest.raises(GoogleError) as caught:
        client(service).call("aiplatform.projects.locations.customJobs.create", parent=PARENT, body={})
    assert caught.value.unclear == unclear


@pytest.mark.parametrize("page", [b"<html>Sign in</html>", b"\xff", b"[1]"])
def test_a_page_in_the_place_of_an_answer(service: Service, page: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy's sign-in page, or another server's: whether the call was carried out behind it nobody knows."""
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE", service.url)
    google = client(service)
    calls: list[Callable[[], Any]] = [
        lambda: google.call("aiplatform.projects.locations.customJobs.create", parent=PARENT, body={}),
        lambda: google.call("storage.buckets.get", bucket="b"),
        lambda: google.upload("b", "a.json", b"{}", "application/json", if_generation=0),
        lambda: google.begin_upload("b", "a", "text/plain", if_generation=0),
        lambda: google.upload_part(f"{service.url}upload", b"a", 0, 1),
    ]
    for call in calls:
        service.answers = [(200, page, {})]
        with pytest.raises(GoogleError) as caught:
            call()
        assert caught.value.status is None and caught.value.unclear and not service.answers
    address = service.url.rstrip("/")
    assert str(caught.value).startswith(
        f"{address} (that address is $CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE) answered storage."
    )
    assert "check that the address is the service's, and that no proxy or sign-in page stands before it" in str(caught.value)


def test_the_digest_of_the_documents_is_up_to_date() -> None:
    path = Path(api.__file__).parents[2] / "tools" / "methods.py"
    tool = runpy.run_path(str(path))
    assert tool["TARGET"].read_text() == tool["text"](), "run `python tools/methods.py`"


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "out of date"), (403, "lacks a permission"), (400, "bad field"), (404, "bad field")]
)
def test_refusals_are_said_at_once_with_advice(service: Service, status: int, advice: str) -> None:
    service.answers = [(status, {"error": {"code": status, "status": "X", "message": "bad field"}}, {})]
    with pytest.raises(GoogleError) as caught:
        client(service).call("storage.buckets.get", bucket="b")
    assert advice in str(caught.value)
    assert "secret" not in str(caught.value)


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", "secret")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE", f"{address}/storage/v1/")
    monkeypatch.setattr(api.time, "sleep", lambda seconds: None)
    with pytest.raises(GoogleError) as caught:
        Google("us-central1").call("storage.buckets.get", bucket="b")
    assert str(caught.value).startswith(f"cannot reach {address} (that address is $CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE): ")


def test_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in api.VERSIONS:
        monkeypatch.delenv(api.override_name(name), raising=False)
    assert Google("europe-west4").base_url("aiplatform") == "https://europe-west4-aiplatform.googleapis.com/"
    assert Google("europe-west4").base_url("storage") == "https://storage.googleapis.com/"
    stack = {"logging": "http://127.0.0.1:1"}
    assert Google("europe-west4", stack).base_url("logging") == "http://127.0.0.1:1/"
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING", "http://127.0.0.1:2/")
    assert Google("europe-west4", stack).base_url("logging") == "http://127.0.0.1:2/"


def test_a_method_of_another_version_is_named_with_it() -> None:
    found = api.discovered("serviceusage.services.consumerQuotaMetrics.list@v1beta1")
    assert found["path"] == "v1beta1/{+parent}/consumerQuotaMetrics"
    with pytest.raises(KeyError):
        api.discovered("serviceusage.services.consumerQuotaMetrics.list")
