"""Reading a stack's outputs: what can be wrong before and after Pulumi speaks. (Pulumi's own refusals: tests/e2e.)"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import UserError
from launcher.stack import lookup, pulumi

GOOD: dict[str, Any] = {
    "project": "p",
    "region": "us-central1",
    "bucket": "b",
    "train_dir": "gs://b/train",
    "eval_dir": "gs://b/eval",
    "data_dir": "gs://b/data",
    "staging_dir": "gs://b/staging",
    "pipeline_config_path": "gs://b/config/0/pipeline.config",
    "label_map_path": "gs://b/data/label_map.pbtxt",
    "package_uris": ["gs://b/packages/0/t.tar.gz"],
    "python_modules": {"train": "t.train", "eval": "t.evaluate"},
    "executor_image_uri": "image",
    "image_repository": "us-central1-docker.pkg.dev/p/odcloud",
    "service_account": "a@p.iam.gserviceaccount.com",
    "labels": {},
    "endpoints": {},
}


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_missing_output_is_named(name: str) -> None:
    values = {key: value for key, value in GOOD.items() if key != name}
    with pytest.raises(UserError, match=rf"output '{name}' of dev is missing; run `pulumi up`"):
        lookup.checked(values, "dev")


@pytest.mark.parametrize(
    ("name", "value", "where"),
    [("package_uris", "gs://b/x", "package_uris"), ("train_dir", "/tmp/train", "train_dir"), ("labels", {"a": 3}, "labels.a")],
)
def test_an_output_of_the_wrong_kind_is_named(name: str, value: object, where: str) -> None:
    with pytest.raises(UserError, match=rf"output '{where}' of dev is not usable"):
        lookup.checked({**GOOD, name: value}, "dev")


def test_outputs_that_are_no_business_of_the_launcher_do_not_disturb() -> None:
    assert lookup.checked({**GOOD, "more": 1}, "dev").bucket == "b"


def test_no_pulumi_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Pulumi.yaml").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no `pulumi` on PATH; run `make setup`"):
        lookup.Question(folder=tmp_path)


def test_the_project_is_found_upward(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").touch()
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert pulumi.project_folder(deep) == tmp_path


def test_no_project_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no Pulumi\.yaml in .* or above"):
        pulumi.project_folder(tmp_path)


def test_a_pulumi_nobody_waits_for_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Pulumi.yaml").touch()
    slow = tmp_path / "pulumi"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(KeyError), lookup.Question(folder=tmp_path) as question:
        raise KeyError
    assert question._process.returncode
