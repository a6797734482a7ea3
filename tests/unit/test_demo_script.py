"""tools/demo.sh where it ends before it does anything."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "demo.sh"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The script in a folder that holds nothing else."""
    (tmp_path / "tools").mkdir()
    return Path(shutil.copy(SCRIPT, tmp_path / "tools"))


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


def test_down_without_the_virtual_environment_says_what_to_do(script: Path) -> None:
    (script.parent.parent / ".odcloud").mkdir()
    done = run(script, "down")
    assert done.returncode == 2 and "make setup" in done.stderr


@pytest.mark.parametrize("words", [[], ["sideways"], ["up down"]])
def test_wrong_use(script: Path, words: list[str]) -> None:
    done = run(script, *words)
    assert done.returncode == 2 and "usage" in done.stderr
