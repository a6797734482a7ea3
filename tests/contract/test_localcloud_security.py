"""What must not get through: strangers, other sites, names and packages that lead out of their place. Nothing of it is written.

No token, a wrong Host and a wrong Origin are in test_localcloud_http.py."""

from __future__ import annotations

import socket
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from conftest import error_message
from packed import archive

from localcloud.jobs.environments import PackageError, bucket_file, prepare

if TYPE_CHECKING:
    from conftest import LocalCloud


def files(cloud: LocalCloud) -> set[Path]:
    """Every file that a request could have made, in the state folder's parent and below."""
    kept = {"cloud.sqlite", "cloud.sqlite-wal", "cloud.sqlite-shm", "server.log"}
    return {path for path in cloud.home.parent.rglob("*") if path.is_file() and path.name not in kept}


def raw(cloud: LocalCloud, head: str, body: bytes = b"") -> int:
    """The status of a request whose path is sent as it is written: clients tidy up `..`."""
    host, _, port = cloud.url.removeprefix("http://").partition(":")
    token = cloud.session.headers["Authorization"]
    authority = f"Host: {host}:{port}\r\nAuthorization: {token!s}"
    lines = f"{head} HTTP/1.1\r\n{authority}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(lines.encode() + body)
        answer = connection.makefile("rb").read()
    return int(answer.split()[1])


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"])
def test_a_form_on_another_site(local_cloud: LocalCloud, content_type: str) -> None:
    """A form can be posted across sites without asking first; it has the other site's Origin, and no token."""
    headers = {"Content-Type": content_type, "Origin": "https://evil.example"}
    for path in ("/storage/v1/b?project=odcloud-local", "/v1/projects/odcloud-local/jobs", "/_chaos"):
        answer = requests.post(local_cloud.url + path, data=b'{"name": "by-a-form"}', headers=headers, timeout=60)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
    # some browsers leave the Origin out: then the token is missing still
    answer = requests.post(f"{local_cloud.url}/_chaos", data=b"{}", headers={"Content-Type": content_type}, timeout=60)
    assert answer.status_code == 401
    local_cloud.refusal(404, "storage.buckets.get", bucket="by-a-form")
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert requests.options(f"{local_cloud.url}/storage/v1/b", headers=preflight, timeout=60).status_code == 403


@pytest.mark.parametrize(
    "name",
    ["../escape", "a/../../escape", "..", ".", "/escape", "a\0b", "a\r\nb", "%2e%2e/../escape", "a/./b", "..%2f/.."],
    ids=range(10),
)
def test_an_object_stays_below_its_bucket(local_cloud: LocalCloud, bucket: str, name: str) -> None:
    before = files(local_cloud)
    for kind in ("media", "resumable"):
        answer = local_cloud.request(
            "POST", f"/upload/storage/v1/b/{bucket}/o", params={"uploadType": kind, "name": name}, data=b"x"
        )
        assert answer.status_code == 400, answer.text
    assert files(local_cloud) == before


def test_percent_encoded_dots_are_a_name_like_any_other(local_cloud: LocalCloud, bucket: str) -> None:
    """Decoded once, and once only: `%2e%2e` is then no parent folder."""
    local_cloud.upload(bucket, "%2e%2e/kept", b"x")
    assert (local_cloud.home / "buckets" / bucket / "%2e%2e" / "kept").read_bytes() == b"x"
    assert not (local_cloud.home / "buckets" / "kept").exists()


@pytest.mark.parametrize(
    "path",
    [
        "/storage/v1/b/{bucket}/o/..%2F..%2Ftoken?alt=media",
        "/storage/v1/b/{bucket}/o/%2e%2e%2f%2e%2e%2ftoken?alt=media",
        "/storage/v1/b/{bucket}/o/%252e%252e%252ftoken?alt=media",
        "/storage/v1/b/{bucket}/o/../../../../token?alt=media",
        "/storage/v1/b/..%2F/o/token?alt=media",
        "/storage/v1/b/../o/token?alt=media",
        "/storage/v1/b/%2e%2e/o/token?alt=media",
        "/storage/v1/b/{bucket}%2F..%2F../o/token?alt=media",
        "/storage/v1/b/{bucket}/o/%2Fetc%2Fpasswd?alt=media",
        "/storage/v1/b/{bucket}/o/token%00?alt=media",
    ],
    ids=range(10),
)
def test_nothing_outside_a_bucket_is_read_or_deleted(local_cloud: LocalCloud, bucket: str, path: str) -> None:
    assert raw(local_cloud, f"GET {path.format(bucket=bucket)}") in (400, 404)
    assert raw(local_cloud, f"DELETE {path.format(bucket=bucket).partition('?')[0]}") in (400, 404)
    assert (local_cloud.home / "token").is_file()


@pytest.mark.parametrize("name", ["..", ".", "../x", "/abs", "a/b", "a\0b", "%2e%2e", "a..b", "UPPER"])
def test_bucket_names(local_cloud: LocalCloud, name: str) -> None:
    before = sorted((local_cloud.home / "buckets").iterdir()), sorted(local_cloud.home.iterdir())
    local_cloud.refusal(400, "storage.buckets.insert", {"name": name}, project="odcloud-local")
    assert (sorted((local_cloud.home / "buckets").iterdir()), sorted(local_cloud.home.iterdir())) == before


def test_a_symbolic_link_leads_nowhere(local_cloud: LocalCloud, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = local_cloud.home / "buckets" / bucket
    (folder / "folder").symlink_to(tmp_path)
    (folder / "file").symlink_to(tmp_path / "secret")
    for name in ("folder/secret", "file"):
        local_cloud.refusal(404, "storage.objects.get", bucket=bucket, object=name)
        assert local_cloud.download(bucket, name).status_code == 404
        local_cloud.refusal(404, "storage.objects.delete", bucket=bucket, object=name)
    assert "items" not in local_cloud.call("storage.objects.list", bucket=bucket)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "secret").touch()
    for asked in ({"prefix": "folder/", "delimiter": "/"}, {"prefix": "folder/", "maxResults": 1}, {"prefix": "folder/below/"}):
        assert local_cloud.call("storage.objects.list", bucket=bucket, **asked) == {"kind": "storage#objects"}
    params = {"uploadType": "media", "name": "folder/new"}
    assert local_cloud.request("POST", f"/upload/storage/v1/b/{bucket}/o", params=params, data=b"x").status_code == 400
    local_cloud.upload(bucket, "file", b"mine")  # takes the link's place
    assert {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()} == {"secret": "secret"}
    buckets = local_cloud.home / "buckets"
    with pytest.raises(PackageError):
        bucket_file(buckets, f"gs://{bucket}/folder/secret")
    for uri in (f"gs://{bucket}/../../token", "gs:///etc/passwd", "/etc/passwd", "gs://..", f"gs://{bucket}"):
        with pytest.raises(PackageError):
            bucket_file(buckets, uri)


@pytest.mark.parametrize("field", ["contentType", "contentDisposition", "contentEncoding", "contentLanguage", "cacheControl"])
def test_a_header_cannot_be_injected(local_cloud: LocalCloud, bucket: str, field: str) -> None:
    local_cloud.upload(bucket, "x", b"x")
    for value in ("a\r\nX-Injected: 1", "a\nb", "a\0b"):
        local_cloud.refusal(400, "storage.objects.patch", {field: value}, bucket=bucket, object="x")
    params = {"uploadType": "resumable", "name": "y"}
    opened = local_cloud.request("POST", f"/upload/storage/v1/b/{bucket}/o", params=params, json={field: "a\r\nX-Injected: 1"})
    if opened.ok:
        assert local_cloud.session.put(opened.headers["Location"], data=b"y", timeout=60).status_code == 400
    local_cloud.refusal(404, "storage.objects.get", bucket=bucket, object="y")
    answer = local_cloud.download(bucket, "x")
    assert answer.ok and "x-injected" not in answer.headers


@pytest.mark.parametrize("begin", [b"GET /", b"GET /healthz HTTP/1.1\r\nX-Long: ", b"GET /healthz HTTP/1.1\r\nX: x\r\n"])
def test_a_head_without_an_end(local_cloud: LocalCloud, begin: bytes) -> None:
    """Nobody has said yet who sends it, so it is not kept."""
    host, _, port = local_cloud.url.removeprefix("http://").partition(":")
    piece = b"X-More: 1\r\n" * 10_000 if begin.endswith(b"\n") else b"x" * 100_000
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(begin)
        with pytest.raises(OSError):
            for _ in range(1000):
                connection.sendall(piece)
    assert local_cloud.request("GET", "/healthz").ok


def test_a_header_that_is_not_latin(local_cloud: LocalCloud, bucket: str) -> None:
    local_cloud.upload(bucket, "x", b"x")
    disposition = 'attachment; filename="学.png"'
    local_cloud.call("storage.objects.patch", {"contentDisposition": disposition}, bucket=bucket, object="x")
    answer = local_cloud.download(bucket, "x")
    assert answer.headers["Content-Disposition"].encode("latin-1").decode() == disposition


def _sdist(path: Path, evil: str) -> None:
    project = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    project += '[project]\nname = "evil"\nversion = "0.1"\n'
    path.write_bytes(archive({"evil-0.1/pyproject.toml": project, "evil-0.1/evil/__init__.py": "", evil: "x"}))


def _wheel(path: Path, evil: str) -> None:
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("evil/__init__.py", "")
        wheel.writestr("evil-0.1.dist-info/METADATA", "Metadata-Version: 2.1\nName: evil\nVersion: 0.1\n")
        wheel.writestr(
            "evil-0.1.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("evil-0.1.dist-info/RECORD", "")
        wheel.writestr(evil, "x")


@pytest.mark.parametrize(("name", "build"), [("evil-0.1.tar.gz", _sdist), ("evil-0.1-py3-none-any.whl", _wheel)])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_package_cannot_write_outside_its_environment(
    tmp_path: Path, name: str, build: Callable[[Path, str], None], absolute: bool
) -> None:
    home = tmp_path / "a" / "home"
    home.mkdir(parents=True)
    target = tmp_path / "escaped"
    build(tmp_path / name, str(target) if absolute else "../" * 30 + str(target).lstrip("/"))
    with pytest.raises(PackageError, match=r"evil-0\.1"):
        prepare(home, [tmp_path / name], "test:1:packages", threading.Event())
    assert not target.exists()
    assert list((home / "environments").iterdir()) == []


def test_a_token_is_exchanged_for_itself_only(local_cloud: LocalCloud) -> None:
    """Application Default Credentials: whoever can read the token file gets the token, and nobody else."""
    token = (local_cloud.home / "token").read_text()
    assert token not in (local_cloud.home / "application_default_credentials.json").read_text()
    address = f"{local_cloud.url}/v1/token"
    assert requests.post(address, data={"subject_token": token}, timeout=60).json()["access_token"] == token
    for data in ({"subject_token": "x"}, {"subject_token": ""}, {}):
        answer = requests.post(address, data=data, timeout=60)
        assert answer.status_code == 401 and token not in answer.text
    evil = {"Origin": "https://evil.example"}
    assert requests.post(address, data={"subject_token": token}, headers=evil, timeout=60).status_code == 403


def test_copies_and_compositions_stay_below_their_bucket(local_cloud: LocalCloud, bucket: str) -> None:
    local_cloud.upload(bucket, "x", b"x")
    before = files(local_cloud)
    for name in ("../escape", "a/../../escape", "/escape", "a//b", "a\nb"):
        pair = {"sourceBucket": bucket, "sourceObject": "x", "destinationBucket": bucket, "destinationObject": name}
        for verb in ("copy", "rewrite"):
            local_cloud.refusal(400, f"storage.objects.{verb}", {}, **pair)
        local_cloud.refusal(400, "storage.objects.move", bucket=bucket, sourceObject="x", destinationObject=name)
        composed = {"sourceObjects": [{"name": "x"}]}
        local_cloud.refusal(400, "storage.objects.compose", composed, destinationBucket=bucket, destinationObject=name)
        local_cloud.refusal(404, "storage.objects.copy", {}, **{**pair, "sourceObject": name, "destinationObject": "y"})
        stolen = {"sourceObjects": [{"name": "../../token"}]}
        local_cloud.refusal(404, "storage.objects.compose", stolen, destinationBucket=bucket, destinationObject="y")
    assert files(local_cloud) == before


def batch(cloud: LocalCloud, *parts: str, **headers: str) -> requests.Response:
    body = "".join(
        f"--b\r\nContent-Type: application/http\r\nContent-ID: <{n}>\r\n\r\n{part}\r\n" for n, part in enumerate(parts)
    )
    content = {"Content-Type": "multipart/mixed; boundary=b", **headers}
    return cloud.request("POST", "/batch/storage/v1", data=f"{body}--b--\r\n".encode(), headers=content)


def test_a_batch_can_no_more_than_its_calls(local_cloud: LocalCloud, bucket: str) -> None:
    local_cloud.upload(bucket, "x", b"x")
    before = files(local_cloud)
    at = f"/storage/v1/b/{bucket}/o"
    answer = batch(
        local_cloud,
        f"GET {at}/..%2F..%2Ftoken HTTP/1.1\r\n\r\n",
        f"DELETE {at}/..%2F..%2Ftoken HTTP/1.1\r\n\r\n",
        f"POST {at}/x/copyTo/b/{bucket}/o/..%2Fescape HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{{}}",
        f"GET {at}/x HTTP/1.1\r\nHost: evil.example\r\nX-Injected: 1\r\n\r\n",
        f"GET {at}/x HTTP/1.1\r\nAuthorization: Bearer wrong\r\n\r\n",
    )
    statuses = [line.split()[1] for line in answer.text.splitlines() if line.startswith("HTTP/1.1")]
    assert statuses == ["404", "404", "400", "200", "401"]
    assert "X-Injected" not in answer.text
    for path in (
        "/batch/storage/v1",
        f"/upload{at}?name=y",
        f"{at}/x?alt=media",
        f"{at}/x?alt=%6dedia",
        f"/{bucket}/x",
        "/ui/jobs",
    ):
        message = error_message(batch(local_cloud, f"GET {path} HTTP/1.1\r\n\r\n"), 400)
        assert "A batch takes calls of /storage/v1/" in message
    assert "at most 100" in error_message(batch(local_cloud, *[f"GET {at}/x HTTP/1.1\r\n\r\n"] * 101), 400)
    assert "not multipart" in error_message(batch(local_cloud), 400)
    assert batch(local_cloud, f"GET {at}/x HTTP/1.1\r\n\r\n", Origin="https://evil.example").status_code == 403
    assert requests.post(f"{local_cloud.url}/batch/storage/v1", timeout=60).status_code == 401
    assert files(local_cloud) == before


def test_the_plain_path_of_an_object(local_cloud: LocalCloud, bucket: str) -> None:
    local_cloud.upload(bucket, "a/b", b"content")
    assert local_cloud.request("GET", f"/{bucket}/a/b").content == b"content"
    assert local_cloud.request("HEAD", f"/{bucket}/a/b").headers["Content-Length"] == "7"
    for path in (
        f"/{bucket}/../../token",
        f"/{bucket}/..%2F..%2Ftoken",
        "/%2e%2e/token",
        f"/{bucket}%2F..%2F../token",
        "//token",
    ):
        assert raw(local_cloud, f"GET {path}") == 404
    assert requests.get(f"{local_cloud.url}/{bucket}/a/b", timeout=60).status_code == 401
