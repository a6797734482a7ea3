"""The end of a resumable upload: one request completes it, and a server that is killed meanwhile has not lost it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.requests import Request

from localcloud.api import ApiError, Call, handlers
from localcloud.cloud import Cloud, open_cloud
from localcloud.discovery import DOCUMENTS, Router
from localcloud.home import Home
from localcloud.server import load_services
from localcloud.services import uploads
from localcloud.services.objects import store

INSERT = next(each for each in Router(DOCUMENTS, lambda _: True).methods if each.id == "storage.objects.insert")
LAST = {"content-range": "bytes 3-5/6"}
QUESTION = {"content-range": "bytes */6"}


class Killed(BaseException):
    """The server ends here."""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    load_services()
    home = Home(tmp_path / "home")
    home.prepare()
    cloud = open_cloud(home, "http://127.0.0.1:1")
    uniform = {"uniformBucketLevelAccess": {"enabled": True}}
    settings = json.dumps({"location": "US", "storageClass": "STANDARD", "iamConfiguration": uniform})
    cloud.db.execute("INSERT INTO buckets VALUES ('b', 1, '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z', ?)", (settings,))
    (cloud.buckets / "b").mkdir()
    cloud.close()
    yield home


async def send(cloud: Cloud, verb: str, body: bytes = b"", headers: dict[str, str] | None = None, **params: str) -> Any:
    """The answer of `storage.objects.insert`."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    request = Request({"type": "http", "method": verb, "path": "/", "query_string": b"", "headers": raw}, receive)
    call = Call(INSERT, {"bucket": "b", **params}, {}, cloud, request, upload=True)
    answering: Any = handlers["storage.objects.insert"](call)
    return await answering


async def begun(cloud: Cloud) -> str:
    """The id of an upload that lacks its last three bytes and must make the object."""
    metadata = b'{"name": "x", "contentType": "text/plain"}'
    answer = await send(cloud, "POST", metadata, uploadType="resumable", ifGenerationMatch="0")
    upload_id = parse_qs(urlsplit(answer.headers["location"]).query)["upload_id"][0]
    sent = await send(cloud, "PUT", b"abc", {"content-range": "bytes 0-2/6"}, upload_id=upload_id)
    assert (sent.status_code, sent.headers["range"]) == (308, "bytes=0-2")
    return upload_id


def test_one_request_completes_an_upload(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = open_cloud(home, "http://127.0.0.1:1")
    reached, go_on = threading.Event(), threading.Event()
    digest_file = uploads.digest_file

    def slowly(file: Any) -> Any:
        reached.set()
        assert go_on.wait(60)
        return digest_file(file)

    monkeypatch.setattr(uploads, "digest_file", slowly)

    async def both() -> None:
        upload_id = await begun(cloud)
        first = asyncio.ensure_future(send(cloud, "PUT", b"def", LAST, upload_id=upload_id))
        assert await asyncio.to_thread(reached.wait, 60)
        for verb, body, headers in (("PUT", b"def", LAST), ("PUT", b"", QUESTION), ("DELETE", b"", {})):
            with pytest.raises(ApiError, match="Another request") as refused:
                await send(cloud, verb, body, headers, upload_id=upload_id)
            assert refused.value.code == 503
        go_on.set()
        made = await first
        assert made["size"] == "6"
        for headers in (LAST, QUESTION):
            assert await send(cloud, "PUT", b"def", headers, upload_id=upload_id) == made

    try:
        asyncio.run(both())
    finally:
        go_on.set()
        cloud.close()


def dies_at_the_row(monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> None:
    def die(_: object) -> None:
        raise Killed

    monkeypatch.setattr(store(cloud), "_write_row", die)


def dies_at_the_file(monkeypatch: pytest.MonkeyPatch, _: Cloud) -> None:
    replace = Path.replace

    def die(path: Path, target: Path) -> Path:
        if path.name.startswith("session-"):
            raise Killed
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", die)


@pytest.mark.parametrize("dies", [dies_at_the_row, dies_at_the_file])
@pytest.mark.parametrize(("body", "headers"), [(b"def", LAST), (b"", QUESTION)])
@pytest.mark.parametrize("listed", [False, True])
def test_an_upload_that_a_killed_server_was_completing_is_complete(
    home: Home, dies: Callable[[pytest.MonkeyPatch, Cloud], None], body: bytes, headers: dict[str, str], listed: bool
) -> None:
    cloud = open_cloud(home, "http://127.0.0.1:1")

    async def until_killed() -> str:
        upload_id = await begun(cloud)
        with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
            dies(patched, cloud)
            await send(cloud, "PUT", b"def", LAST, upload_id=upload_id)
        return upload_id

    upload_id = asyncio.run(until_killed())
    cloud.close()
    cloud = open_cloud(home, "http://127.0.0.1:1")
    if listed:  # whoever looks at the object first gives it a row
        store(cloud).get_many("b", ["x"], digests=True)
    made = asyncio.run(send(cloud, "PUT", body, headers, upload_id=upload_id))
    assert (made["size"], made["contentType"], made["metageneration"]) == ("6", "text/plain", "1")
    assert (cloud.buckets / "b" / "x").read_bytes() == b"abcdef"
    found = store(cloud).get("b", "x", digests=True)
    assert found is not None and str(found.generation) == made["generation"]
    assert found.md5 == made["md5Hash"] and found.metadata["contentType"] == "text/plain"
    cloud.close()
