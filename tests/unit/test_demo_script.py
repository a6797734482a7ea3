"""tools/demo.sh where it ends before it does anything."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "demo.sh"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The script in a folder that holds nothing else."""
    (tmp_path / "tools").mkdir()
    return Path(shutil.copy(SCRIPT, tmp_path / "tools"))


def stand_ins(script: Path, odcloud: str, pulumi: str) -> None:
    """Programs in the virtual environment, each given by what it does, and a state folder that is there."""
    programs = script.parent.parent / ".venv/bin"
    programs.mkdir(parents=True)
    (script.parent.parent / ".odcloud").mkdir()
    for name, text in (("odcloud", odcloud), ("pulumi", pulumi)):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)


def run(script: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(script), *words], capture_output=True, text=True)


def test_a_second_one_is_refused_while_one_is_at_work(script: Path) -> None:
    with script.open() as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        for word in ("up", "down"):
            done = run(script, word)
            assert done.returncode == 2 and done.stdout == ""
            assert done.stderr.startswith("odcloud: error: ") and str(script.parent.parent) in done.stderr
    assert "nothing to take down" in run(script, "down").stdout


def test_what_outlives_a_killed_one_does_not_hold_the_lock(script: Path) -> None:
    stand_ins(script, odcloud="echo $$; exec sleep 600", pulumi="")
    demo = subprocess.Popen([str(script), "down"], stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    child = int(next(line for line in demo.stdout if line.strip().isdigit()))
    try:
        with script.open() as lock:
            with pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            demo.kill()
            demo.wait()
            os.kill(child, 0)  # it lives
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("word", ["up", "down"])
def test_without_the_local_clouds_environment_pulumi_is_left_alone(script: Path, word: str) -> None:
    stand_ins(script, odcloud='[ "$2" != env ] || exit 2', pulumi="echo pulumi was run")
    done = run(script, word)
    assert done.returncode == 2 and "pulumi was run" not in done.stdout


def test_down_without_the_virtual_environment_says_what_to_do(script: Path) -> None:
    (script.parent.parent / ".odcloud").mkdir()
    done = run(script, "down")
    assert done.returncode == 2 and "make setup" in done.stderr


@pytest.mark.parametrize("words", [[], ["sideways"], ["up down"]])
def test_wrong_use(script: Path, words: list[str]) -> None:
    done = run(script, *words)
    assert done.returncode == 2 and "usage" in done.stderr
