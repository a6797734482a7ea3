"""The documentation's shell blocks, typed as they stand there: those that no mark above them gives to another test."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator

import datasets
import pytest
from doc_blocks import Block, blocks, pages
from stack_project import ROOT, Project, running

from trainer.data.__main__ import main as data_command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """As `make demo` leaves a clone, but for the training; and a published dataset as if it were downloaded."""
    root = tmp_path_factory.mktemp("docs")
    with running(root) as made:
        for folder in ("trainer", "examples", "digits"):
            shutil.rmtree(root / folder)
        for folder in ("trainer", "examples"):
            shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
        assert data_command(["digits", str(root / "digits"), "--train-images=8", "--test-images=4", "--shards=2"]) == 0
        datasets.voc(root / "downloads/VOCdevkit", {"trainval": 12, "test": 6}, "2007")
        (root / ".venv").symlink_to(sys.prefix)
        made.succeed("stack", "select", "--create", "local")
        made.succeed("up", "--yes", "--skip-preview")
        yield made


def to_run(page: str) -> list[Block]:
    return [block for block in blocks(page) if block.is_shell and not block.mark]


@pytest.mark.parametrize("page", [page for page in pages() if to_run(page)])
def test_the_blocks_of_a_page_work_one_after_the_other(project: Project, page: str) -> None:
    """In one shell, as a reader would type them."""
    script = "\n".join(f"echo '>>> {block.place}' >&2\n{block.code}" for block in to_run(page))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=project.root,
        env=project.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
