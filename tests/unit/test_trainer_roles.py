from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainer import train
from trainer.errors import InputError
from trainer.training.cluster import Cluster, from_environment, parse
from trainer.training.finish import FAILED, FINISHED, FinishMarker

SPEC: dict[str, list[str]] = {"chief": ["a:1"], "worker": ["b:1", "c:1"], "ps": ["d:1"]}


def task(role: str, index: Any = 0, cluster: Any = SPEC) -> dict[str, Any]:
    return {"cluster": cluster, "task": {"type": role, "index": index}}


def test_without_tf_config_one_process_trains_alone() -> None:
    assert from_environment({}) == Cluster("chief", 0, {})
    assert from_environment({"TF_CONFIG": " "}).alone


def test_a_single_replica_job_is_alone() -> None:
    assert parse(task("chief", cluster={"chief": ["a:1"]})).alone


def test_each_replica_knows_its_place() -> None:
    cluster = from_environment({"TF_CONFIG": json.dumps(task("worker", 1))})
    assert (cluster.role, cluster.index, cluster.alone) == ("worker", 1, False)
    assert (cluster.chief, cluster.workers, cluster.servers) == ("a:1", ("b:1", "c:1"), ("d:1",))
    assert cluster.spec() == SPEC


def test_who_holds_the_variables_decides_how_training_is_distributed() -> None:
    assert not parse(task("worker")).synchronous
    together = parse(task("worker", 0, {"chief": ["a:1"], "worker": ["b:1"]}))
    assert together.synchronous and not together.alone
    assert not Cluster("chief", 0, {}).synchronous


def test_master_is_the_chief_and_an_index_may_be_text() -> None:
    old = {"master": ["a:1"], "worker": ["b:1"], "ps": ["d:1"]}
    assert parse(task("master", "0", old)).role == "chief"
    assert parse(task("ps", "0", old)).spec() == {"chief": ["a:1"], "worker": ["b:1"], "ps": ["d:1"]}


def test_an_evaluator_is_not_among_what_servers_wait_for() -> None:
    assert "evaluator" not in parse(task("worker", 0, {**SPEC, "evaluator": ["e:1"]})).spec()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], "JSON object"),
        (task("worker", 2), "worker 2 is not in the cluster, which has 2"),
        (task("boss"), "unknown role 'boss'"),
        (task("worker", -1), "task.index"),
        (task("worker", 0, {"chief": ["a:1"], "wroker": ["b:1"]}), "unknown role 'wroker'"),
        (task("worker", 0, {**SPEC, "worker": "b:1"}), 'cluster.worker must be a list of "host:port"'),
        (task("worker", 0, {**SPEC, "worker": ["b"]}), 'cluster.worker must be a list of "host:port"'),
        (task("chief", 0, {**SPEC, "master": ["a:1"]}), "both master and chief"),
        (task("chief", 0, {"chief": ["a:1"], "ps": ["b:1"]}), "parameter servers without a worker"),
        (task("worker", 0, {"worker": ["a:1"], "ps": ["b:1"]}), "exactly one chief"),
        (task("evaluator"), "evaluation is a job of its own"),
    ],
)
def test_what_cannot_be_trained_is_an_error(config: object, message: str) -> None:
    with pytest.raises(InputError, match="TF_CONFIG") as error:
        parse(config)
    assert message in str(error.value)


def test_broken_json_is_an_error() -> None:
    with pytest.raises(InputError, match="TF_CONFIG is not valid JSON: "):
        from_environment({"TF_CONFIG": "{"})


def test_replicas_on_one_machine_share_its_cores() -> None:
    here = {"chief": ["h:1"], "worker": ["h:2", "h:3"], "ps": ["h:4"]}
    assert train.replicas_here(parse(task("worker", 0, here))) == 2
    assert train.replicas_here(parse(task("worker", 0))) == 1
    assert train.replicas_here(parse(task("ps", 0))) == 1
    assert train.replicas_here(parse(task("worker", 0, {"chief": ["h:1"], "worker": ["h:2", "h:3"]}))) == 3  # the chief, too
    assert train.replicas_here(Cluster("chief", 0, {})) == 1


def test_the_marker_tells_the_outcome_to_the_same_job_only(tmp_path: Path) -> None:
    marker, other = FinishMarker(str(tmp_path), "7"), FinishMarker(str(tmp_path), "8")
    assert marker.read() is None
    marker.write(FAILED)
    assert marker.read() == FAILED
    assert other.read() is None
    # A replica that is started again after the end still learns of it.
    assert FinishMarker(str(tmp_path), "7").read() == FAILED


def test_without_a_job_id_an_earlier_marker_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLOUD_ML_JOB_ID", raising=False)
    FinishMarker(str(tmp_path)).write(FINISHED)
    later = FinishMarker(str(tmp_path))
    assert later.read() is None
    later.write(FINISHED)
    assert later.read() == FINISHED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--pipeline_config_path, --train_dir"),
        (["--train_dir=a"], "--pipeline_config_path"),
        (["--train_dir=a", "--pipeline_config_path=b", "--trian_dir=c"], "--trian_dir=c"),
        (["--train_d=a", "--pipeline_config_path=b"], "--train_dir"),
    ],
)
def test_wrong_flags_end_with_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("odcloud: error: ") and message in error
    assert len(error.splitlines()) == 1


def test_job_dir_is_accepted_because_ml_engine_adds_it() -> None:
    options = train.parse_arguments(["--train_dir=gs://b/t", "--pipeline_config_path", "gs://b/c", "--job-dir=gs://b/t"])
    assert (options.train_dir, options.pipeline_config_path) == ("gs://b/t", "gs://b/c")
