"""`odcloud data fetch` from a real HTTP server that knows ranges, and that breaks off, is busy, or lies when told to."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import json
import random
import re
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest

from trainer.data import fetch, unpack
from trainer.data.__main__ import main
from trainer.errors import InputError


class Server(http.server.ThreadingHTTPServer):
    """files: by name. break_after: the next answers end after so many bytes. statuses: of the next answers. asked: ranges."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.break_after: list[int] = []
        self.statuses: list[int] = []
        self.asked: list[str | None] = []
        self.knows_ranges = True
        self.slow = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.asked.append(wanted)
        if self.server.statuses:
            return self.send_error(self.server.statuses.pop(0))
        content = self.server.files.get(self.path.rpartition("/")[2])
        if content is None:
            return self.send_error(404)
        match = re.fullmatch(r"bytes=(\d+)-", wanted or "") if self.server.knows_ranges else None
        first = int(match[1]) if match else 0
        if first >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            return self.end_headers()
        self.send_response(206 if match else 200)
        if match:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        body = content[first:]
        end = self.server.break_after.pop(0) if self.server.break_after else len(body)
        for start in range(0, min(end, len(body)), 10_000):
            with contextlib.suppress(OSError):
                self.wfile.write(body[start : min(start + 10_000, end)])
            threading.Event().wait(self.server.slow)
        return None

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def tar(*members: tuple[str, bytes] | tarfile.TarInfo, mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


@pytest.fixture
def pets(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The small Pets, in two archives as published, served. What is not small: noise, to have something to break off."""
    source = datasets.pets(tmp_path / "pets-source")
    archives = {}
    for name in ("annotations", "images"):
        members = [
            (path.relative_to(source).as_posix(), path.read_bytes()) for path in (source / name).rglob("*") if path.is_file()
        ]
        archives[f"{name}.tar.gz"] = tar(*members, (f"{name}/noise", random.Random(0).randbytes(200_000)), mode="w:gz")
    server.files.update(archives)
    known = tuple(
        fetch.Archive(f"{server.url}/pets/{name}", hashlib.md5(content).hexdigest()) for name, content in archives.items()
    )
    monkeypatch.setitem(fetch.DATASETS, "pets", fetch.Published(known, "pets", ""))
    monkeypatch.setattr(fetch.time, "sleep", lambda seconds: None)
    return archives


def command(*words: object) -> int:
    return main(["fetch", *map(str, words)])


def same_files(made: Path, source: Path) -> bool:
    names = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    return all((made / name).read_bytes() == (source / name).read_bytes() for name in names)


def test_a_dataset_is_fetched_once_and_can_be_converted(
    pets: dict[str, bytes], server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "pets"
    assert command("pets", place) == 0
    out = capsys.readouterr().out
    assert "is ready" in out and f"odcloud data convert --format pets {place} pets-records" in out
    assert same_files(place, tmp_path / "pets-source")
    assert sorted(path.name for path in place.iterdir()) == [fetch.MARKER, "annotations", "images"]
    assert server.asked == [None, None]
    assert command("pets", place) == 0
    assert "is up to date" in capsys.readouterr().out and len(server.asked) == 2
    assert main(["convert", "--format=pets", str(place), str(tmp_path / "records"), "--processes=1"]) == 0


def test_broken_off_it_goes_on_where_it_was(pets: dict[str, bytes], server: Server, tmp_path: Path) -> None:
    server.break_after = [50_000, 70_000, 0, 10]
    server.statuses = [503]
    assert command("pets", tmp_path / "pets") == 0
    assert server.asked[:6] == [None, None, "bytes=50000-", "bytes=120000-", "bytes=120000-", "bytes=120010-"]
    assert same_files(tmp_path / "pets", tmp_path / "pets-source")


def test_killed_and_repeated_it_goes_on(
    pets: dict[str, bytes], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.slow = 0.02
    known = repr([tuple(archive) for archive in fetch.DATASETS["pets"].archives])
    script = (
        "from trainer.data import __main__, fetch\n"
        f"known = tuple(fetch.Archive(*pair) for pair in {known})\n"
        'fetch.DATASETS["pets"] = fetch.Published(known, "pets", "")\n'
        f'__main__.main(["fetch", "pets", {str(tmp_path / "pets")!r}])\n'
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    partial = tmp_path / "pets/annotations.tar.gz.partial"
    deadline = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size > 20_000):
        assert process.poll() is None and time.monotonic() < deadline
    process.kill()
    process.wait()
    there = partial.stat().st_size
    server.slow = 0.0
    assert command("pets", tmp_path / "pets") == 0
    assert f"bytes={there}-" in server.asked and there > 20_000
    assert same_files(tmp_path / "pets", tmp_path / "pets-source")


def test_a_server_without_ranges_and_a_partial_file_of_another_size(
    pets: dict[str, bytes], server: Server, tmp_path: Path
) -> None:
    server.knows_ranges = False
    place = tmp_path / "pets"
    place.mkdir()
    (place / "annotations.tar.gz.partial").write_bytes(b"x" * 100)
    assert command("pets", place) == 0
    server.knows_ranges = True
    longer = tmp_path / "longer"
    longer.mkdir()
    (longer / "annotations.tar.gz.partial").write_bytes(b"x" * 10_000_000)
    (longer / "images.tar.gz.partial").write_bytes(pets["images.tar.gz"])  # whole, and not yet renamed
    assert command("pets", longer, "--from", f"{server.url}/mirror") == 0
    assert same_files(longer, tmp_path / "pets-source")


def test_another_checksum_is_told_and_thrown_away(
    pets: dict[str, bytes], server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files["images.tar.gz"] = server.files["images.tar.gz"][:-1] + b"?"
    assert command("pets", tmp_path / "pets") == 2
    err = capsys.readouterr().err
    assert "images.tar.gz: what arrived has the checksum" in err and "Run the command again" in err
    assert not list((tmp_path / "pets").glob("images*"))
    (tmp_path / "pets/images.tar.gz").write_bytes(pets["images.tar.gz"])  # copied there by hand
    assert command("pets", tmp_path / "pets") == 0
    assert same_files(tmp_path / "pets", tmp_path / "pets-source")


def test_no_network_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("voc2007", tmp_path / "voc", "--from", "http://127.0.0.1:1/x") == 2
    err = capsys.readouterr().err
    assert err.startswith("odcloud: error: http://127.0.0.1:1/x/VOCtrainval_06-Nov-2007.tar: cannot be fetched: ")
    assert "Is there a network, and does it reach 127.0.0.1:1?" in err and "--from" in err and len(err.splitlines()) == 1


def test_what_the_server_has_not_is_told(
    pets: dict[str, bytes], server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del server.files["annotations.tar.gz"]
    assert command("pets", tmp_path / "pets", "--format=json") == 2
    assert "annotations.tar.gz: the server answered 404 Not Found" in capsys.readouterr().err
    assert command("pets", tmp_path / "pets", "--from", "ftp://x") == 2
    assert command("coco", tmp_path / "pets") == 2


def member(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tar(("../outside", b"x")), "would be written outside of"),
        (tar(("a/../../outside", b"x")), "would be written outside of"),
        (tar(("/tmp/odcloud-outside", b"x")), "would be written outside of"),
        (tar(("a\nb", b"x")), "would be written outside of"),
        (tar(member("link", tarfile.SYMTYPE, "/etc")), "neither a file nor a folder"),
        (tar(member("link", tarfile.LNKTYPE, "../x")), "neither a file nor a folder"),
        (tar(member("pipe", tarfile.FIFOTYPE)), "neither a file nor a folder"),
        (tar(("there/x", b"x")), "lies behind a symbolic link"),
        (b"not a tar archive at all", "is not a whole tar archive"),
        pytest.param(tar(("a", b"x" * 100_000), mode="w:gz")[:90], "is not a whole tar archive", id="cut short"),
    ],
)
def test_an_archive_writes_nowhere_else(content: bytes, message: str, tmp_path: Path) -> None:
    place, elsewhere = tmp_path / "place", tmp_path / "elsewhere"
    place.mkdir()
    elsewhere.mkdir()
    (place / "there").symlink_to(elsewhere)
    (tmp_path / "archive.tar").write_bytes(content)
    with pytest.raises(InputError, match=message):
        unpack.unpack(tmp_path / "archive.tar", place)
    assert not list(elsewhere.iterdir()) and not (tmp_path / "outside").exists()
    assert not list(place.rglob("*.partial"))


def test_archives_too_large_to_be_true_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MAX_BYTES", 1000)
    (tmp_path / "bomb.tar.gz").write_bytes(tar(("a", bytes(600)), ("b", bytes(600)), mode="w:gz"))
    with pytest.raises(InputError, match=r"holds more than 1000 bytes"):
        unpack.unpack(tmp_path / "bomb.tar.gz", tmp_path / "place")


def test_json_is_for_programs(pets: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("pets", tmp_path / "pets", "--format=json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["files"] == sum(1 for path in (tmp_path / "pets").rglob("*") if path.is_file()) - 1
    assert (found["format"], found["up_to_date"]) == ("pets", False)
