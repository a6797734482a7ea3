"""Replicas as processes, ports, and package environments: real processes, real pip, no network."""

from __future__ import annotations

import importlib.util
import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest

from localcloud.jobs import environments, ports, replica, reserve

CLOSED = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}


def wait(process: replica.Process) -> int:
    while (code := process.exit_code()) is None:
        time.sleep(0.02)
    return code


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -11 $$", 139), ("kill -9 $PPID; sleep 60", 137)],
)
def test_exit_codes(tmp_path: Path, script: str, code: int) -> None:
    process = replica.spawn(["/bin/sh", "-c", script], tmp_path, {}, f"{tmp_path}:1")
    found_again = replica.adopt(process.pid, process.created, tmp_path, process.marker)
    assert wait(process) == code
    assert found_again.exit_code() == code
    process.kill()
    while replica.members((), lambda marker: marker == process.marker):  # until the kernel has come to it
        time.sleep(0.02)
    assert (tmp_path / "stderr.log").read_text() == ""


def test_another_process_with_the_same_id_is_not_adopted(tmp_path: Path) -> None:
    mine = replica.adopt(os.getpid(), 0.0, tmp_path, "another")
    assert mine.exit_code() == replica.KILLED


def test_sigterm_reaches_the_replica_and_its_exit_code_is_kept(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(3));"
        "print('up', flush=True); time.sleep(60)"
    )
    process = replica.spawn([sys.executable, "-c", code], tmp_path, {}, f"{tmp_path}:1")
    while "up" not in (tmp_path / "stdout.log").read_text():
        time.sleep(0.02)
    replica.send(replica.members({process.pid}, lambda marker: False), signal.SIGTERM)
    assert wait(process) == 3


def test_what_is_the_servers_stays_with_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ODCLOUD_HOME", "CLOUDSDK_X", "PULUMI_X", "GOOGLE_OAUTH_ACCESS_TOKEN", "PYTHONPATH"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("SHARED", "yes")
    process = replica.spawn(["/usr/bin/env"], tmp_path, {"OWN": "1"}, f"{tmp_path}:1")
    assert wait(process) == 0
    told = (tmp_path / "stdout.log").read_text()
    assert "secret" not in told
    assert "SHARED=yes\n" in told
    assert "OWN=1\n" in told
    assert f"HOME={os.environ['HOME']}\n" in told


def test_ports_are_free_and_different() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        found = ports.allocate(20, set(range(20000, 26000)))
        assert len(set(found)) == 20
        assert min(found) >= 26000
    with pytest.raises(OSError, match="ports are free"):
        ports.allocate(1, range(20000, 32000))


def test_the_reserve_is_kept_and_released(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    reserve.keep(tmp_path)
    reserve.keep(tmp_path)
    assert (tmp_path / "jobs" / "reserve").stat().st_size == reserve.SIZE
    reserve.release(tmp_path)
    reserve.release(tmp_path)
    assert not (tmp_path / "jobs" / "reserve").exists()


def sdist(path: Path, *dependencies: str, value: int = 1) -> Path:
    files = {
        "pyproject.toml": '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        f'[project]\nname = "probe"\nversion = "0.1"\ndependencies = {list(dependencies)}\n',
        "probe/__init__.py": f"value = {value}\n",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"probe-0.1/{name}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


def test_an_environment_holds_the_package_and_sees_the_local_clouds_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CLOSED.items():
        monkeypatch.setenv(name, value)
    first = sdist(tmp_path / "a" / "probe-0.1.tar.gz", "click>=8", "nosuchthing; python_version < '3'", value=1)
    second = sdist(tmp_path / "b" / "probe-0.1.tar.gz", "click>=8", value=2)
    pythons = [environments.prepare(tmp_path, [package], "m", threading.Event()) for package in (first, second, first)]
    assert pythons[0] == pythons[2] != pythons[1]
    told = [
        subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True).stdout
        for python in pythons[:2]
        for code in ("import click, probe; print(probe.value)", "import importlib.util as u; print(u.find_spec('launcher'))")
    ]
    assert told == ["1\n", "None\n", "2\n", "None\n"]


def test_a_requirement_that_cannot_be_had_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CLOSED.items():
        monkeypatch.setenv(name, value)
    package = sdist(tmp_path / "probe-0.1.tar.gz", "click>=999")
    with pytest.raises(environments.PackageError, match=r"Failed to install click>=999 \(required by probe-0.1.tar.gz\)"):
        environments.prepare(tmp_path, [package], "m", threading.Event())
    assert list((tmp_path / "environments").iterdir()) == []


def test_without_pip_beside_it_the_one_inside_python_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "pip" else find(name, *rest))
    python = environments.prepare(tmp_path, [sdist(tmp_path / "probe-0.1.tar.gz")], "m", threading.Event())
    subprocess.run([python, "-c", "import probe"], check=True)


def test_an_interrupted_build_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    package = sdist(tmp_path / "probe-0.1.tar.gz")
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(environments.Interrupted):
        environments.prepare(tmp_path, [package], "m", cancelled)
    assert list((tmp_path / "environments").iterdir()) == []
    python = environments.prepare(tmp_path, [package], "m", threading.Event())
    (python.parents[1] / "complete").unlink()  # as a killed server leaves it
    (python.parents[1] / "lib").rename(tmp_path / "gone")
    again = environments.prepare(tmp_path, [package], "m", threading.Event())
    subprocess.run([again, "-c", "import probe"], check=True)


@pytest.mark.parametrize("uri", ["gs://b/none", "gs://b", "gs://b/../../token", "/etc/passwd"])
def test_packages_are_taken_from_buckets_only(tmp_path: Path, uri: str) -> None:
    (tmp_path / "buckets" / "b").mkdir(parents=True)
    (tmp_path / "token").write_text("secret")
    with pytest.raises(environments.PackageError, match="does not exist"):
        environments.bucket_file(tmp_path / "buckets", uri)
