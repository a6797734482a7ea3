"""The native job file against Vertex AI's discovery document: each field where Google has it, each value one that Google knows.

And the other way round: what Google has and a job file has not is named here, so that nothing is left out unawares.
"""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest
from discovery_check import check_request, document
from test_launcher_requests import RUN, outputs

from launcher import vertex
from launcher.errors import UserError
from launcher.jobfile import models, reading, resolve

SCHEMAS = document("aiplatform", "v1")["schemas"]
# Every field of the native form, each with a value of its own.
WHOLE = """
workerPools:
  - role: chief
    machineType: n1-standard-16
    acceleratorType: NVIDIA_TESLA_T4
    acceleratorCount: 2
    bootDiskType: pd-standard
    bootDiskSizeGb: 333
    reservationAffinity:
      reservationAffinityType: SPECIFIC_RESERVATION
      key: compute.googleapis.com/reservation-name
      values: [projects/p/zones/z/reservations/r]
    imageUri: example.com/image:1
    command: [run, it]
    args: [--chief=1]
    env: {CHIEF: "1"}
  - {role: worker, machineType: n1-standard-8, replicaCount: 7}
  - role: ps
    machineType: n1-highmem-8
    executorImageUri: example.com/executor:1
    packageUris: [gs://b/ps.tar.gz]
    pythonModule: ps.module
executorImageUri: example.com/executor:2
packageUris: [gs://b/one.tar.gz, gs://b/two.whl]
pythonModule: some.module
args: [--own=1]
env: {NAME: text}
pipelineConfigPath: gs://b/own.config
region: us-central1
baseOutputDirectory: gs://b/out
serviceAccount: me@p.iam.gserviceaccount.com
network: projects/1/global/networks/n
tensorboard: projects/p/locations/us-central1/tensorboards/2
enableWebAccess: true
kmsKeyName: projects/p/locations/us-central1/keyRings/r/cryptoKeys/k
anyMachineType: true
scheduling: {strategy: FLEX_START, timeout: 60s, restartJobOnWorkerRestart: true, disableRetries: false, maxWaitDuration: 30s}
labels: {team: cats}
"""
# What Google has and a job file has not, and why.
LEFT_OUT = {
    "CustomJob": {"displayName": "the run's id", "jobSpec": "workerPools and their like", "encryptionSpec": "kmsKeyName"},
    "CustomJobSpec": {
        "enableDashboardAccess": "dashboards of Ray and the like, which this trainer has none of",
        "experiment": "Vertex AI Experiments: runs are records and TensorBoard's",
        "experimentRun": "the same",
        "models": "checkpoints of models in Vertex AI's registry",
        "persistentResourceId": "machines kept between jobs",
        "protectedArtifactLocationId": "a bucket's location, for Assured Workloads",
        "pscInterfaceConfig": "Private Service Connect; `network` peers",
        "reservedIpRanges": "ranges of the peered network",
        "workerPoolSpecs": "workerPools",
    },
    "WorkerPoolSpec": {
        "machineSpec": "machineType and its like",
        "diskSpec": "bootDiskType, bootDiskSizeGb",
        "containerSpec": "imageUri, command, args, env",
        "pythonPackageSpec": "packageUris and their like",
        "nfsMounts": "data is read from the bucket",
        "lustreMounts": "data is read from the bucket",
    },
    "MachineSpec": {"gpuPartitionSize": "parts of a GPU", "tpuTopology": "TPU slices, which this trainer has no strategy for"},
    "Scheduling": {},
    "ReservationAffinity": {},
    "DiskSpec": {},
    "ContainerSpec": {},
    "PythonPackageSpec": {},
}
NATIVE = {
    "CustomJob": models.NativeJob,
    "CustomJobSpec": models.NativeJob,
    "WorkerPoolSpec": models.WorkerPool,
    "MachineSpec": models.WorkerPool,
    "DiskSpec": models.WorkerPool,
    "ContainerSpec": models.WorkerPool,
    "PythonPackageSpec": models.WorkerPool,
    "Scheduling": models.Scheduling,
    "ReservationAffinity": models.ReservationAffinity,
}


def body(text: str) -> dict[str, Any]:
    made = vertex.custom_job(resolve.training(outputs("b"), reading.parse(text, "job.yaml"), RUN).job)
    parent = {"parent": "projects/p/locations/us-central1"}
    check_request("aiplatform", "v1", "aiplatform.projects.locations.customJobs.create", parent, {}, made)
    return made


def properties(schema: str) -> dict[str, Any]:
    found: dict[str, Any] = SCHEMAS[f"GoogleCloudAiplatformV1{schema}"]["properties"]
    return {name: field for name, field in found.items() if not field.get("readOnly")}


def test_every_native_field_comes_out_where_google_has_it() -> None:
    for name in (*models.NativeJob.model_fields, *models.WorkerPool.model_fields, *models.Scheduling.model_fields):
        if name not in ("imageUri", "command"):  # of a pool alone, here
            assert re.search(rf"\b{name}:", WHOLE), name
    made = body(WHOLE)
    leading = [f"--train_dir=gs://b/train/{RUN}", "--pipeline_config_path=gs://b/own.config"]
    env = [{"name": "NAME", "value": "text"}]
    assert made == {
        "displayName": RUN,
        "encryptionSpec": {"kmsKeyName": "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"},
        "labels": {"app": "odcloud", "team": "cats", "odcloud-run": RUN, "odcloud-kind": "train"},
        "jobSpec": {
            "workerPoolSpecs": [
                {
                    "machineSpec": {
                        "machineType": "n1-standard-16",
                        "acceleratorType": "NVIDIA_TESLA_T4",
                        "acceleratorCount": 2,
                        "reservationAffinity": {
                            "reservationAffinityType": "SPECIFIC_RESERVATION",
                            "key": "compute.googleapis.com/reservation-name",
                            "values": ["projects/p/zones/z/reservations/r"],
                        },
                    },
                    "replicaCount": "1",
                    "diskSpec": {"bootDiskType": "pd-standard", "bootDiskSizeGb": 333},
                    "containerSpec": {
                        "imageUri": "example.com/image:1",
                        "command": ["run", "it"],
                        "args": [*leading, "--chief=1"],
                        "env": [{"name": "CHIEF", "value": "1"}],
                    },
                },
                {
                    "machineSpec": {"machineType": "n1-standard-8"},
                    "replicaCount": "7",
                    "pythonPackageSpec": {
                        "executorImageUri": "example.com/executor:2",
                        "packageUris": ["gs://b/one.tar.gz", "gs://b/two.whl"],
                        "pythonModule": "some.module",
                        "args": [*leading, "--own=1"],
                        "env": env,
                    },
                },
                {
                    "machineSpec": {"machineType": "n1-highmem-8"},
                    "replicaCount": "1",
                    "pythonPackageSpec": {
                        "executorImageUri": "example.com/executor:1",
                        "packageUris": ["gs://b/ps.tar.gz"],
                        "pythonModule": "ps.module",
                        "args": [*leading, "--own=1"],
                        "env": env,
                    },
                },
            ],
            "baseOutputDirectory": {"outputUriPrefix": "gs://b/out"},
            "serviceAccount": "me@p.iam.gserviceaccount.com",
            "network": "projects/1/global/networks/n",
            "tensorboard": "projects/p/locations/us-central1/tensorboards/2",
            "enableWebAccess": True,
            "scheduling": {
                "strategy": "FLEX_START",
                "timeout": "60s",
                "restartJobOnWorkerRestart": True,
                "disableRetries": False,
                "maxWaitDuration": "30s",
            },
        },
    }


@pytest.mark.parametrize("schema", NATIVE)
def test_what_google_has_is_in_the_job_file_or_left_out_knowingly(schema: str) -> None:
    own = set(NATIVE[schema].model_fields)
    documented = set(properties(schema))
    assert documented - own == set(LEFT_OUT[schema])


def choices(model: Any, field: str) -> tuple[str, ...]:
    """The values that a field of a model may have."""
    return tuple(value for option in get_args(model.model_fields[field].annotation) for value in get_args(option)) or get_args(
        model.model_fields[field].annotation
    )


@pytest.mark.parametrize(
    ("schema", "field", "model", "left_out"),
    [
        ("MachineSpec", "acceleratorType", models.WorkerPool, {"ACCELERATOR_TYPE_UNSPECIFIED"}),
        # The document calls these two deprecated names of STANDARD and SPOT.
        ("Scheduling", "strategy", models.Scheduling, {"STRATEGY_UNSPECIFIED", "ON_DEMAND", "LOW_COST"}),
        ("ReservationAffinity", "reservationAffinityType", models.ReservationAffinity, {"TYPE_UNSPECIFIED"}),
    ],
)
def test_every_value_is_one_of_googles(schema: str, field: str, model: Any, left_out: set[str]) -> None:
    documented = set(properties(schema)[field]["enum"])
    assert set(choices(model, field)) == documented - left_out
    assert left_out <= documented


def test_disk_types_are_those_that_the_document_names() -> None:
    named = re.findall(r'"([a-z-]+)"', properties("DiskSpec")["bootDiskType"]["description"])
    assert set(choices(models.WorkerPool, "bootDiskType")) == set(named)


ATTACHED = ("NVIDIA_TESLA_",)


@pytest.mark.parametrize("kind", get_args(models.AcceleratorType))
def test_every_accelerator_makes_a_request(kind: str) -> None:
    machine = "n1-standard-8" if kind.startswith(ATTACHED) and kind != "NVIDIA_TESLA_A100" else "x9-somegpu-1"
    pool = f"{{role: chief, machineType: {machine}, acceleratorType: {kind}, acceleratorCount: 1}}"
    made = body(f"anyMachineType: true\nworkerPools: [{pool}]")
    spec = made["jobSpec"]["workerPoolSpecs"][0]["machineSpec"]
    assert (spec["machineType"], spec["acceleratorType"]) == (machine, kind)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("scheduling", f"{{strategy: {one}}}") for one in get_args(models.Strategy)),
        *(("scheduling", f"{{restartJobOnWorkerRestart: {one}}}") for one in ("true", "false")),
        *(("scheduling", f"{{disableRetries: {one}}}") for one in ("true", "false")),
        *(("bootDiskType", one) for one in choices(models.WorkerPool, "bootDiskType")),
        *(("reservationAffinity", f"{{reservationAffinityType: {one}}}") for one in ("NO_RESERVATION", "ANY_RESERVATION")),
    ],
)
def test_every_choice_makes_a_request(field: str, value: str) -> None:
    pool, job = (f", {field}: {value}", "") if field != "scheduling" else ("", f"{field}: {value}")
    made = body(f"workerPools: [{{role: chief, machineType: n1-standard-4{pool}}}]\n{job}")
    word = re.split(r"[{}: ]+", value.strip("{}"))[-1]
    assert f"'{word}'" in str(made) or f": {word.title()}" in str(made)


def test_the_check_itself_finds_a_value_that_google_does_not_know() -> None:
    with pytest.raises(UserError, match="unknown value 'LOW_COST'"):
        body("scheduling: {strategy: LOW_COST}")
    made = body("scheduling: {strategy: SPOT}")
    made["jobSpec"]["scheduling"]["strategy"] = "CHEAP"
    with pytest.raises(AssertionError, match="CHEAP"):
        check_request(
            "aiplatform",
            "v1",
            "aiplatform.projects.locations.customJobs.create",
            {"parent": "projects/p/locations/us-central1"},
            {},
            made,
        )
