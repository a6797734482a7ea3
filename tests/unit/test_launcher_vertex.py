"""Jobs to request bodies, and names."""

from __future__ import annotations

from typing import Any

import pytest

from infra.outputs import StackOutputs
from launcher import vertex
from launcher.errors import UserError
from launcher.job import evaluation_name
from launcher.jobfile import reading, resolve
from launcher.launch import training

RUN = "object_detection_1511000000"
OUTPUTS = StackOutputs(
    project="my-project",
    region="us-central1",
    bucket="my-bucket",
    train_dir="gs://my-bucket/train",
    eval_dir="gs://my-bucket/eval",
    data_dir="gs://my-bucket/data",
    staging_dir="gs://my-bucket/staging",
    pipeline_config_path="gs://my-bucket/config/0/pipeline.config",
    label_map_path="gs://my-bucket/data/label_map.pbtxt",
    package_uris=["gs://my-bucket/packages/0/odcloud_trainer-0.1.0.tar.gz"],
    python_modules={"train": "trainer.train", "eval": "trainer.evaluate"},
    executor_image_uri="us-docker.pkg.dev/vertex-ai/training/tf-cpu.2-17.py310:latest",
    image_repository="us-central1-docker.pkg.dev/p/odcloud",
    service_account="trainer@my-project.iam.gserviceaccount.com",
    labels={"app": "odcloud"},
    endpoints={},
)


def body(text: str) -> dict[str, Any]:
    return vertex.custom_job(resolve.training(OUTPUTS, reading.parse(text, "job.yaml"), RUN).job)


def test_a_distributed_training() -> None:
    made = body(
        """trainingInput:
  scaleTier: CUSTOM
  masterType: standard_gpu
  workerType: standard
  workerCount: 9
  parameterServerType: large_model
  parameterServerCount: 3
  scheduling: {maxRunningTime: 3600s}
labels: {team: cats, app: own}
"""
    )

    def pool(count: str, machine: dict[str, Any], image: str = OUTPUTS.executor_image_uri) -> dict[str, Any]:
        return {
            "machineSpec": machine,
            "replicaCount": count,
            "pythonPackageSpec": {
                "executorImageUri": image,
                "packageUris": ["gs://my-bucket/packages/0/odcloud_trainer-0.1.0.tar.gz"],
                "pythonModule": "trainer.train",
                "args": [
                    f"--train_dir=gs://my-bucket/train/{RUN}",
                    "--pipeline_config_path=gs://my-bucket/config/0/pipeline.config",
                ],
            },
        }

    gpu = {"machineType": "n1-standard-8", "acceleratorType": "NVIDIA_TESLA_T4", "acceleratorCount": 1}
    assert made == {
        "displayName": RUN,
        "jobSpec": {
            "workerPoolSpecs": [
                pool("1", gpu, "us-docker.pkg.dev/vertex-ai/training/tf-gpu.2-17.py310:latest"),
                pool("9", {"machineType": "n1-standard-4"}),
                pool("3", {"machineType": "n1-highmem-8"}),
            ],
            "baseOutputDirectory": {"outputUriPrefix": f"gs://my-bucket/train/{RUN}"},
            "serviceAccount": "trainer@my-project.iam.gserviceaccount.com",
            "scheduling": {"timeout": "3600s"},
        },
        "labels": {"app": "own", "team": "cats", "odcloud-run": RUN, "odcloud-kind": "train"},
    }


@pytest.mark.parametrize(
    ("machine", "stack", "image"),
    [
        ("standard", "us-docker.pkg.dev/vertex-ai/training/tf-cpu.2-17.py310:latest", None),
        ("g2-standard-4", "europe-docker.pkg.dev/vertex-ai/training/tf-cpu.2-15.py310:latest", "tf-gpu.2-15.py310:latest"),
        ("standard_gpu", f"us-docker.pkg.dev/vertex-ai/training/tf-cpu.2-17.py310@sha256:{64 * 'a'}", "tf-gpu.2-17.py310"),
        ("cloud_tpu", "us-docker.pkg.dev/vertex-ai/training/tf-cpu.2-17.py310:latest", "tf-tpu.2-15.cp310:latest"),
        ("standard_gpu", "us-docker.pkg.dev/vertex-ai/training/tf-gpu.2-16.py310:latest", None),
        ("standard_gpu", "example.com/vertex-ai/training/tf-cpu.2-17.py310:latest", None),
    ],
)
def test_the_stack_s_image_for_cpus_is_not_for_machines_with_accelerators(machine: str, stack: str, image: str | None) -> None:
    outputs = OUTPUTS.model_copy(update={"executor_image_uri": stack})
    text = f"workerPools: [{{role: chief, machineType: {machine}}}]\n"

    def chosen(text: str) -> tuple[str, resolve.Row | None]:
        found = resolve.training(outputs, reading.parse(text, "job.yaml"), RUN)
        (pool,) = vertex.custom_job(found.job)["jobSpec"]["workerPoolSpecs"]
        row = next((row for row in found.rows if row.name == "chief.executorImageUri"), None)
        return pool["pythonPackageSpec"]["executorImageUri"], row

    expected = f"{stack.rpartition('/')[0]}/{image}" if image else stack
    got, row = chosen(text)
    assert got == expected
    if image is None:
        assert row is None
    else:
        assert row is not None and row.value == got
        assert row.source.startswith("default for ") and row.source.endswith(", in place of the stack's for CPUs")
    own_args = chosen(text.replace("}", ", args: [--own]}"))
    assert own_args[0] == expected
    for said in (f"{text}executorImageUri: {stack}\n", text.replace("}", f", executorImageUri: '{stack}'}}")):
        got, row = chosen(said)
        assert got == stack and (row is None or row.source.startswith("job file"))


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("workerPools: [{role: chief, machineType: standard_gpu}]\n", "tf-gpu.2-17.py310:latest"),
        ("workerPools: [{role: chief, machineType: standard_gpu}]\nimageUri: example.com/own\n", None),
        ("workerPools: [{role: chief, machineType: standard_gpu}]\nexecutorImageUri: example.com/own\n", None),
        ("workerPools: [{role: chief, machineType: standard_gpu}]\npackageUris: [gs://b/own-1.tar.gz]\n", None),
        ("workerPools: [{role: chief, machineType: standard}]\n", None),
    ],
)
def test_the_trainer_in_an_image_with_another_tensorflows_cuda_is_warned_about(text: str, image: str | None) -> None:
    job = resolve.training(OUTPUTS, reading.parse(text, "job.yaml"), RUN).job
    found = training.without_cuda(job, OUTPUTS.package_uris)
    assert found == (image and f"us-docker.pkg.dev/vertex-ai/training/{image}")


def test_an_evaluation_runs_on_one_machine() -> None:
    made = vertex.custom_job(resolve.evaluation(OUTPUTS, reading.read(None), RUN).job)
    assert made["displayName"] == "object_detection_eval_1511000000"
    assert made["labels"] == {"app": "odcloud", "odcloud-run": RUN, "odcloud-kind": "eval"}
    (pool,) = made["jobSpec"]["workerPoolSpecs"]
    assert pool["replicaCount"] == "1"
    assert pool["pythonPackageSpec"]["pythonModule"] == "trainer.evaluate"
    assert pool["pythonPackageSpec"]["args"] == [
        f"--checkpoint_dir=gs://my-bucket/train/{RUN}",
        f"--eval_dir=gs://my-bucket/eval/{RUN}",
        "--pipeline_config_path=gs://my-bucket/config/0/pipeline.config",
    ]
    assert made["jobSpec"]["baseOutputDirectory"] == {"outputUriPrefix": f"gs://my-bucket/eval/{RUN}"}


def test_a_pool_left_out_keeps_its_place() -> None:
    job = resolve.training(OUTPUTS, reading.parse("trainingInput: {masterType: standard}", "job.yaml"), RUN).job
    (chief,) = job.pools
    ps = type(chief)("ps", chief.machine, 1)
    made = vertex.custom_job(type(job)(**{**vars(job), "pools": (chief, ps)}))
    assert made["jobSpec"]["workerPoolSpecs"][1] == {}
    assert vertex.tasks(made) == ["workerpool0-0", "workerpool2-0"]


def test_the_job_file_goes_before_the_stack() -> None:
    made = body(
        """trainingInput:
  scaleTier: BASIC
  pythonModule: object_detection.train
  packageUris: [gs://other/a.tar.gz, gs://other/b.tar.gz]
  jobDir: gs://other/out
  args: [--pipeline_config_path=gs://other/p.config, --worker_replicas=2]
"""
    )
    (pool,) = made["jobSpec"]["workerPoolSpecs"]
    spec = pool["pythonPackageSpec"]
    assert spec["pythonModule"] == "object_detection.train"
    assert spec["packageUris"] == ["gs://other/a.tar.gz", "gs://other/b.tar.gz"]
    assert spec["args"] == [
        f"--train_dir=gs://my-bucket/train/{RUN}",
        "--pipeline_config_path=gs://other/p.config",
        "--worker_replicas=2",
    ]
    assert made["jobSpec"]["baseOutputDirectory"] == {"outputUriPrefix": "gs://other/out"}


def test_what_would_part_a_run_from_its_folder_or_its_stack_is_refused() -> None:
    with pytest.raises(UserError, match="--train_dir is the run's own folder"):
        body("trainingInput: {args: [--train_dir=gs://other/train]}")
    with pytest.raises(UserError, match="europe-west4, but the stack's bucket and jobs are in us-central1"):
        body("trainingInput: {region: europe-west4}")


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("workerpool0-0", "chief"),
        ("workerpool1-0", "worker-0"),
        ("workerpool1-11", "worker-11"),
        ("workerpool2-0", "ps-0"),
        ("workerpool3-0", "evaluator-0"),
    ],
)
def test_replicas_have_two_names(task: str, name: str) -> None:
    assert vertex.replica_name(task) == name
    assert vertex.task_name(name) == task
    assert vertex.task_name(task) == task


def test_other_names_stay() -> None:
    assert vertex.replica_name("service") == "service"
    assert vertex.task_name("service") == "service"
    assert vertex.task_name("master") == "workerpool0-0"
    assert vertex.replica_name("workerpool9-0") == "workerpool9-0"


def test_evaluations_are_named_after_their_run() -> None:
    assert evaluation_name("object_detection_17") == "object_detection_eval_17"
    assert evaluation_name("mine") == "object_detection_eval_mine"
