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


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_secret_is_in_the_environment_of_the_scripts_that_need_it_and_the_checkout_leaves_no_token(path: Path) -> None:
    workflow = read(path)
    wide = [workflow.get("env", {}), *(job.get("env", {}) for job in workflow["jobs"].values())]
    assert "secrets." not in str(wide)
    for step in (step for job in workflow["jobs"].values() for step in job["steps"]):
        assert "secrets." not in str(step.get("with", {})) and ("secrets." not in str(step) or "run" in step)
        needs = re.search(r"\b(pulumi|odcloud) ", step.get("run", ""))
        for secret in ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_ACCESS_TOKEN"):
            assert bool(needs) == (step.get("env", {}).get(secret) == f"${{{{ secrets.{secret} }}}}")
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_those_that_change_a_stack_wait_for_each_other_and_nothing_takes_their_place() -> None:
    groups = {path.stem: read(path)["concurrency"] for path in WORKFLOWS}
    changing = "stack-${{ vars.PULUMI_STACK }}"
    assert groups["up"] == groups["destroy"] == {"group": changing, "cancel-in-progress": False}
    assert [name for name, group in groups.items() if group["group"] == changing] == ["destroy", "up"]


@pytest.mark.parametrize("name", ["preview", "up", "drift"])
def test_what_starts_by_itself_waits_until_the_repository_is_set_up(name: str) -> None:
    (job,) = read(FOLDER / f"{name}.yml")["jobs"].values()
    assert job["if"].startswith("vars.PULUMI_STACK != ''")


def test_a_forks_pull_request_is_not_previewed() -> None:
    (job,) = read(FOLDER / "preview.yml")["jobs"].values()
    assert job["if"].endswith(" && github.event.pull_request.head.repo.full_name == github.repository")
    assert not [path for path in WORKFLOWS if "pull_request_target" in path.read_text()]


def test_actionlint_finds_nothing() -> None:
    linter = shutil.which("actionlint")
    if linter is None:
        pytest.skip("no actionlint on the PATH")
    done = subprocess.run([linter, "-shellcheck=", "-no-color", *WORKFLOWS], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
