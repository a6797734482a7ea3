"""The local cloud's throughput, side by side with fake-gcs-server in one run.

    python benchmarks/local_cloud.py [--rounds N] [--seconds S] [--megabytes M]

Both keep objects as files, on the same disk, and are driven by the same client: four connections that are kept open, each with
a request under way, in one thread that does little but send and receive. They take turns, so that what else the machine does
hits both. fake-gcs-server is built by Go the first time (~/.cache/odcloud/benchmarks) and left out where there is no Go.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

from localcloud.cloud import rfc3339  # noqa: E402
from localcloud.database import Database  # noqa: E402
from localcloud.jobs import store  # noqa: E402

PEER = "github.com/fsouza/fake-gcs-server@v1.56.1"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "odcloud" / "benchmarks" / "fake-gcs-server"
BUCKET = "benchmark"
CONNECTIONS = 4
SMALL = os.urandom(4096)
PIECE = 1 << 20
JOBS = 10_000
OBJECTS = 100
LENGTH = re.compile(rb"\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Server:
    name: str
    port: int
    process: psutil.Process
    token: str = ""

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def peak(self) -> float:
        """The most memory it has held, in MiB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


class Connection:
    """One HTTP/1.1 connection that does as little as it can, to measure the server and not itself."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""
        self._headers = f"Host: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {server.token}\r\n"

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self, verb: str, path: str, body: bytes = b"", content: str = "application/octet-stream", times: int = 1) -> bytes:
        """Sends a request whose body is `body`, `times` over. Returns the answer's, or of a large one its beginning."""
        self.send(verb, path, body, content, times)
        return self.receive()

    def send(self, verb: str, path: str, body: bytes = b"", content: str = "application/octet-stream", times: int = 1) -> None:
        head = (
            f"{verb} {path} HTTP/1.1\r\n{self._headers}Content-Type: {content}\r\nContent-Length: {len(body) * times}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + (body if times == 1 else b""))
        for _ in range(times if times > 1 else 0):
            self._socket.sendall(body)

    def receive(self) -> bytes:
        head = self._until(b"\r\n\r\n")
        status, length = int(head[9:12]), LENGTH.search(head)
        answer = b""
        if length:
            answer = self._exactly(int(length[1]))
        elif b"chunked" in head:
            while size := int(self._until(b"\r\n"), 16):
                answer += self._exactly(size)
                self._exactly(2)
            self._exactly(2)
        if not 200 <= status < 300:
            raise SystemExit(f"{status} {answer[:500]!r}")
        return answer

    def _until(self, end: bytes) -> bytes:
        while end not in self._rest:
            self._more()
        found, self._rest = self._rest.split(end, 1)
        return found

    def _exactly(self, size: int) -> bytes:
        if size > PIECE:
            size -= len(self._rest)
            found, self._rest = self._rest, b""
            buffer = bytearray(PIECE)
            while size:
                got = self._socket.recv_into(buffer, min(PIECE, size))
                if not got:
                    raise SystemExit("the server hung up")
                size -= got
            return found
        while len(self._rest) < size:
            self._more()
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def _more(self) -> None:
        got = self._socket.recv(1 << 18)
        if not got:
            raise SystemExit("the server hung up")
        self._rest += got


Request = tuple[str, str] | tuple[str, str, bytes]  # verb, path, body


def rate(server: Server, request: Callable[[int], Request], seconds: float) -> tuple[float, float]:
    """Calls a second over all connections, and the server's CPU milliseconds for each; `request` makes the n-th."""
    with ExitStack() as opened:
        connections = [opened.enter_context(Connection(server)) for _ in range(CONNECTIONS)]
        began, cpu, sent = time.perf_counter(), server.cpu(), 0
        for connection in connections:
            connection.send(*request(sent))
            sent += 1
        while time.perf_counter() - began < seconds:
            for connection in connections:
                connection.receive()
                connection.send(*request(sent))
                sent += 1
        for connection in connections:
            connection.receive()
        return sent / (time.perf_counter() - began), (server.cpu() - cpu) * 1000 / sent


def speed(server: Server, step: Callable[[Connection], object], megabytes: int) -> tuple[float, float]:
    """MB a second on one connection, and the server's CPU milliseconds for each MB."""
    with Connection(server) as connection:
        began, cpu = time.perf_counter(), server.cpu()
        step(connection)
        return megabytes / (time.perf_counter() - began), (server.cpu() - cpu) * 1000 / megabytes


def upload(name: str) -> str:
    return f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={name}"


def media(name: str) -> str:
    return f"/storage/v1/b/{BUCKET}/o/{name.replace('/', '%2F')}?alt=media"


def measure(server: Server, seconds: float, megabytes: int) -> dict[str, tuple[float, float]]:
    """Each row once: how much a second, and the server's CPU milliseconds for each."""
    large = os.urandom(PIECE)
    one = f"/storage/v1/b/{BUCKET}"
    return {
        "puts of 4 KiB a second": rate(server, lambda n: ("POST", upload(f"small/{n}"), SMALL), seconds),
        "gets of 4 KiB a second": rate(server, lambda n: ("GET", media(f"list/{n % OBJECTS}")), seconds),
        "API calls a second (an object's metadata)": rate(server, lambda n: ("GET", f"{one}/o/list%2F{n % OBJECTS}"), seconds),
        "API calls a second (a bucket)": rate(server, lambda n: ("GET", one), seconds),
        "pages of 100 objects a second": rate(server, lambda n: ("GET", f"{one}/o?prefix=list/&maxResults=100"), seconds),
        "MB a second up, one object": speed(
            server, lambda connection: connection.call("POST", upload("large"), large, times=megabytes), megabytes
        ),
        "MB a second down, one object": speed(server, lambda connection: connection.call("GET", media("large")), megabytes),
    }


def prepare(server: Server) -> None:
    with Connection(server) as connection:
        body = json.dumps({"name": BUCKET}).encode()
        connection.call("POST", "/storage/v1/b?project=odcloud-local", body, "application/json")
        for number in range(OBJECTS):
            connection.call("POST", upload(f"list/{number}"), SMALL)


@contextmanager
def local_cloud(folder: Path) -> Iterator[Server]:
    environment = {**os.environ, "ODCLOUD_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "localcloud"]

    def run(*words: str) -> str:
        return subprocess.run(
            [*command, *words], env=environment, cwd=folder, check=True, stdout=subprocess.PIPE
        ).stdout.decode()

    started = json.loads(run("start", "--format", "json"))
    try:
        yield Server("odcloud", started["port"], psutil.Process(started["pid"]), (folder / "home" / "token").read_text())
    finally:
        run("stop")


@contextmanager
def fake_gcs_server(folder: Path) -> Iterator[Server]:
    program = CACHE / "fake-gcs-server"
    if not program.exists():
        print("building fake-gcs-server …", file=sys.stderr)
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["go", "install", PEER], env={**os.environ, "GOBIN": str(CACHE)}, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["-backend", "filesystem", "-filesystem-root", str(folder / "fake"), "-scheme", "http", "-host", "127.0.0.1"]
    process = subprocess.Popen(
        [program, *options, "-port", str(port), "-public-host", f"127.0.0.1:{port}", "-log-level", "error"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield Server("fake-gcs-server", port, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait()


def jobs(server: Server, home: Path, seconds: float) -> tuple[float, float, float, float]:
    """Milliseconds for a page of 100 out of 10,000 finished jobs, as the client sees it and in CPU of the server; then how many
    looks at one job a second, and CPU milliseconds for each."""
    body = {
        "displayName": "object_detection_1511000000",
        "labels": {"odcloud-run": "object_detection_1511000000", "odcloud-kind": "train"},
        "jobSpec": {
            "workerPoolSpecs": [
                {
                    "machineSpec": {"machineType": "n1-standard-4"},
                    "replicaCount": "1",
                    "pythonPackageSpec": {
                        "executorImageUri": "us-docker.pkg.dev/vertex-ai/training/tf-cpu.2-17.py310:latest",
                        "packageUris": ["gs://b/packages/0123456789ab/odcloud_trainer-0.1.0.tar.gz"],
                        "pythonModule": "trainer.train",
                        "args": ["--train_dir=gs://b/train/object_detection_1511000000"],
                    },
                }
            ]
            * 3
        },
    }
    db = Database(home / "cloud.sqlite")
    with db.transaction():
        for number in range(JOBS):
            store.insert_job(db, f"{1_763_900_000_000_000_000 + number}", "us-central1", body, rfc3339_now())
        db.execute("UPDATE custom_jobs SET state = 'JOB_STATE_SUCCEEDED', start_time = create_time, end_time = create_time")
    db.close()
    walls = []
    with Connection(server) as connection:
        path = "/v1/projects/odcloud-local/locations/us-central1/customJobs?pageSize=100"
        first = json.loads(connection.call("GET", path))
        assert len(first["customJobs"]) == 100
        cpu = server.cpu()
        for _ in range(20):
            began = time.perf_counter()
            page = json.loads(connection.call("GET", f"{path}&pageToken={first['nextPageToken']}"))
            walls.append(time.perf_counter() - began)
            assert len(page["customJobs"]) == 100
    paging = (server.cpu() - cpu) * 1000 / 20
    names = [job["name"] for job in page["customJobs"]]
    return statistics.median(walls) * 1000, paging, *rate(server, lambda n: ("GET", f"/v1/{names[n % 100]}"), seconds)


def rfc3339_now() -> str:
    from datetime import datetime, timezone

    return rfc3339(datetime.now(timezone.utc))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (default 3)")
    parser.add_argument("--seconds", type=float, default=3, help="of each rate (default 3)")
    parser.add_argument("--megabytes", type=int, default=256, help="of the large object (default 256)")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="odcloud-benchmark-"))
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    memory: dict[str, float] = {}
    try:
        with ExitStack() as running:
            servers = [running.enter_context(local_cloud(folder))]
            if shutil.which("go") or (CACHE / "fake-gcs-server").exists():
                servers.append(running.enter_context(fake_gcs_server(folder)))
            for server in servers:
                prepare(server)
            for turn in range(given.rounds):
                for server in servers:
                    for row, measured in measure(server, given.seconds, given.megabytes).items():
                        found.setdefault(row, {}).setdefault(server.name, []).append(measured)
                print(f"round {turn + 1} of {given.rounds} done", file=sys.stderr)
            memory = {server.name: server.peak() for server in servers}
            wall, cpu, looks, look_cpu = jobs(servers[0], folder / "home", given.seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"medians of {given.rounds} rounds, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("CPU: the server's, in milliseconds for each\n")
    names = list(memory)
    print("| | " + " | ".join(f"{name} | CPU" for name in names) + " | ratio | CPU ratio |")
    print("| --- |" + " --- | --- |" * len(names) + " --- | --- |")
    for row, measured in found.items():
        medians = {name: [statistics.median(each) for each in zip(*measured[name], strict=True)] for name in names}
        cells = [f"{medians[name][0]:,.0f} | {medians[name][1]:.2f}" for name in names]
        ratios = [medians[names[0]][0] / medians[names[-1]][0], medians[names[-1]][1] / max(medians[names[0]][1], 1e-9)]
        print(f"| {row} | {' | '.join(cells)} | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    print(f"| most memory, MiB | {' | '.join(f'{each:.0f} | ' for each in memory.values())} | | |")
    print(f"\na page of 100 of {JOBS:,} finished jobs: {wall:.1f} ms, of which {cpu:.1f} ms of the server's CPU")
    print(f"one of them: {looks:,.0f} a second, {look_cpu:.2f} ms of the server's CPU each")


if __name__ == "__main__":
    main()
