"""tools/setup.sh where it cannot do what it should: one clear error, and no stamp of success."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "setup.sh"


class Machine:
    """A clone with the script alone, and a PATH with little on it."""

    def __init__(self, root: Path) -> None:
        self.clone, self.path = root / "a clone", root / "path"
        (self.clone / "tools").mkdir(parents=True)
        self.script = shutil.copy(SCRIPT, self.clone / "tools")
        (self.clone / "requirements.lock").write_text("")
        self.path.mkdir()
        for name in ("bash", "dirname", "flock", "rm"):
            (self.path / name).symlink_to(shutil.which(name) or name)

    def program(self, name: str, script: str) -> None:
        (self.path / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.path / name).chmod(0o755)

    def error(self, **variables: str) -> str:
        environment = {"PATH": str(self.path), "HOME": str(self.clone), **variables}
        done = subprocess.run([self.script], env=environment, capture_output=True, text=True)
        assert done.returncode == 2, done.stdout + done.stderr
        assert done.stderr.count("odcloud: error: ") == 1
        assert not (self.clone / ".venv/.ready").exists()
        return done.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_no_python_that_will_do(machine: Machine) -> None:
    machine.program("python3", "exit 1")
    message = machine.error()
    assert "no Python 3.10, 3.11 or 3.12 found" in message and "PYTHON=" in message


def test_the_python_that_was_named_and_no_other(machine: Machine) -> None:
    (machine.path / "python3").symlink_to(sys.executable)
    assert "tried /no/python." in machine.error(PYTHON="/no/python")


@pytest.mark.parametrize("ready", [False, True])
def test_dependencies_that_cannot_be_installed(machine: Machine, ready: bool) -> None:
    (machine.path / "python3").symlink_to(sys.executable)
    machine.program("uv", 'case "$1" in --version) echo uv 1;; venv) ;; *) echo "no index" >&2; exit 1;; esac')
    if ready:  # once, with other dependencies
        (machine.clone / ".venv").mkdir()
        (machine.clone / ".venv/.ready").touch()
    message = machine.error()
    assert message.startswith("no index\n") and "could not be installed" in message


def test_a_second_one_waits_and_finds_the_work_done(machine: Machine) -> None:
    """The first stands here for itself: it holds the lock, makes the stamp and ends."""
    (machine.clone / "pyproject.toml").write_text("")
    (machine.clone / ".venv").mkdir()
    with (machine.clone / "requirements.lock").open() as lock:
        subprocess.run(["flock", str(lock.fileno())], pass_fds=[lock.fileno()], check=True)
        second = subprocess.Popen([machine.script], env={"PATH": str(machine.path)}, stdout=subprocess.PIPE, text=True)
        assert second.stdout is not None
        assert "waiting" in second.stdout.readline()
        stamp = machine.clone / ".venv/.ready"
        stamp.touch()
        later = max(path.stat().st_mtime for path in machine.clone.rglob("*")) + 1
        os.utime(stamp, (later, later))
    assert second.communicate()[0] == "" and second.returncode == 0
