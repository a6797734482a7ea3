"""Reads that are answered at once, and files that the kernel sends: nothing is skipped and nothing is old."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from email.utils import parsedate_to_datetime
from http.client import HTTPResponse
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import LocalCloud

BUCKET = "read-at-once"
SMALL = "/storage/v1/b/read-at-once/o/folder%2Fsmall"
LARGE = "/storage/v1/b/read-at-once/o/large?alt=media"
CONTENT = os.urandom(9_000_001)


@pytest.fixture(scope="module")
def cloud(local_cloud: LocalCloud) -> Iterator[LocalCloud]:
    local_cloud.call("storage.buckets.insert", {"name": BUCKET}, project="odcloud-local")
    local_cloud.upload(BUCKET, "folder/small", b"small")
    local_cloud.upload(BUCKET, "large", CONTENT)
    yield local_cloud
    local_cloud.request("DELETE", "/_chaos")
    for item in local_cloud.call("storage.objects.list", bucket=BUCKET).get("items", []):
        local_cloud.call("storage.objects.delete", bucket=BUCKET, object=item["name"])
    local_cloud.call("storage.buckets.delete", bucket=BUCKET)


def connect(cloud: LocalCloud) -> socket.socket:
    host, _, port = cloud.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def head(cloud: LocalCloud, path: str, *lines: str) -> bytes:
    """A GET with the right host and token, unless `lines` has others."""
    names = [line.partition(":")[0].lower() for line in lines]
    usual = {
        "host": f"Host: {cloud.url.removeprefix('http://')}",
        "authorization": f"Authorization: {cloud.session.headers['Authorization']!s}",
    }
    every = [line for name, line in usual.items() if name not in names] + [line for line in lines if line]
    return "\r\n".join([f"GET {path} HTTP/1.1", *every, "", ""]).encode()


def answers(connection: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Status and content of each."""
    found = []
    with connection.makefile("rb") as stream:
        for _ in range(count):
            status = int(stream.readline().split()[1])
            lines = dict(line.lower().split(b":", 1) for line in iter(stream.readline, b"\r\n"))
            assert b"date" in lines
            found.append((status, stream.read(int(lines[b"content-length"]))))
    return found


def test_many_requests_sent_at_once_are_answered_in_their_order(cloud: LocalCloud) -> None:
    paths = [f"{SMALL}?alt=media", LARGE, f"{SMALL}?alt=media", "/storage/v1/b/absent", LARGE, f"{SMALL}?fields=name"] * 3
    with connect(cloud) as connection:
        connection.sendall(b"".join(head(cloud, path) for path in paths))
        found = answers(connection, len(paths))
    assert [status for status, _ in found] == [200, 200, 200, 404, 200, 200] * 3
    assert {body for _, body in found[0::6] + found[2::6]} == {b"small"}
    assert all(body == CONTENT for _, body in found[1::6] + found[4::6])
    assert {body for _, body in found[5::6]} == {b'{"name":"folder/small"}'}


def test_what_is_refused_is_refused_after_it_was_answered_to_others_too(cloud: LocalCloud) -> None:
    port = cloud.url.rpartition(":")[2]
    refused = (
        (401, ["Authorization: Bearer wrong"]),
        (401, ["Authorization:"]),
        (401, ["Authorization: Basic abc", f"Authorization: {cloud.session.headers['Authorization']!s}"]),
        (403, ["Host: evil.example"]),
        (403, ["Host: evil.example", f"Host: 127.0.0.1:{port}"]),
        (403, ["Origin: http://evil.example"]),
        (403, [f"Origin: {cloud.url}", "Host: evil.example"]),
    )
    for path in (SMALL, f"{SMALL}?alt=media", LARGE, f"/storage/v1/b/{BUCKET}"):
        with connect(cloud) as connection:
            connection.sendall(head(cloud, path))
            assert answers(connection, 1)[0][0] == 200
            for status, lines in refused:
                connection.sendall(head(cloud, path, *lines))
                assert answers(connection, 1)[0][0] == status, (path, lines)


def test_a_closing_request_is_answered_and_the_connection_ends(cloud: LocalCloud) -> None:
    for path, content in ((f"{SMALL}?alt=media", b"small"), (LARGE, CONTENT)):
        with connect(cloud) as connection:
            connection.sendall(head(cloud, path, "Connection: close"))
            with closing(HTTPResponse(connection)) as answer:
                answer.begin()
                assert answer.getheader("Connection") == "close" and answer.read() == content
            assert connection.recv(1) == b""


def test_reads_see_every_change_at_once(cloud: LocalCloud) -> None:
    path = cloud.home / "buckets" / BUCKET / "changing"
    for number in range(3):
        cloud.upload(BUCKET, "changing", b"u%d" % number)
        assert cloud.request("GET", f"/storage/v1/b/{BUCKET}/o/changing?alt=media").content == b"u%d" % number
        generation = cloud.call("storage.objects.get", bucket=BUCKET, object="changing")["generation"]
        cloud.call("storage.objects.patch", {"metadata": {"n": str(number)}}, bucket=BUCKET, object="changing")
        found = cloud.call("storage.objects.get", bucket=BUCKET, object="changing")
        assert (found["generation"], found["metadata"]) == (generation, {"n": str(number)})
        path.write_bytes(b"a job's %d" % number)
        assert cloud.request("GET", f"/storage/v1/b/{BUCKET}/o/changing?alt=media").content == b"a job's %d" % number
        assert cloud.call("storage.objects.get", bucket=BUCKET, object="changing")["generation"] != generation
        cloud.call("storage.buckets.patch", {"labels": {"n": str(number)}}, bucket=BUCKET)
        assert cloud.call("storage.buckets.get", bucket=BUCKET)["labels"] == {"n": str(number)}
    path.unlink()
    cloud.refusal(404, "storage.objects.get", bucket=BUCKET, object="changing")


def test_faults_and_the_clock_reach_reads(cloud: LocalCloud) -> None:
    assert cloud.request("GET", SMALL).ok
    try:
        cloud.request("POST", "/_chaos", json={"target": "storage.objects.get", "kind": "503", "calls": 2})
        assert [cloud.request("GET", SMALL).status_code for _ in range(3)] == [503, 503, 200]
        cloud.request("POST", "/_chaos", json={"skew": 7 * 24 * 3600})
        for path in (SMALL, LARGE):
            ahead = parsedate_to_datetime(cloud.request("GET", path).headers["Date"]).timestamp() - time.time()
            assert abs(ahead - 7 * 24 * 3600) < 600
    finally:
        cloud.request("DELETE", "/_chaos")


def test_parts_of_a_large_object_and_a_reader_that_goes_away(cloud: LocalCloud) -> None:
    logged = (cloud.home / "server.log").stat().st_size
    for first, last in ((0, 8_999_999), (1_000_000, 9_000_000), (8_000_000, 9_000_000)):
        answer = cloud.request("GET", LARGE, headers={"Range": f"bytes={first}-{last}"})
        assert answer.status_code == 206 and answer.content == CONTENT[first : last + 1]
    answer = cloud.request("HEAD", f"/{BUCKET}/large")
    assert answer.headers["Content-Length"] == str(len(CONTENT))
    for _ in range(5):
        with connect(cloud) as connection:
            connection.sendall(head(cloud, LARGE))
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")
    answer = cloud.request("GET", LARGE)
    assert hashlib.sha256(answer.content).digest() == hashlib.sha256(CONTENT).digest()
    assert "Traceback" not in (cloud.home / "server.log").read_text()[logged:]
