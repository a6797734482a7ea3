"""The shell steps of the deployment workflows, as GitHub would run them one after the other, against the local cloud."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from stack_project import ROOT, Project, running

from trainer.data.__main__ import main as data_command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ELSEWHERE = ("Set up", "Comment")  # `make setup` was run before the tests, and there is no pull request here
SMALLER = (("128", "64"), ("batch_size: 8", "batch_size: 2"), ("num_steps: 1200", "num_steps: 20"))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """With the real trainer and a small dataset, for a training of seconds on one machine."""
    with running(tmp_path) as made:
        shutil.rmtree(tmp_path / "trainer")
        shutil.copytree(ROOT / "trainer", tmp_path / "trainer", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.rmtree(tmp_path / "digits")
        assert data_command(["digits", str(tmp_path / "digits"), "--train-images=8", "--test-images=4", "--shards=1"]) == 0
        text = (ROOT / "examples/digits/pipeline.config").read_text()
        for old, new in SMALLER:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "examples/digits/pipeline.config").write_text(text)
        (tmp_path / "examples/digits/job.yaml").write_text("trainingInput:\n  scaleTier: BASIC\n")
        # Where make setup leaves the commands, which the step `Set up` adds to the PATH.
        made.environment["PATH"] = f"{Path(sys.executable).parent}:{made.environment['PATH']}"
        yield made


def run(project: Project, name: str, **inputs: str) -> list[subprocess.CompletedProcess[str]]:
    """Each step of a workflow's job up to the first that fails, as `shell: bash` runs it."""
    workflow: dict[str, Any] = YAML(typ="safe").load((ROOT / f".github/workflows/{name}.yml").read_text())
    typed = workflow[True if True in workflow else "on"]
    defaults = (typed.get("workflow_dispatch") or {}).get("inputs", {}) if isinstance(typed, dict) else {}
    values = {f"inputs.{key}": inputs.get(key, str(field.get("default", ""))) for key, field in defaults.items()}
    values |= {
        "vars.PULUMI_BACKEND_URL": project.environment["PULUMI_BACKEND_URL"],
        "vars.PULUMI_STACK": "local",
        "secrets.PULUMI_CONFIG_PASSPHRASE": "",
        "secrets.PULUMI_ACCESS_TOKEN": "",
    }

    def filled(variables: dict[str, str]) -> dict[str, str]:
        return {key: re.sub(r"\$\{\{ (\S+) \}\}", lambda found: values[found[1]], text) for key, text in variables.items()}

    assert workflow["defaults"] == {"run": {"shell": "bash"}}
    (job,) = workflow["jobs"].values()
    later = project.root / "github_env"
    later.write_text("")
    done = []
    for step in job["steps"]:
        if "run" not in step or step["name"] in ELSEWHERE:
            continue
        said = dict(line.split("=", 1) for line in later.read_text().splitlines())
        environment = {**project.environment, **filled(workflow["env"]), **said, **filled(step.get("env", {}))}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        environment["GITHUB_ENV"] = str(later)
        done.append(
            subprocess.run(
                command, cwd=project.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
        if done[-1].returncode:
            break
    return done


def succeed(project: Project, name: str, **inputs: str) -> list[str]:
    done = run(project, name, **inputs)
    assert [step.returncode for step in done] == [0] * len(done), done[-1].stdout
    return [step.stdout for step in done]


def test_from_pull_request_to_destroy(project: Project) -> None:
    preview, policies = succeed(project, "preview")
    assert "+ 2" in preview or "to create" in preview
    assert policies == "every resource keeps the rules\n"
    assert "```" in (project.root / "comment.md").read_text()

    (up,) = succeed(project, "up")
    assert "created" in up
    succeed(project, "drift")
    bucket = project.outputs().bucket
    project.call("PATCH", f"storage/v1/b/{bucket}", {"labels": {"odcloud-stack": "mine"}})
    (drift,) = run(project, "drift")
    assert drift.returncode != 0 and "odcloud-stack" in drift.stdout
    succeed(project, "up")

    train, evaluate, report = succeed(project, "train")
    assert "SUCCEEDED" in train and "SUCCEEDED" in evaluate and "AP" in report
    assert (project.root / "report" / "report.html").is_file()

    (refused,) = run(project, "destroy", confirm="prod")
    assert refused.returncode == 1 and "Nothing is destroyed: 'prod' was typed, and the stack is 'local'" in refused.stdout
    (destroyed,) = succeed(project, "destroy", confirm="local")
    assert "of training and evaluation" in destroyed
    assert project.leftovers() == []
