"""The job file's two forms as typed models: native worker pools, and the old page's `trainingInput`.

Native leaf names are those of Vertex AI's `WorkerPoolSpec`, `Scheduling` and `CustomJobSpec` (discovery document
`aiplatform.v1`); the old form's are those of `GoogleCloudMlV1__TrainingInput` (`ml.v1`).
`make docs` writes the JSON schema that editors read, docs/job.schema.json.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

AcceleratorType = Literal[
    "NVIDIA_TESLA_K80",
    "NVIDIA_TESLA_P100",
    "NVIDIA_TESLA_V100",
    "NVIDIA_TESLA_P4",
    "NVIDIA_TESLA_T4",
    "NVIDIA_TESLA_A100",
    "NVIDIA_A100_80GB",
    "NVIDIA_L4",
    "NVIDIA_H100_80GB",
    "NVIDIA_H100_MEGA_80GB",
    "NVIDIA_H200_141GB",
    "NVIDIA_B200",
    "NVIDIA_GB200",
    "NVIDIA_RTX_PRO_6000",
    "TPU_V2",
    "TPU_V3",
    "TPU_V4_POD",
    "TPU_V5_LITEPOD",
]


def _count(value: Any) -> Any:
    """Google's counts are int64, which JSON carries as text: 9 and "9" are the same."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,18}", value.strip(), re.ASCII) else value


MOST = 2**31 - 1


def _in_schema(minimum: int) -> WithJsonSchema:
    number = {"type": "integer", "minimum": minimum, "maximum": MOST}
    return WithJsonSchema({"anyOf": [number, {"type": "string", "pattern": r"^\d+$"}]})


def _offered(schema: dict[str, Any]) -> None:
    """What an editor offers for a machine type; others may be written, too."""
    from launcher.jobfile import machines

    schema["examples"] = list(machines.names())


Count = Annotated[int, BeforeValidator(_count), Field(strict=True, ge=0, le=MOST), _in_schema(0)]
Positive = Annotated[int, BeforeValidator(_count), Field(strict=True, ge=1, le=MOST), _in_schema(1)]
Flag = Annotated[bool, Field(strict=True)]
GcsUri = Annotated[str, Field(strict=True, pattern=r"^gs://[^/\s]+(/[^\r\n]*)?$")]
Text = Annotated[str, Field(strict=True, min_length=1)]
MachineType = Annotated[str, Field(strict=True, min_length=1, json_schema_extra=_offered)]
Label = Annotated[str, Field(strict=True, pattern=r"^[a-z0-9_-]{0,63}$")]
LabelKey = Annotated[str, Field(strict=True, pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
Duration = Annotated[str, Field(strict=True, pattern=r"^[0-9]{1,12}(\.[0-9]{1,9})?s$")]
Region = Annotated[str, Field(strict=True, pattern=r"^[a-z]+-[a-z]+[0-9]+$")]
Module = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$")]
Image = Annotated[str, Field(strict=True, pattern=r"^[^\s]+$")]
Email = Annotated[str, Field(strict=True, pattern=r"^[^@\s]+@[^@\s]+$")]
Network = Annotated[str, Field(strict=True, pattern=r"^projects/[0-9]+/global/networks/[^/\s]+$")]
Tensorboard = Annotated[str, Field(strict=True, pattern=r"^projects/[^/\s]+/locations/[^/\s]+/tensorboards/[^/\s]+$")]
KmsKey = Annotated[str, Field(strict=True, pattern=r"^projects/[^/\s]+/locations/[^/\s]+/keyRings/[^/\s]+/cryptoKeys/[^/\s]+$")]
Variable = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Value = Annotated[str, Field(strict=True)]
Role = Literal["chief", "worker", "ps", "evaluator"]
Strategy = Literal["STANDARD", "SPOT", "FLEX_START"]
Labels = dict[LabelKey, Label]

SHAPES = {
    "baseOutputDirectory": "a gs://BUCKET/… address",
    "pipelineConfigPath": "a gs://BUCKET/… address",
    "jobDir": "a gs://BUCKET/… address",
    "maxRunningTime": 'a duration in seconds, for example "43200s"',
    "timeout": 'a duration in seconds, for example "43200s"',
    "maxWaitDuration": 'a duration in seconds, for example "3600s"',
    "region": "a region, for example us-central1",
    "pythonModule": "a Python module's name, for example trainer.train",
    "imageUri": "an image's address, for example us-docker.pkg.dev/PROJECT/REPOSITORY/trainer@sha256:…",
    "executorImageUri": "an image's address, for example us-docker.pkg.dev/vertex-ai/training/tf-cpu.2-17.py310:latest",
    "serviceAccount": "a service account's email address",
    "network": "projects/NUMBER/global/networks/NAME, with the project's number",
    "tensorboard": "projects/PROJECT/locations/REGION/tensorboards/NUMBER",
    "kmsKeyName": "projects/PROJECT/locations/REGION/keyRings/RING/cryptoKeys/KEY",
}
"""What a field's pattern asks for, in words; every other pattern is a gs:// address."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, regex_engine="rust-regex")


class ProgramFields(_Strict):
    """What a replica runs: Python packages in a prebuilt image, or an image of one's own."""

    executorImageUri: Image | None = Field(
        default=None, description="Vertex AI's prebuilt image that runs the Python packages."
    )
    packageUris: Annotated[tuple[GcsUri, ...], Field(min_length=1, max_length=100)] | None = Field(
        default=None, description="Python packages to install, in this order."
    )
    pythonModule: Module | None = Field(default=None, description="The module to run: python -m MODULE.")
    imageUri: Image | None = Field(default=None, description="An image of one's own, instead of packages.")
    command: Annotated[tuple[Value, ...], Field(min_length=1)] | None = Field(
        default=None, description="What to start in the image instead of its entry point."
    )
    args: tuple[Value, ...] | None = Field(
        default=None, description="The program's own arguments, after --train_dir and --pipeline_config_path."
    )
    env: Annotated[dict[Variable, Value], Field(max_length=100)] | None = Field(
        default=None, description="Environment variables: NAME: text."
    )


class ReservationAffinity(_Strict):
    """Which reservation a pool's machines come from."""

    reservationAffinityType: Literal["NO_RESERVATION", "ANY_RESERVATION", "SPECIFIC_RESERVATION"]
    key: Text | None = Field(default=None, description="compute.googleapis.com/reservation-name, to name a specific one.")
    values: Annotated[tuple[Text, ...], Field(min_length=1)] | None = Field(
        default=None, description="Resource names of reservations."
    )


class WorkerPool(ProgramFields):
    """Equal replicas with one role. A field of the program given here replaces the job's."""

    role: Role = Field(description="chief (exactly one replica), worker, ps (parameter server) or evaluator; each role once.")
    machineType: MachineType = Field(description="A Compute Engine machine type (n1-standard-8) or ML Engine's (standard_gpu).")
    acceleratorType: AcceleratorType | None = Field(default=None, description="Type of the accelerators on each machine.")
    acceleratorCount: Positive | None = Field(default=None, description="Accelerators on each machine.")
    replicaCount: Positive = Field(default=1, description="Number of machines.")
    bootDiskType: Literal["pd-ssd", "pd-standard", "hyperdisk-balanced"] | None = Field(
        default=None, description="Type of each machine's boot disk; Vertex AI's default is pd-ssd."
    )
    bootDiskSizeGb: Positive | None = Field(
        default=None, description="Size of each machine's boot disk in GB; Vertex AI's default is 100."
    )
    reservationAffinity: ReservationAffinity | None = Field(
        default=None, description="Which reservation the machines come from."
    )


class Scheduling(_Strict):
    """Queueing, restarts, limits of time."""

    strategy: Strategy | None = Field(
        default=None, description="SPOT: cheap, may be taken away; FLEX_START: waits for machines."
    )
    timeout: Duration | None = Field(default=None, description="Longest run time, e.g. 43200s; Vertex AI's default is 7 days.")
    restartJobOnWorkerRestart: Flag | None = Field(
        default=None, description="Restart the whole job when one replica is restarted."
    )
    disableRetries: Flag | None = Field(default=None, description="End the job at an internal error instead of trying again.")
    maxWaitDuration: Duration | None = Field(
        default=None, description="Longest wait for machines under FLEX_START; default 24 h."
    )


class NativeJob(ProgramFields):
    """A job file in the native form: worker pools and what they share. Every field may be left out."""

    workerPools: Annotated[tuple[WorkerPool, ...], Field(min_length=1)] | None = Field(
        default=None, description="The machines; by default one chief, n1-standard-4."
    )
    pipelineConfigPath: GcsUri | None = Field(
        default=None, description="The pipeline configuration, argument --pipeline_config_path; by default the stack's."
    )
    region: Region | None = Field(default=None, description="Must be the stack's.")
    baseOutputDirectory: GcsUri | None = Field(
        default=None,
        description="Base of AIP_MODEL_DIR, AIP_CHECKPOINT_DIR and AIP_TENSORBOARD_LOG_DIR; by default the run's folder.",
    )
    serviceAccount: Email | None = Field(default=None, description="The account that the job runs as; by default the stack's.")
    network: Network | None = Field(default=None, description="The VPC network that the job is peered to.")
    tensorboard: Tensorboard | None = Field(default=None, description="The Vertex AI TensorBoard that events are uploaded to.")
    enableWebAccess: Flag | None = Field(default=None, description="Allow interactive shells into the replicas.")
    kmsKeyName: KmsKey | None = Field(
        default=None, description="The key of Cloud KMS that encrypts the job, Vertex AI's encryptionSpec.kmsKeyName."
    )
    anyMachineType: Flag | None = Field(
        default=None, description="Pass on machine types that odcloud has no entry of, for Google to judge."
    )
    scheduling: Scheduling = Field(default=Scheduling(), description="Queueing, restarts, limits of time.")
    labels: Labels = Field(default={}, description="Labels of the job, beside the stack's.")


class OldScheduling(_Strict):
    """ML Engine's limits of time."""

    maxRunningTime: Duration | None = Field(default=None, description="Longest run time, e.g. 43200s.")
    maxWaitTime: Duration | None = Field(default=None, description="No effect: custom jobs wait until quota allows.")
    priority: Annotated[int, Field(strict=True)] | None = Field(
        default=None, description="No effect: custom jobs know no priority."
    )


class OldEncryption(_Strict):
    """ML Engine's `EncryptionConfig`."""

    kmsKeyName: KmsKey


class OldAccelerator(_Strict):
    """ML Engine's `AcceleratorConfig`."""

    type: Literal[AcceleratorType, "TPU_V2_POD", "TPU_V3_POD"]
    count: Positive


class OldDisk(_Strict):
    """ML Engine's `DiskConfig`."""

    bootDiskType: Literal["pd-ssd", "pd-standard"] | None = None
    bootDiskSizeGb: Positive | None = None


class OldReplica(_Strict):
    """ML Engine's `ReplicaConfig`: what the replicas of one role have beside their machine type."""

    acceleratorConfig: OldAccelerator | None = None
    diskConfig: OldDisk | None = None
    imageUri: Image | None = None
    containerCommand: Annotated[tuple[Value, ...], Field(min_length=1)] | None = None
    containerArgs: tuple[Value, ...] | None = None


class TrainingInput(_Strict):
    """ML Engine's description of a training job, as the old page's YAML has it."""

    scaleTier: Literal["BASIC", "STANDARD_1", "PREMIUM_1", "BASIC_GPU", "BASIC_TPU", "CUSTOM"] | None = Field(
        default=None, description="CUSTOM: the machines are named below; the others are fixed sets of machines."
    )
    masterType: MachineType | None = Field(default=None, description="The chief's machine type.")
    masterConfig: OldReplica | None = None
    workerType: MachineType | None = Field(default=None, description="Machine type of each worker.")
    workerCount: Count | None = Field(default=None, description="n workers mean n + 1 training machines.")
    workerConfig: OldReplica | None = None
    parameterServerType: MachineType | None = Field(default=None, description="Machine type of each, without GPU.")
    parameterServerCount: Count | None = Field(
        default=None, description="Best odd, unless variables are placed by size, as by this project's trainer."
    )
    parameterServerConfig: OldReplica | None = None
    evaluatorType: MachineType | None = Field(default=None, description="Machine type of each evaluator.")
    evaluatorCount: Count | None = Field(default=None, description="Evaluators; odcloud eval is a job of its own.")
    evaluatorConfig: OldReplica | None = None
    runtimeVersion: Text | None = Field(default=None, description="No effect: ML Engine's runtimes are gone.")
    pythonVersion: Text | None = Field(default=None, description="No effect: ML Engine's runtimes are gone.")
    region: Region | None = Field(default=None, description="Must be the stack's.")
    args: tuple[Value, ...] | None = Field(default=None, description="The program's own arguments.")
    packageUris: Annotated[tuple[GcsUri, ...], Field(min_length=1, max_length=100)] | None = Field(
        default=None, description="Python packages to install; by default the stack's."
    )
    pythonModule: Module | None = Field(default=None, description="The module to run; by default the stack's.")
    jobDir: GcsUri | None = Field(default=None, description="Where the job writes; by default the run's folder.")
    scheduling: OldScheduling = OldScheduling()
    serviceAccount: Email | None = Field(default=None, description="The account that the job runs as; by default the stack's.")
    network: Network | None = Field(default=None, description="The VPC network that the job is peered to.")
    enableWebAccess: Flag | None = Field(default=None, description="Allow interactive shells into the replicas.")
    encryptionConfig: OldEncryption | None = None
    useChiefInTfConfig: Flag | None = Field(default=None, description="No effect: it is chief today, always.")


class OldJob(_Strict):
    """A job file in the old page's form: ML Engine's `Job`."""

    jobId: Text | None = Field(default=None, description="No effect: a job is called as the command line says.")
    trainingInput: TrainingInput = Field(default_factory=TrainingInput)
    labels: Labels = {}


def schema() -> dict[str, Any]:
    """The JSON schema of job files: with `trainingInput` the old form, without it the native one."""
    from pydantic.json_schema import models_json_schema

    refs, shared = models_json_schema([(NativeJob, "validation"), (OldJob, "validation")], ref_template="#/$defs/{model}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "odcloud job file",
        "description": "What `odcloud train --config` reads.",
        "properties": {
            "trainingInput": {"description": "The old page's form, ML Engine's; without it the form is the native one."}
        },
        "if": {"type": "object", "required": ["trainingInput"]},
        "then": refs[(OldJob, "validation")],
        "else": refs[(NativeJob, "validation")],
        "$defs": _tidy(shared["$defs"]),
    }


def _tidy(node: Any) -> Any:
    """Without pydantic's titles, and without null as a value: a field that is left out is not written at all."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: _tidy(item) for key, item in node.items() if not (key == "title" and isinstance(item, str))}
    if "patternProperties" in made:
        made["additionalProperties"] = False
    if made.get("default", 0) is None:
        del made["default"]
    if "anyOf" in made:
        options = [option for option in made["anyOf"] if option != {"type": "null"}]
        made = {
            **{key: item for key, item in made.items() if key != "anyOf"},
            **({"anyOf": options} if options[1:] else options[0]),
        }
    return made


def schema_text() -> str:
    """docs/job.schema.json as it is to be."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
