"""The native job file, the guidelines, and who has the last word on a value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
from ruamel.yaml import YAML
from test_launcher_vertex import OUTPUTS, RUN

from launcher import vertex
from launcher.commands.options import job_options
from launcher.commands.training import train
from launcher.errors import UserError
from launcher.jobfile import models, overrides, reading, resolve

ROOT = Path(__file__).parents[2]
POOLS = """workerPools:
  - {role: chief, machineType: n1-standard-8}
  - {role: worker, machineType: n1-standard-4, replicaCount: 3}
  - {role: ps, machineType: n1-standard-4}
"""


def body(text: str, **flags: Any) -> dict[str, Any]:
    return vertex.custom_job(resolved(text, flags).job)


def resolved(text: str, flags: dict[str, Any] | None = None, environ: dict[str, str] | None = None) -> resolve.Resolved:
    file = reading.parse(text, "job.yaml", overrides.given(flags or {}, environ or {}))
    return resolve.training(OUTPUTS, file, RUN)


def test_a_file_without_pools_means_one_chief() -> None:
    (pool,) = body("labels: {team: cats}")["jobSpec"]["workerPoolSpecs"]
    assert pool["machineSpec"] == {"machineType": "n1-standard-4"}


def test_the_old_form_s_replica_configs_are_native_pools() -> None:
    made = body(
        """trainingInput:
  masterType: n1-standard-8
  masterConfig:
    imageUri: us-docker.pkg.dev/p/r/i
    containerArgs: [--x]
    acceleratorConfig: {type: NVIDIA_TESLA_T4, count: "2"}
  workerType: n1-standard-4
  workerCount: 2
  workerConfig: {diskConfig: {bootDiskSizeGb: 300}}
  network: projects/1/global/networks/n
  serviceAccount: me@p.iam.gserviceaccount.com
  enableWebAccess: false
"""
    )["jobSpec"]
    chief, worker = made["workerPoolSpecs"]
    assert chief["machineSpec"] == {"machineType": "n1-standard-8", "acceleratorType": "NVIDIA_TESLA_T4", "acceleratorCount": 2}
    assert chief["containerSpec"] == worker["containerSpec"]
    assert worker["diskSpec"] == {"bootDiskSizeGb": 300}
    assert (made["network"], made["enableWebAccess"]) == ("projects/1/global/networks/n", False)


CHIEF = "workerPools:\n- {role: chief, machineType: standard}\n"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (CHIEF + "- {role: chief, machineType: standard}\n", 3, "workerPools[1].role: two chiefs"),
        ("workerPools:\n- role: chief\n  machineType: standard\n  replicaCount: 2\n", 4, "2 chiefs: a job has exactly one"),
        ("workerPools:\n- {role: worker, machineType: standard}\n", 1, "there is no chief"),
        (CHIEF + "- {role: ps, machineType: standard}\n", 3, "parameter servers serve workers, and there are none"),
        (POOLS + "  - {role: worker, machineType: standard}\n", 5, "two pools of role worker"),
        (
            CHIEF + "- {role: worker, machineType: standard}\n- role: ps\n  machineType: standard_gpu\n",
            5,
            "workerPools[2].machineType: parameter servers hold variables",
        ),
        (
            CHIEF
            + "- {role: worker, machineType: standard}\n- role: ps\n  machineType: n1-standard-4\n"
            + "  acceleratorType: NVIDIA_TESLA_T4\n  acceleratorCount: 1\n",
            6,
            "workerPools[2].acceleratorType: parameter servers hold variables",
        ),
        ("workerPools:\n- role: chief\n  machineTyp: standard\n", 3, "unknown field; did you mean machineType?"),
        ("workerPools:\n- role: boss\n  machineType: standard\n", 2, "workerPools[0].role: unknown value 'boss'"),
        ("workerPools:\n- role: chief\n  machineType: n1-standard-5\n", 3, "unknown machine type 'n1-standard-5'; near it"),
        (
            "workerPools:\n- role: chief\n  machineType: n1-standard-4\n  acceleratorType: NVIDIA_T4\n  acceleratorCount: 1\n",
            4,
            "NVIDIA_TESLA_T4",
        ),
        ("workerPools:\n- role: chief\n  machineType: standard\n  acceleratorCount: 1\n", 4, "has a type and a count"),
        (
            "workerPools:\n- role: chief\n  machineType: e2-standard-4\n  acceleratorType: NVIDIA_TESLA_T4\n"
            "  acceleratorCount: 1\n",
            4,
            "attached to N1 machines only",
        ),
        (
            "workerPools:\n- role: chief\n  machineType: n1-standard-8\n  acceleratorType: NVIDIA_L4\n  acceleratorCount: 1\n",
            4,
            "NVIDIA_L4 comes with machines of its own; write one of g2-standard-4",
        ),
        (
            "workerPools:\n- role: chief\n  machineType: standard_v100\n  acceleratorType: NVIDIA_TESLA_T4\n"
            "  acceleratorCount: 1\n",
            4,
            "standard_v100 means n1-standard-8 with 1 NVIDIA_TESLA_V100",
        ),
        (
            "workerPools:\n- role: chief\n  machineType: standard\n"
            "  reservationAffinity: {reservationAffinityType: SPECIFIC_RESERVATION}\n",
            4,
            "needs key",
        ),
        ("imageUri: a/b\npythonModule: c\n", 2, "imageUri and Python packages exclude each other"),
        ("command: [a]\n", 1, "only an image of your own has a command"),
        ("args: [--train_dir=x]\n", 1, "set by odcloud"),
        ("env: {TF_CONFIG: x}\n", 1, "env.TF_CONFIG: the service sets this variable itself"),
        ("env: [{name: A, value: b}]\n", 1, "env: must hold indented lines NAME: text, not ["),
        ("env: {1A: x}\n", 1, "an environment variable's name"),
        ("labels: {odcloud-run: x}\n", 1, "odcloud sets this label itself"),
        ("scheduling: {strategy: CHEAP}\n", 1, "unknown value 'CHEAP'; one of 'STANDARD', 'SPOT' or 'FLEX_START'"),
        ("scheduling:\n  strategy: SPOT\n  maxWaitDuration: 5s\n", 3, "has an effect with strategy FLEX_START only"),
        ("scheduling: {disableRetries: true, restartJobOnWorkerRestart: true}\n", 1, "disableRetries switches restarts off"),
        ("network: default\n", 1, "must be projects/NUMBER/global/networks/NAME, with the project's number, not 'default'"),
        ("network: projects/p/global/networks/n\n", 1, "with the project's number, not 'projects/p/global/networks/n'"),
        (
            "scheduling: {timeout: 3600}\n",
            1,
            'timeout: must be a duration in seconds, for example "43200s", not 3600',
        ),
        ("scheduling: {timeout: 0.0s}\n", 1, "scheduling.timeout: would end the job at once"),
        ("scheduling: {strategy: spot}\n", 1, "unknown value 'spot'; did you mean SPOT?"),
        ("timeout: 3600s\n", 1, "timeout: belongs under scheduling"),
        ("machineType: standard\n", 1, "machineType: belongs to a pool of workerPools"),
        ("workerPools:\n- {role: master, machineType: standard}\n", 2, "unknown value 'master'; did you mean chief?"),
        (
            "workerPools:\n- role: chief\n  machineType: standard\n  acceleratorType: nvidia-tesla-p4\n",
            4,
            "unknown value 'nvidia-tesla-p4'; did you mean NVIDIA_TESLA_P4?",
        ),
        (
            "workerPools:\n- role: chief\n  machineType: n1-standard-8\n  acceleratorType: NVIDIA_TESLA_V100\n"
            "  acceleratorCount: 3\n",
            4,
            "acceleratorType: a machine takes 1, 2, 4 or 8 NVIDIA_TESLA_V100, not 3",
        ),
        # Vertex AI's own form, pasted
        ("jobSpec: {}\n", 1, "jobSpec: its fields stand at the top"),
        ("workerPoolSpecs: []\n", 1, "workerPoolSpecs: write workerPools"),
        (
            "workerPools:\n- role: chief\n  machineSpec: {}\n",
            3,
            "[0].machineSpec: write machineType, acceleratorType",
        ),
        (
            "baseOutputDirectory: {outputUriPrefix: gs://b/c}\n",
            1,
            "baseOutputDirectory: must be a gs://BUCKET/… address, not {",
        ),
        ("enableWebAccess: 1\n", 1, "must be true or false, not 1"),
        ("pipelineConfigPath: gs://b/c\nargs: [--pipeline_config_path=gs://b/d]\n", 2, "pipelineConfigPath, too; keep one"),
        ("trainingInput: {}\nworkerPools: []\n", 2, "either trainingInput or native fields"),
        ("workerPools: []\n", 1, "must not be empty"),
    ],
)
def test_a_wrong_native_file_is_answered_with_line_field_and_advice(text: str, line: int, said: str) -> None:
    with pytest.raises(UserError) as caught:
        reading.parse(text, "job.yaml")
    message = str(caught.value)
    assert message.startswith(f"job.yaml:{line}: "), message
    assert said in message


def test_the_old_page_s_guidelines() -> None:
    file = reading.parse(
        POOLS.replace("{role: ps, machineType: n1-standard-4}", "{role: ps, machineType: standard, replicaCount: 2}"), "j"
    )
    assert file.notes == ("3 workers and the chief: 4 training machines, and 2 parameter servers",)
    (warning,) = file.warnings
    assert warning.startswith("j:4: workerPools[2].replicaCount: 2 parameter servers: an odd number is better")
    with pytest.raises(UserError, match=r"job\.yaml:1: trainingInput\.parameterServerType: parameter servers hold"):
        reading.parse(
            "trainingInput: {masterType: standard, workerType: standard, workerCount: 1,"
            " parameterServerType: standard_gpu, parameterServerCount: 1}",
            "job.yaml",
        )


def test_workers_may_do_without_parameter_servers() -> None:
    file = reading.parse(CHIEF + "- {role: worker, machineType: standard, replicaCount: 2}\n", "j")
    assert file.warnings == ()
    assert file.notes[0] == "2 workers and the chief: 3 training machines"
    assert "MultiWorkerMirroredStrategy" in file.notes[1]


def test_what_no_pool_uses_is_said() -> None:
    file = reading.parse(
        "workerPools:\n- {role: chief, machineType: standard, imageUri: a/b, args: []}\npythonModule: x\nargs: [--y]\n",
        "job.yaml",
    )
    assert [warning.partition(": has")[0] for warning in file.warnings] == ["job.yaml:3: pythonModule", "job.yaml:4: args"]


def test_flag_then_environment_then_job_file_then_stack_then_default() -> None:
    text = POOLS + "serviceAccount: file@p.iam\nscheduling: {timeout: 1s}\n"
    environ = {"ODCLOUD_TIMEOUT": "2s", "ODCLOUD_WORKERS": "5", "ODCLOUD_STRATEGY": "SPOT", "ODCLOUD_NETWORK": ""}
    made = resolved(text, {"timeout": "3s"}, environ)
    rows = {row.name: (row.value, row.source) for row in made.rows}
    assert rows["scheduling.timeout"] == ("3s", "flag --timeout")
    assert rows["worker.replicaCount"] == (5, "environment ODCLOUD_WORKERS")
    assert rows["scheduling.strategy"] == ("SPOT", "environment ODCLOUD_STRATEGY")
    assert rows["serviceAccount"] == ("file@p.iam", "job file job.yaml:5")
    assert rows["chief.machineType"] == ("n1-standard-8", "job file job.yaml:2")
    assert rows["ps.replicaCount"] == (1, "default")
    assert rows["pipelineConfigPath"] == (OUTPUTS.pipeline_config_path, "stack output pipeline_config_path")
    assert rows["labels.app"] == ("odcloud", "stack output labels")
    assert rows["network"] == (None, "default")
    assert made.job.scheduling.timeout == "3s"
    assert [pool.count for pool in made.job.pools] == [1, 5, 1]
    assert "flag --timeout" in resolve.table(made.rows)
    assert json.loads(json.dumps(resolve.facts(made.rows)))[0] == {"name": "run", "value": RUN, "source": "--run, or the time"}


def test_the_help_names_the_flag_that_no_variable_stands_for() -> None:
    @job_options
    def flags(**_: Any) -> None: ...

    names = {option.name for option in click.command()(flags).params}
    assert names - set(overrides._VALUES) == {"labels"}
    assert "(ODCLOUD_ and the flag's name: ODCLOUD_WORKERS; for labels there is none)" in " ".join(str(train.help).split())


def test_rows_name_the_old_form_s_lines() -> None:
    made = resolved("trainingInput:\n  masterType: standard\n  args:\n  - --pipeline_config_path=gs://b/c\n")
    rows = {row.name: row.source for row in made.rows}
    assert rows["chief.machineType"] == "job file job.yaml:2"
    assert rows["pipelineConfigPath"] == "job file job.yaml:3 (args)"
    assert {row.name: row.source for row in resolved("trainingInput: {}").rows}["chief.machineType"] == "default"


def test_flags_go_before_what_the_file_says_for_a_pool() -> None:
    own = "imageUri: p/r/own, command: [python], args: [--fast]"
    text = POOLS.replace("replicaCount: 3", own) + "pythonModule: own.train\n"
    made = body(text, image="p/r/other", pipeline_config="gs://z/c")["jobSpec"]["workerPoolSpecs"]
    assert [pool["containerSpec"]["imageUri"] for pool in made] == ["p/r/other"] * 3
    assert all("--pipeline_config_path=gs://z/c" in pool["containerSpec"]["args"] for pool in made)
    old = body("trainingInput: {args: [--a, --pipeline_config_path, gs://b/c, --d]}", pipeline_config="gs://z/c")
    (pool,) = old["jobSpec"]["workerPoolSpecs"]
    assert pool["pythonPackageSpec"]["args"][1:] == ["--pipeline_config_path=gs://z/c", "--a", "--d"]
    made = body(POOLS, workers="0", parameter_servers="0")["jobSpec"]["workerPoolSpecs"]
    assert len(made) == 1


@pytest.mark.parametrize(
    ("flags", "environ", "said"),
    [
        ({"timeout": "1h"}, {}, "--timeout: must be a duration in seconds, for example \"43200s\", not '1h'"),
        ({}, {"ODCLOUD_TIMEOUT": "1h"}, "$ODCLOUD_TIMEOUT: must be a duration"),
        ({"workers": "many"}, {}, "--workers: must be a whole number, not 'many'"),
        ({}, {"ODCLOUD_ENABLE_WEB_ACCESS": "perhaps"}, "$ODCLOUD_ENABLE_WEB_ACCESS: must be true or false"),
        ({"strategy": "CHEAP"}, {}, "--strategy: unknown value 'CHEAP'"),
        ({"labels": ("a",)}, {}, "--label a: write it KEY=VALUE"),
        ({"labels": ("A=b",)}, {}, "--label: 'A': a label is"),
        ({"image": "a", "python_module": "b"}, {}, "--image and --python-module exclude each other"),
        ({"max_wait": "1s"}, {}, "--max-wait: has an effect with strategy FLEX_START only"),
        ({"workers": "0"}, {}, "job.yaml:4: workerPools[2]: parameter servers serve workers"),
    ],
)
def test_a_wrong_override_is_named(flags: dict[str, Any], environ: dict[str, str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        resolved(POOLS, flags, environ)
    assert str(caught.value).startswith(said), caught.value


def test_a_pool_that_is_not_there_has_no_size() -> None:
    with pytest.raises(UserError, match="--workers: the job file has no pool of role worker"):
        resolved("labels: {}", {"workers": "3"})


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(models.schema())


def test_the_schema_offers_machine_types_and_both_forms() -> None:
    schema = models.schema()
    for model, field in (("WorkerPool", "machineType"), ("TrainingInput", "parameterServerType")):
        assert {"standard_gpu", "n1-standard-8"} <= set(schema["$defs"][model]["properties"][field]["examples"])
    assert "trainingInput" in schema["properties"]
    jsonschema.validate({"workerPools": [{"role": "chief", "machineType": "c9-new-1"}]}, schema)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.yaml")), ids=lambda path: path.name)
def test_examples_name_the_schema_and_fit_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    first = text.splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    schema = json.loads((path.parent / first.partition("=")[2]).read_text(encoding="utf-8"))
    jsonschema.validate(YAML(typ="safe").load(text), schema)
    assert not reading.parse(text, path.name).warnings


@pytest.mark.parametrize(
    "document",
    [
        {"workerPools": [{"role": "chief"}]},
        {"trainingInput": {"workerCont": 1}},
        {"enableWebAccess": None},
        {"env": {"1": "a"}},
    ],
)
def test_the_schema_refuses_what_the_launcher_refuses(document: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, models.schema())
