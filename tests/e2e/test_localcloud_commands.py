"""`odcloud local …` as a user runs it: real processes, real clients."""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from free_port import free_port
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build_from_document
from googleapiclient.http import MediaFileUpload

from localcloud.discovery import load_document

ROOT = Path(__file__).parents[2]


class User:
    """Runs commands in a folder of their own, with a state folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "state"
        self.environment = {**os.environ, "ODCLOUD_HOME": str(self.home), "PYTHONPATH": str(ROOT)}

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "localcloud", *words],
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def json(self, *words: str) -> dict[str, Any]:
        done = self.run(*words, "--format", "json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def error(self, *words: str, **environment: str) -> str:
        """The one error of a command that must fail: exit code 2, no traceback."""
        done = self.run(*words, **environment)
        assert done.returncode == 2, (done.stdout, done.stderr)
        assert done.stderr.count("odcloud: error: ") == 1
        return done.stderr

    def session(self) -> requests.Session:
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {(self.home / 'token').read_text()}"
        return session


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    found = User(tmp_path)
    yield found
    found.run("stop")
    left = [process for process in psutil.process_iter() if str(tmp_path) in " ".join(command_line(process))]
    assert left == []


def alive(pid: int) -> bool:
    """A process that has ended counts as ended, also where nobody has asked for its exit code."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_start_status_env_stop(user: User) -> None:
    assert user.json("status")["running"] is False
    assert "not running" in user.error("env") and "odcloud local start" in user.error("env")
    started = user.json("start", "--port", str(free_port()))
    assert started["home"] == str(user.home)
    assert requests.get(f"{started['url']}/healthz", timeout=60).ok
    again = user.run("start")
    assert again.returncode == 0 and f"already running at {started['url']}" in again.stdout
    assert user.json("start") == started == user.json("status")
    variables = user.json("env")
    assert variables["GOOGLE_OAUTH_ACCESS_TOKEN"] == (user.home / "token").read_text()
    assert variables["ODCLOUD_HOME"] == str(user.home)  # in whatever folder that shell goes to
    assert user.json("stop") == {"stopped": True}
    assert not alive(started["pid"]) and not (user.home / "server.json").exists()
    assert user.json("stop") == {"stopped": False}
    restarted = user.run("start")
    assert restarted.returncode == 0 and "is taken" not in restarted.stdout, restarted
    assert user.json("env") == variables  # the shells of yesterday still work
    assert "Traceback" not in (user.home / "server.log").read_text()


def test_ports(user: User, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]
        message = user.error("start", "--port", str(port))
        assert f"port {port}" in message and "--port" in message
        assert not user.home.exists()
    assert user.json("start", "--port", str(port))["port"] == port
    other = User(tmp_path / "other")
    other.folder.mkdir()
    try:
        first, second = other.json("start")["port"], user.json("status")["port"]
        assert first != second
    finally:
        other.run("stop")
    for wrong in ("0", "70000", "http"):
        assert "is not a port" in user.error("start", "--port", wrong)
    assert "--help" in user.error("explode")


def test_two_starts_at_once_make_one_server(user: User) -> None:
    answers: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: answers.append(user.json("start"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4 and len({answer["pid"] for answer in answers}) == 1


def test_every_command_has_help(user: User) -> None:
    for words in ([], ["start"], ["stop"], ["status"], ["env"], ["reset"]):
        shown = user.run(*words, "--help")
        assert shown.returncode == 0 and shown.stdout.startswith("usage: odcloud local")


def test_a_damaged_database_is_said_at_the_start(user: User) -> None:
    user.home.mkdir()
    (user.home / "cloud.sqlite").write_text("this is no database, and long enough to be seen as none" * 100)
    message = user.error("start")
    assert "cloud.sqlite cannot be used: file is not a database" in message and "odcloud local reset" in message
    assert message.count("\n") == 1
    served = user.run("start", "--foreground")
    assert served.returncode == 2 and served.stdout == "" and "file is not a database" in served.stderr
    assert user.json("status")["running"] is False


def leave_replica(user: User) -> subprocess.Popen[bytes]:
    """What a killed server leaves: server.json, and a process with the marker of a replica of its home."""
    started = user.json("start")
    os.kill(started["pid"], signal.SIGKILL)
    while alive(started["pid"]):
        time.sleep(0.01)
    marker = f"{user.home}:1:workerpool0-0"
    return subprocess.Popen(["sleep", "600"], env={"LOCALCLOUD_REPLICA": marker}, start_new_session=True)


@pytest.mark.parametrize("harm", ["no database", "damaged jobs", "no token"])
def test_a_damaged_home_can_be_stopped_and_reset(user: User, harm: str) -> None:
    left = leave_replica(user)
    database = user.home / "cloud.sqlite"
    try:
        if harm == "no token":
            (user.home / "token").unlink()
        else:
            with contextlib.closing(sqlite3.connect(database)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # or it would be mended from the log of writes
                ((size,),) = connection.execute("PRAGMA page_size")
                pages = connection.execute("SELECT rootpage FROM sqlite_master WHERE tbl_name = 'custom_jobs'").fetchall()
            with database.open("r+b") as file:
                for (page,) in pages if harm == "damaged jobs" else [(1,)]:
                    file.seek((page - 1) * size)
                    file.write(b"no database" * (size // 11))
        assert (user.home / "server.json").exists()
        assert user.json("stop") == {"stopped": False}
        assert left.wait(60) == -signal.SIGKILL
        assert user.json("reset", "--yes")["deleted"] is True and not user.home.exists()
    finally:
        left.kill()
        left.wait()


def test_a_full_disk_is_said_at_the_start(user: User) -> None:
    """The limit of a file's size stands in for a full disk, on which not even a log could say what is wrong."""
    limit = "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536)); runpy.run_module('localcloud')"
    done = subprocess.run(
        [sys.executable, "-c", limit, "start"], cwd=user.folder, env=user.environment, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert str(user.home) in done.stderr and "ODCLOUD_HOME" in done.stderr
    assert not [path for path in user.home.rglob("*") if path.is_file()]
    assert user.json("start")["home"] == str(user.home)


def test_a_state_folder_that_is_none(user: User) -> None:
    user.home.write_text("a file")
    assert "state" in user.error("start") and "nothing was deleted" in user.error("reset", "--yes")
    assert user.home.read_text() == "a file"
    user.home.unlink()
    user.home.mkdir()
    (user.home / "token").mkdir()  # what cannot be read, though it is there
    assert f"{user.home}/token: Is a directory" in user.error("start")


def test_a_proxy_of_the_environment_is_for_others(user: User) -> None:
    """Neither the local cloud's clients nor its replicas, which inherit its environment, are sent through it."""
    nobody = {"http_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    assert user.run("start", **nobody).returncode == 0
    started = user.json("status")
    assert b"no_proxy=127.0.0.1" in Path(f"/proc/{started['pid']}/environ").read_bytes()
    exports = user.run("env", **nobody).stdout
    ask = f"import urllib.request; print(urllib.request.urlopen('{started['url']}/healthz').status)"
    done = subprocess.run(
        ["bash", "-c", f'{exports}\n{sys.executable} -c "{ask}"'],
        env={**user.environment, **nobody},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "200\n", done.stderr


def test_reset_forgets_everything_and_deletes_nothing_else(user: User) -> None:
    first = user.json("start")
    assert "--yes" in user.error("reset")  # where nobody can be asked
    assert user.json("status")["running"] is True
    assert user.json("reset", "--yes")["deleted"] is True
    assert not user.home.exists() and not alive(first["pid"])
    assert user.json("reset")["deleted"] is False
    documents = user.folder / "documents"
    documents.mkdir()
    for name in ("thesis", "token"):
        (documents / name).touch()
    assert "nothing was deleted" in user.error("reset", "--yes", ODCLOUD_HOME=str(documents))
    assert "(thesis)" in user.error("start", ODCLOUD_HOME=str(documents))
    assert sorted(path.name for path in documents.iterdir()) == ["thesis", "token"]


def test_what_was_put_beside_the_state_is_left(user: User) -> None:
    user.json("start")
    (user.home / "notes").mkdir()
    (user.home / "notes" / "today").touch()
    user.json("stop")
    user.json("start")
    assert "left there: notes." in user.run("reset", "--yes").stdout
    assert [path.name for path in user.home.rglob("*")] == ["notes", "today"]


def test_a_killed_server_loses_no_acknowledged_write(user: User) -> None:
    started = user.json("start")
    session = user.session()
    url = started["url"]
    assert session.post(f"{url}/storage/v1/b?project=odcloud-local", json={"name": "kept", "labels": {"a": "b"}}).ok
    stored: dict[str, str] = {}

    def write() -> None:
        number = 0
        try:
            while True:
                content = f"{number} ".encode() * 3000
                path = f"{url}/upload/storage/v1/b/kept/o?uploadType=media&name=o/{number}"
                answer = session.post(path, data=content, headers={"Content-Type": "x/y"}, timeout=60)
                stored[f"o/{number}"] = answer.json()["generation"]
                number += 1
        except requests.RequestException:
            return

    writer = threading.Thread(target=write)
    writer.start()
    while len(stored) < 50:
        time.sleep(0.01)
    os.kill(started["pid"], signal.SIGKILL)
    writer.join()
    assert user.json("status")["running"] is False  # server.json is there, its process is not
    assert (user.home / "server.json").exists()
    url = user.json("start")["url"]
    session = user.session()
    assert session.get(f"{url}/storage/v1/b/kept").json()["labels"] == {"a": "b"}
    for name, generation in stored.items():
        found = session.get(f"{url}/storage/v1/b/kept/o/{name.replace('/', '%2F')}").json()
        content = f"{name[2:]} ".encode() * 3000
        assert (found["generation"], found["contentType"]) == (generation, "x/y")
        assert found["md5Hash"] == base64.b64encode(hashlib.md5(content).digest()).decode()


def test_an_upload_goes_on_after_a_kill(user: User) -> None:
    """Of a resumable upload no acknowledged chunk is lost when the server is killed, nor the object at its end."""
    content = os.urandom(1_000_000)
    step = 262_144
    started = user.json("start", "--port", str(free_port()))
    session = user.session()
    at = f"{started['url']}/upload/storage/v1/b/resumed/o?uploadType=resumable&name=big&ifGenerationMatch=0"
    session.post(f"{started['url']}/storage/v1/b?project=odcloud-local", json={"name": "resumed"})
    location = session.post(at, json={"metadata": {"k": "v"}}).headers["Location"]
    for first in range(0, len(content), step):
        last = min(first + step, len(content)) - 1
        answer = session.put(
            location, content[first : last + 1], headers={"Content-Range": f"bytes {first}-{last}/{len(content)}"}
        )
        os.kill(started["pid"], signal.SIGKILL)
        while alive(started["pid"]):
            time.sleep(0.01)
        started = user.json("start", "--port", str(started["port"]))
        state = session.put(location, headers={"Content-Range": f"bytes */{len(content)}"})
        if last + 1 < len(content):
            assert answer.status_code == state.status_code == 308
            assert answer.headers["Range"] == state.headers["Range"] == f"bytes=0-{last}"
        else:
            assert answer.status_code == state.status_code == 200 and answer.json() == state.json()
    found = session.get(f"{started['url']}/storage/v1/b/resumed/o/big").json()
    assert found["metadata"] == {"k": "v"} and found["generation"] == answer.json()["generation"]
    assert session.get(f"{started['url']}/storage/v1/b/resumed/o/big?alt=media").content == content


def test_a_large_object_is_streamed_both_ways(user: User) -> None:
    """The server's memory grows by less than a third of the object, whichever way it goes."""
    size, piece = 192 * 2**20, os.urandom(2**20)
    started = user.json("start")
    session = user.session()
    url = started["url"]
    session.post(f"{url}/storage/v1/b?project=odcloud-local", json={"name": "large"})

    def peak() -> int:
        lines = Path(f"/proc/{started['pid']}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

    before = peak()
    pieces = (piece for _ in range(size // len(piece)))
    stored = session.post(f"{url}/upload/storage/v1/b/large/o?uploadType=media&name=big", data=pieces).json()
    assert stored["size"] == str(size)
    session.post(f"{url}/storage/v1/b/large/o/big/copyTo/b/large/o/copy").raise_for_status()
    with session.get(f"{url}/storage/v1/b/large/o/copy?alt=media", stream=True) as answer:
        time.sleep(1)  # a server that does not wait for its reader would have read it all by now
        assert sum(map(len, answer.iter_content(2**20))) == size
    packed = zlib.compressobj(wbits=31)
    small = b"".join(packed.compress(bytes(2**20)) for _ in range(size // 2**20)) + packed.flush()
    params = {"uploadType": "media", "name": "zipped", "contentEncoding": "gzip"}
    session.post(f"{url}/upload/storage/v1/b/large/o", params=params, data=small).raise_for_status()
    plain = {"Accept-Encoding": "identity"}
    with session.get(f"{url}/storage/v1/b/large/o/zipped?alt=media", headers=plain, stream=True) as answer:
        assert sum(map(len, answer.iter_content(2**20))) == size
    assert peak() - before < size // 3


def test_no_space_is_said_clearly_and_leaves_no_half_object(user: User) -> None:
    """The limit of a file's size stands in for a full disk: the write fails in the same place."""
    started = user.json("start")
    session = user.session()
    url = started["url"]
    session.post(f"{url}/storage/v1/b?project=odcloud-local", json={"name": "full"})
    resource.prlimit(started["pid"], resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
    answer = session.post(f"{url}/upload/storage/v1/b/full/o?uploadType=media&name=big", data=b"x" * 5_000_000)
    assert answer.status_code == 507
    message = answer.json()["error"]["message"]
    assert "No space left" in message and str(user.home) in message
    assert list((user.home / "buckets" / "full").iterdir()) == list((user.home / "uploads").iterdir()) == []
    assert session.post(f"{url}/upload/storage/v1/b/full/o?uploadType=media&name=small", data=b"x").ok
    assert "items" in session.get(f"{url}/storage/v1/b/full/o").json()


def test_an_unexpected_error_is_in_the_log_and_not_in_the_answer(user: User) -> None:
    url = user.json("start")["url"]
    session = user.session()
    session.post(f"{url}/storage/v1/b?project=odcloud-local", json={"name": "strange"})
    (user.home / "buckets" / "strange").rmdir()
    (user.home / "buckets" / "strange").write_text("a file where the bucket's folder was")
    answer = session.post(f"{url}/upload/storage/v1/b/strange/o?uploadType=media&name=a/b", data=b"x")
    assert answer.status_code == 500 and "server.log" in answer.json()["error"]["message"]
    assert "Traceback" not in answer.text and "Traceback" in (user.home / "server.log").read_text()


def foreground(user: User, *before: str) -> subprocess.Popen[str]:
    """A server in the foreground that says of itself that it runs. `before`: what the command line begins with."""
    process = subprocess.Popen(
        [*before, sys.executable, "-m", "localcloud", "start", "--foreground"],
        cwd=user.folder,
        env=user.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert "serves at http://127.0.0.1:" in process.stdout.readline()
    while not user.json("status")["running"]:
        assert process.poll() is None
    assert list(user.home.glob("pulumi-home/plugins/resource-gcp-v*/pulumi-resource-gcp"))  # `pulumi up` can be run at once
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_foreground_ends_tidily_with_ctrl_c_and_with_its_terminal(user: User, number: signal.Signals) -> None:
    process = foreground(user, "env", "--default-signal=HUP")  # the tests may run under nohup
    process.send_signal(number)
    process.communicate()
    assert process.returncode in (0, 130)
    assert user.json("status")["running"] is False
    assert not (user.home / "server.json").exists() and not (user.home / "cloud.sqlite-wal").exists()


def test_a_suspended_server_is_stopped(user: User) -> None:
    started = user.json("start")
    os.kill(started["pid"], signal.SIGSTOP)
    assert user.json("stop") == {"stopped": True}
    assert not alive(started["pid"]) and not (user.home / "server.json").exists()
    assert "Finished server process" in (user.home / "server.log").read_text()  # it was not killed


def test_nohup_keeps_a_foreground_server_from_its_terminals_end(user: User) -> None:
    process = foreground(user, "nohup")
    process.send_signal(signal.SIGHUP)
    requests.get(f"{user.json('status')['url']}/healthz", timeout=60).raise_for_status()
    assert user.json("stop") == {"stopped": True}
    process.communicate()


def test_googles_python_client(user: User) -> None:
    user.json("start")
    variables = user.json("env")
    # an endpoint alone would not do: the client takes the scheme for uploads from the document
    # (and writes into it)
    document = copy.deepcopy(load_document("storage.v1"))
    document["rootUrl"] = variables["CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE"]
    storage = build_from_document(document, credentials=Credentials(variables["GOOGLE_OAUTH_ACCESS_TOKEN"]))
    storage.buckets().insert(project="odcloud-local", body={"name": "python"}).execute()
    file = user.folder / "data"
    file.write_bytes(os.urandom(1_500_000))
    for name, resumable in (("one/simple", False), ("one/resumable", True)):
        media = MediaFileUpload(str(file), chunksize=262144, resumable=resumable)
        stored = storage.objects().insert(bucket="python", name=name, body={"metadata": {"k": "v"}}, media_body=media).execute()
        assert stored["metadata"] == {"k": "v"} and stored["size"] == "1500000"
        assert storage.objects().get_media(bucket="python", object=name).execute() == file.read_bytes()
    listed = storage.objects().list(bucket="python", prefix="one/").execute()
    assert [item["name"] for item in listed["items"]] == ["one/resumable", "one/simple"]


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")
def test_gcloud_with_nothing_but_the_environment(user: User) -> None:
    user.json("start")
    exports = user.run("env").stdout
    (user.folder / "in.txt").write_text("hello")
    config = f"export CLOUDSDK_CONFIG={user.folder}/gcloud-config\n"

    def gcloud(words: str) -> str:
        script = f"{exports}\n{config}gcloud {words}"
        done = subprocess.run(["bash", "-c", script], cwd=user.folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        return done.stdout

    gcloud("storage buckets create gs://by-gcloud --location=us-central1 --uniform-bucket-level-access")
    gcloud("storage cp in.txt gs://by-gcloud/x/in.txt")
    assert gcloud("storage cat gs://by-gcloud/x/in.txt") == "hello"
    assert gcloud("storage ls gs://by-gcloud/x/").split() == ["gs://by-gcloud/x/in.txt"]
    gcloud("storage rm -r gs://by-gcloud")
    gcloud("services enable storage.googleapis.com")
    assert "storage.googleapis.com" in gcloud("services list")
    gcloud("iam service-accounts create by-gcloud")
    assert "by-gcloud@odcloud-local" in gcloud(
        "iam service-accounts list --format=value(email)".replace("(", "\\(").replace(")", "\\)")
    )
