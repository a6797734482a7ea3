"""The deployment workflows: what they may do, what they run, and that GitHub would take them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

FOLDER = Path(__file__).parents[2] / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
MAY = {"preview": {"pull-requests": "write", "id-token": "write"}, "checks": {}}
PINNED = re.compile(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")


def read(path: Path) -> dict[str, Any]:
    return YAML(typ="safe").load(path.read_text())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_each_is_pinned_bounded_and_may_do_little(path: Path) -> None:
    uses = [line.strip(" -") for line in path.read_text().splitlines() if "uses:" in line]
    assert uses and all(PINNED.search(line) for line in uses)
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read", **MAY.get(path.stem, {"id-token": "write"})}
    assert workflow["concurrency"]["group"]
    for job in workflow["jobs"].values():
        assert "permissions" not in job and job["timeout-minutes"] <= 360
    assert not re.search(r"credentials_json|_KEY\b", path.read_text())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_nothing_that_others_typed_is_pasted_into_a_script(path: Path) -> None:
    scripts = [step["run"] for job in read(path)["jobs"].values() for step in job["steps"] if "run" in step]
    assert scripts and not [script for script in scripts if "${{" in script]


def test_those_that_change_a_stack_wait_for_each_other() -> None:
    groups = {path.stem: read(path)["concurrency"] for path in WORKFLOWS}
    changing = [groups[name] for name in ("up", "drift", "destroy")]
    assert all(group == {"group": "stack-${{ vars.PULUMI_STACK }}", "cancel-in-progress": False} for group in changing)


def test_actionlint_finds_nothing() -> None:
    linter = shutil.which("actionlint")
    if linter is None:
        pytest.skip("no actionlint on the PATH")
    done = subprocess.run([linter, "-shellcheck=", "-no-color", *WORKFLOWS], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
