"""ML Engine's TrainingInput as worker pools."""

from __future__ import annotations

from typing import Any

import pytest

from localcloud.jobs.cluster import Replica
from localcloud.jobs.dialect import dialect_of
from localcloud.jobs.training_input import job_spec, violations

PACKAGE: dict[str, Any] = {"packageUris": ["gs://b/p.tar.gz"], "pythonModule": "t.train", "region": "us-central1"}


def counts(spec: dict[str, Any]) -> list[int]:
    return [int(pool.get("replicaCount", 0)) for pool in spec["workerPoolSpecs"]]


def test_roles_become_pools() -> None:
    given = {
        **PACKAGE,
        "scaleTier": "CUSTOM",
        "masterType": "standard_gpu",
        "parameterServerType": "standard",
        "parameterServerCount": "3",
        "evaluatorType": "n1-standard-4",
        "evaluatorCount": "1",
        "evaluatorConfig": {"acceleratorConfig": {"type": "NVIDIA_TESLA_T4", "count": "2"}},
        "args": ["--a", "1"],
        "jobDir": "gs://b/train",
        "scheduling": {"maxRunningTime": "3600s"},
    }
    spec = job_spec(given)
    assert counts(spec) == [1, 0, 3, 1]
    master, worker, servers, evaluator = spec["workerPoolSpecs"]
    assert worker == {}
    assert master["machineSpec"] == {
        "machineType": "n1-standard-8",
        "acceleratorType": "NVIDIA_TESLA_K80",
        "acceleratorCount": 1,
    }
    assert servers["machineSpec"] == {"machineType": "n1-standard-4"}
    assert evaluator["machineSpec"]["acceleratorType"] == "NVIDIA_TESLA_T4"
    assert evaluator["machineSpec"]["acceleratorCount"] == 2
    assert servers["pythonPackageSpec"]["args"] == ["--a", "1", "--job-dir", "gs://b/train"]
    assert spec["baseOutputDirectory"] == {"outputUriPrefix": "gs://b/train"}
    assert spec["scheduling"] == {"timeout": "3600s"}
    assert list(violations(given)) == []


@pytest.mark.parametrize(
    ("tier", "expected"), [("BASIC", [1]), ("BASIC_GPU", [1]), ("STANDARD_1", [1, 4, 3]), ("PREMIUM_1", [1, 19, 11])]
)
def test_scale_tiers(tier: str, expected: list[int]) -> None:
    assert counts(job_spec({**PACKAGE, "scaleTier": tier})) == expected


def test_a_container_runs_in_every_role_unless_the_role_has_its_own() -> None:
    given = {
        "region": "us-central1",
        "scaleTier": "CUSTOM",
        "masterType": "n1-standard-4",
        "masterConfig": {"imageUri": "gcr.io/p/a", "containerCommand": ["run"], "containerArgs": ["x"]},
        "workerType": "n1-standard-4",
        "workerCount": "2",
        "parameterServerType": "n1-standard-4",
        "parameterServerCount": "1",
        "parameterServerConfig": {"imageUri": "gcr.io/p/b"},
        "args": ["y"],
        "useChiefInTfConfig": True,
    }
    master, worker, server = (pool["containerSpec"] for pool in job_spec(given)["workerPoolSpecs"])
    assert master == worker == {"imageUri": "gcr.io/p/a", "command": ["run"], "args": ["x", "y"]}
    assert server == {"imageUri": "gcr.io/p/b", "args": ["y"]}
    assert dialect_of({"trainingInput": given}).roles[0] == "chief"


def test_names_of_replicas() -> None:
    vertex = dialect_of({"jobSpec": {}})
    engine = dialect_of({"jobSpec": {}, "trainingInput": {**PACKAGE, "useChiefInTfConfig": True}})
    assert [vertex.task_name(Replica(2, 1)), vertex.spoken(Replica(2, 1))] == ["workerpool2-1"] * 2
    assert (engine.task_name(Replica(0, 0)), engine.spoken(Replica(2, 1))) == ("master-replica-0", "ps 1")
    assert engine.tf_config["job"]["package_uris"] == ["gs://b/p.tar.gz"]
