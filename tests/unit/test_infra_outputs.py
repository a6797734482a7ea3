"""infra/outputs.py: the contract with the launcher."""

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from infra.outputs import StackOutputs


@pytest.fixture
def values() -> dict[str, Any]:
    return {
        "project": "p",
        "region": "us-central1",
        "bucket": "b",
        "prefix": "odcloud-dev/",
        "train_dir": "gs://b/train",
        "eval_dir": "gs://b/eval",
        "data_dir": "gs://b/data",
        "staging_dir": "gs://b/staging",
        "pipeline_config_path": "gs://b/config/0123456789ab/pipeline.config",
        "label_map_path": "gs://b/data/label_map.pbtxt",
        "package_uris": ["gs://b/packages/0123456789ab/odcloud_trainer-0.1.0.tar.gz"],
        "python_modules": {"train": "trainer.train", "eval": "trainer.evaluate"},
        "executor_image_uri": "image",
        "image_repository": "us-central1-docker.pkg.dev/p/odcloud",
        "service_account": "a@p.iam.gserviceaccount.com",
        "labels": {"odcloud-stack": "local"},
        "endpoints": {},
        "delivery": {"deployer": "deploy-dev@p.iam.gserviceaccount.com"},
    }


def test_a_round_trip_keeps_everything(values: dict[str, Any]) -> None:
    outputs = StackOutputs.model_validate(values)
    assert outputs.model_dump() == values
    assert StackOutputs.model_validate_json(outputs.model_dump_json()) == outputs


def test_every_field_that_may_not_be_empty_is_required_and_named_when_missing(values: dict[str, Any]) -> None:
    assert set(values) == set(StackOutputs.model_fields)
    least = StackOutputs.model_validate({name: value for name, value in values.items() if name not in ("delivery", "prefix")})
    assert (least.delivery, least.prefix) == ({}, "")
    for name in values.keys() - {"delivery", "prefix"}:
        with pytest.raises(ValidationError, match=name):
            StackOutputs.model_validate({key: value for key, value in values.items() if key != name})


@pytest.mark.parametrize("uri", ["b/train", "gs://", "gs://b/train/", "s3://b/train", ""])
def test_directories_are_gs_uris_without_trailing_slash(values: dict[str, Any], uri: str) -> None:
    with pytest.raises(ValidationError, match="train_dir"):
        StackOutputs.model_validate({**values, "train_dir": uri})


def test_every_field_says_what_it_is() -> None:
    assert all(field.description for field in StackOutputs.model_fields.values())


def test_importing_it_does_not_import_pulumi() -> None:
    code = "import sys, infra.outputs; sys.exit('pulumi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
