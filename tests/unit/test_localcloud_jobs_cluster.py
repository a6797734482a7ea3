"""What replicas are told: CLUSTER_SPEC, TF_CONFIG, AIP_* and the pool's own variables."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localcloud.jobs import cluster
from localcloud.jobs.cluster import Replica


def spec(*counts: int, **more: Any) -> dict[str, Any]:
    package = {"packageUris": ["gs://b/p.tar.gz"], "pythonModule": "trainer.train", "args": ["--a=1"]}
    return {"workerPoolSpecs": [{"replicaCount": str(n), "pythonPackageSpec": package} if n else {} for n in counts], **more}


JOB = '{"python_module":"trainer.train","package_uris":["gs://b/p.tar.gz"],"job_args":["--a=1"]}'


def environment(job: dict[str, Any], replica: Replica) -> dict[str, str]:
    ports = {each: 20000 + place for place, each in enumerate(cluster.replicas(job))}
    return cluster.environment("17", job, ports, replica, project_number="23", region="us-central1")


def test_chief_workers_and_servers() -> None:
    variables = environment(spec(1, 2, 1), Replica(1, 1))
    assert json.loads(variables["TF_CONFIG"]) == {
        "cluster": {"chief": ["127.0.0.1:20000"], "worker": ["127.0.0.1:20001", "127.0.0.1:20002"], "ps": ["127.0.0.1:20003"]},
        "environment": "cloud",
        "task": {"type": "worker", "index": 1},
        "job": JOB,
    }
    told = json.loads(variables["CLUSTER_SPEC"])
    assert told["cluster"] == {
        "workerpool0": ["127.0.0.1:20000"],
        "workerpool1": ["127.0.0.1:20001", "127.0.0.1:20002"],
        "workerpool2": ["127.0.0.1:20003"],
    }
    assert told["task"] == {"type": "workerpool1", "index": 1}
    assert (told["environment"], told["job"]) == ("cloud", JOB)
    assert (variables["CLOUD_ML_JOB_ID"], variables["CLOUD_ML_PROJECT_ID"]) == ("17", "23")


def test_an_evaluator_is_outside_the_cluster_it_evaluates() -> None:
    job = spec(1, 1, 0, 1)
    for replica, task in ((Replica(0, 0), {"type": "chief", "index": 0}), (Replica(3, 0), {"type": "evaluator", "index": 0})):
        told = json.loads(environment(job, replica)["TF_CONFIG"])
        assert told["task"] == task
        assert sorted(told["cluster"]) == ["chief", "worker"]
    assert json.loads(environment(job, Replica(0, 0))["CLUSTER_SPEC"])["cluster"]["workerpool3"] == ["127.0.0.1:20002"]


def test_a_single_replica_has_only_a_chief() -> None:
    assert json.loads(environment(spec(1), Replica(0, 0))["TF_CONFIG"])["cluster"] == {"chief": ["127.0.0.1:20000"]}


def test_of_a_container_no_program_is_told() -> None:
    job = {"workerPoolSpecs": [{"replicaCount": "1", "containerSpec": {"imageUri": "i", "args": ["--a=1"]}}]}
    told = json.loads(environment(job, Replica(0, 0))["CLUSTER_SPEC"])
    assert told["job"] == '{"python_module":"","package_uris":[],"job_args":[]}'


def test_directories_come_from_the_base_output_directory() -> None:
    job = spec(1, baseOutputDirectory={"outputUriPrefix": "gs://b/run/"})
    variables = environment(job, Replica(0, 0))
    assert [variables[name] for name in ("AIP_MODEL_DIR", "AIP_CHECKPOINT_DIR", "AIP_TENSORBOARD_LOG_DIR")] == [
        "gs://b/run/model/",
        "gs://b/run/checkpoints/",
        "gs://b/run/logs/",
    ]
    assert not [name for name in environment(spec(1), Replica(0, 0)) if name.startswith("AIP_")]


@pytest.mark.parametrize(
    ("value", "expanded"),
    [("$(A)/x", "1/x"), ("$(NO)", "$(NO)"), ("$$(A)", "$(A)"), ("$A", "$A"), ("$(A)$(A)", "11")],
)
def test_references_in_variables(value: str, expanded: str) -> None:
    assert cluster.expand(value, {"A": "1"}) == expanded


def test_variables_of_the_pool_see_those_before_them() -> None:
    job = spec(1)
    job["workerPoolSpecs"][0]["pythonPackageSpec"]["env"] = [
        {"name": "A", "value": "job $(CLOUD_ML_JOB_ID)"},
        {"name": "B", "value": "$(A)!"},
        {"name": "C"},
    ]
    variables = environment(job, Replica(0, 0))
    assert [variables[name] for name in "ABC"] == ["job 17", "job 17!", ""]
