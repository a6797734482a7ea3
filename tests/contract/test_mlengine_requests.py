"""What becomes of ML Engine's words: both recorded bodies, and every machine type, scale tier, accelerator and runtime."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from discovery_check import check_request, document

from launcher import mlengine, vertex
from launcher.commands.mlengine import group
from launcher.errors import UserError
from launcher.job import Machine
from launcher.jobfile import machines, reading
from localcloud.services.vertex_validation import violations

FIXTURES = Path(__file__).parents[1] / "fixtures" / "ml-engine"
RECORDED = json.loads((FIXTURES / "gcloud.requests.json").read_text())
COMMON = [
    "--runtime-version",
    "1.2",
    "--job-dir=gs://my-bucket/train",
    "--packages",
    "gs://my-bucket/pkg/object_detection-0.1.tar.gz,gs://my-bucket/pkg/slim-0.1.tar.gz",
    "--region",
    "us-central1",
]
COMMANDS = {
    "train": [
        "object_detection_1511000000",
        *COMMON,
        "--module-name",
        "object_detection.train",
        "--config",
        str(FIXTURES / "train.yaml"),
        "--",
        "--train_dir=gs://my-bucket/train",
        "--pipeline_config_path=gs://my-bucket/pipeline.config",
    ],
    "eval": [
        "object_detection_eval_1511000000",
        *COMMON,
        "--module-name",
        "object_detection.eval",
        "--scale-tier",
        "BASIC_GPU",
        "--",
        "--checkpoint_dir=gs://my-bucket/train",
        "--eval_dir=gs://my-bucket/eval",
        "--pipeline_config_path=gs://my-bucket/pipeline.config",
    ],
}


def dry_run(*arguments: str) -> tuple[dict[str, Any], list[str]]:
    """The body that a submission would send, and its warnings."""
    own = arguments.index("--") if "--" in arguments else len(arguments)
    line = ["jobs", "submit", "training", *arguments[:own], "--dry-run", *arguments[own:]]
    done = CliRunner().invoke(group, line, standalone_mode=False, catch_exceptions=False)
    return json.loads(done.stdout), done.stderr.splitlines()


def checked(body: dict[str, Any]) -> dict[str, Any]:
    """A custom job, held against the document and against what the service refuses beyond it."""
    parent = {"parent": "projects/p/locations/us-central1"}
    check_request("aiplatform", "v1", "aiplatform.projects.locations.customJobs.create", parent, {}, body)
    assert not list(violations(body))
    return body


@pytest.mark.parametrize("kind", ["train", "eval"])
def test_the_old_services_body_field_by_field(kind: str) -> None:
    recorded = json.loads((FIXTURES / f"{kind}.request.json").read_text())
    own = COMMANDS[kind].index("--")
    body, warnings = dry_run(*COMMANDS[kind][:own], "--engine", "ml-engine", *COMMANDS[kind][own:])
    assert body == recorded["body"]
    assert warnings == []
    check_request("ml", "v1", "ml.projects.jobs.create", {"parent": "projects/p"}, {}, body)


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: shlex.split(recorded["command"])[0])
def test_what_gcloud_sent_field_by_field(recorded: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies that `gcloud ai-platform jobs submit training` 528 sent with region us-central1 in its environment."""
    monkeypatch.chdir(FIXTURES)
    monkeypatch.setenv("CLOUDSDK_COMPUTE_REGION", "us-central1")
    monkeypatch.setenv("CLOUDSDK_CORE_PROJECT", "p")
    arguments = shlex.split(recorded["command"])
    own = arguments.index("--") if "--" in arguments else len(arguments)
    body, _ = dry_run(*arguments[:own], "--engine", "ml-engine", *arguments[own:])
    assert body == recorded["body"]
    check_request("ml", "v1", "ml.projects.jobs.create", {"parent": "projects/p"}, {}, body)
    job, _ = dry_run(*arguments)
    checked(job)


def test_the_environment_s_region_goes_before_the_file_s_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    file = ["--config", str(FIXTURES / "job.json"), *PROGRAM[:4]]
    monkeypatch.setenv("CLOUDSDK_COMPUTE_REGION", "us-central1")
    _, warnings = dry_run("job", *file)
    assert f"{FIXTURES / 'job.json'}:15: trainingInput.region: europe-west1: us-central1 of the environment" in warnings[0]
    assert not any("region" in warning for warning in dry_run("job", *file, "--region", "us-east1")[1])
    monkeypatch.delenv("CLOUDSDK_COMPUTE_REGION")
    monkeypatch.setenv("CLOUDSDK_CONFIG", "/nowhere")
    monkeypatch.setenv("CLOUDSDK_AI_REGION", "")
    monkeypatch.setenv("GOOGLE_REGION", "")
    old, _ = dry_run("job", *file, "--engine", "ml-engine")
    assert old["trainingInput"]["region"] == "europe-west1"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--labels a=b --labels c=d,a=e", "--labels: a is given twice, as b and e"),
        ("--labels a", "Invalid value for '--labels': 'a': write KEY=VALUE,KEY=VALUE"),
        ("--labels a=Big", "Invalid value for '--labels': a=Big: at most 63 lower-case letters"),
        ("--labels A=b", "Invalid value for '--labels': A=b: at most 63 lower-case letters"),
        ("--job-dir b/train", "Invalid value for '--job-dir': 'b/train': must be gs://BUCKET/FOLDER"),
        ("--staging-bucket gs://b/x", "Invalid value for '--staging-bucket': 'gs://b/x': must be gs://BUCKET"),
        ("--kms-key k", "--kms-key: give projects/PROJECT/locations/REGION/keyRings/RING/cryptoKeys/KEY, or the key's id"),
        ("--kms-location eu", "--kms-key: give projects/PROJECT/"),
        ("--async --stream-logs", "--async and --stream-logs exclude each other"),
        (
            "--master-accelerator count=0,type=tpu-v2",
            "Invalid value for '--master-accelerator': 'count=0,type=tpu-v2': count must",
        ),
        ("--scale-tier huge", "Invalid value for '--scale-tier': 'huge' is not one of BASIC, STANDARD_1"),
        ("--format table", "Invalid value for '--format': 'table' is none of text, json, yaml and value(FIELD,…)"),
    ],
)
def test_a_wrong_flag_is_named(flags: str, said: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        dry_run("job", *PROGRAM, *shlex.split(flags))
    assert caught.value.format_message().startswith(said)


def test_the_training_as_a_custom_job() -> None:
    body, warnings = dry_run(*COMMANDS["train"])
    package = {
        "packageUris": ["gs://my-bucket/pkg/object_detection-0.1.tar.gz", "gs://my-bucket/pkg/slim-0.1.tar.gz"],
        "pythonModule": "object_detection.train",
        "args": [
            "--train_dir=gs://my-bucket/train",
            "--pipeline_config_path=gs://my-bucket/pipeline.config",
            "--job-dir",
            "gs://my-bucket/train",
        ],
    }
    images = "us-docker.pkg.dev/vertex-ai/training"
    gpu = {
        "machineSpec": {"machineType": "n1-standard-8", "acceleratorType": "NVIDIA_TESLA_T4", "acceleratorCount": 1},
        "pythonPackageSpec": {"executorImageUri": f"{images}/tf-gpu.2-17.py310:latest", **package},
    }
    cpu = {
        "machineSpec": {"machineType": "n1-standard-4"},
        "pythonPackageSpec": {"executorImageUri": f"{images}/tf-cpu.2-17.py310:latest", **package},
    }
    assert checked(body) == {
        "displayName": "object_detection_1511000000",
        "labels": {"odcloud-run": "object_detection_1511000000", "odcloud-kind": "job"},
        "jobSpec": {
            "workerPoolSpecs": [
                {"replicaCount": "1", **gpu},
                {"replicaCount": "9", **gpu},
                {"replicaCount": "3", **cpu},
            ],
            "baseOutputDirectory": {"outputUriPrefix": "gs://my-bucket/train"},
        },
    }
    assert len(warnings) == 3
    assert all(warning.startswith("warning: ") for warning in warnings)
    assert f"{FIXTURES / 'train.yaml'}:4: trainingInput.masterType: standard_gpu" in warnings[0]


# What each legacy name is today: machine type, accelerator, and whether that is said to the user.
T4, V100 = "NVIDIA_TESLA_T4", "NVIDIA_TESLA_V100"
LEGACY = {
    "standard": (Machine("n1-standard-4"), False),
    "large_model": (Machine("n1-highmem-8"), False),
    "complex_model_s": (Machine("n1-highcpu-8"), False),
    "complex_model_m": (Machine("n1-highcpu-16"), False),
    "complex_model_l": (Machine("n1-highcpu-32"), False),
    "standard_gpu": (Machine("n1-standard-8", T4, 1), True),
    "complex_model_m_gpu": (Machine("n1-standard-16", T4, 4), True),
    "complex_model_l_gpu": (Machine("n1-standard-32", T4, 4), True),
    "standard_p100": (Machine("n1-standard-8", T4, 1), True),
    "complex_model_m_p100": (Machine("n1-standard-16", T4, 4), True),
    "standard_v100": (Machine("n1-standard-8", V100, 1), False),
    "large_model_v100": (Machine("n1-highmem-8", V100, 1), False),
    "complex_model_m_v100": (Machine("n1-standard-16", V100, 4), False),
    "complex_model_l_v100": (Machine("n1-standard-32", V100, 8), False),
    "cloud_tpu": (Machine("cloud-tpu", "TPU_V2", 8), True),
}
TIERS = {
    "BASIC": [("n1-standard-4", "1")],
    "STANDARD_1": [("n1-highcpu-8", "1"), ("n1-highcpu-8", "4"), ("n1-standard-4", "3")],
    "PREMIUM_1": [("n1-highcpu-16", "1"), ("n1-highcpu-16", "19"), ("n1-highmem-8", "11")],
    "BASIC_GPU": [("n1-standard-8", "1")],
    "BASIC_TPU": [("cloud-tpu", "1")],
}
PROGRAM = ["--packages", "gs://b/p-1.tar.gz", "--module-name", "p.run", "--region", "us-central1"]


def test_the_tables_are_whole() -> None:
    assert set(LEGACY) == set(machines.mapping()["machineTypes"])
    assert {*TIERS, "CUSTOM"} == set(machines.mapping()["scaleTiers"])


@pytest.mark.parametrize("name", machines.names())
def test_every_machine_type(name: str) -> None:
    body, warnings = dry_run("job", *PROGRAM, "--scale-tier", "custom", "--master-machine-type", name)
    (pool,) = checked(body)["jobSpec"]["workerPoolSpecs"]
    plain = Machine(name, *machines.mapping()["acceleratorMachines"].get(name, (None, 0)))
    expected, told = LEGACY.get(name, (plain, False))
    spec = pool["machineSpec"]
    assert Machine(spec["machineType"], spec.get("acceleratorType"), spec.get("acceleratorCount", 0)) == expected
    kind = "tpu" if name == "cloud_tpu" else "gpu" if expected.accelerator_type else "cpu"
    assert f"/tf-{kind}." in pool["pythonPackageSpec"]["executorImageUri"]
    assert bool(warnings) == told
    if told:
        assert f"--master-machine-type (trainingInput.masterType): {name} was " in warnings[0]


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("spelt", [str, lambda tier: tier.lower().replace("_", "-")])
def test_every_scale_tier(tier: str, spelt: Any) -> None:
    body, _ = dry_run("job", *PROGRAM, "--scale-tier", spelt(tier))
    pools = checked(body)["jobSpec"]["workerPoolSpecs"]
    assert [(pool["machineSpec"]["machineType"], pool["replicaCount"]) for pool in pools] == TIERS[tier]


@pytest.mark.parametrize("kind", machines.accelerator_types())
def test_every_accelerator(kind: str) -> None:
    own = {comes: (name, count) for name, (comes, count) in machines.mapping()["acceleratorMachines"].items()}
    machine, count = own.get(kind, ("n1-standard-16", 4))
    accelerator = f"count={count},type={kind.lower().replace('_', '-')}"
    asked = ["--master-machine-type", machine, "--master-accelerator", accelerator]
    body, warnings = dry_run("job", *PROGRAM, *asked)
    (pool,) = checked(body)["jobSpec"]["workerPoolSpecs"]
    retired, renamed = kind in ("NVIDIA_TESLA_K80", "NVIDIA_TESLA_P100"), kind in ("TPU_V2_POD", "TPU_V3_POD")
    name = kind.removesuffix("_POD") if renamed else kind
    got = (pool["machineSpec"]["acceleratorType"], pool["machineSpec"]["acceleratorCount"])
    assert got == ((T4 if retired else name), count)
    assert len(warnings) == retired + renamed
    kept, said = dry_run("job", *PROGRAM, *asked, "--keep-retired")
    assert checked(kept)["jobSpec"]["workerPoolSpecs"][0]["machineSpec"]["acceleratorType"] == name
    assert len(said) == retired + renamed


def test_every_accelerator_of_ml_engine_is_in_the_table() -> None:
    documented = document("ml", "v1")["schemas"]["GoogleCloudMlV1__AcceleratorConfig"]["properties"]["type"]["enum"]
    assert set(machines.mapping()["acceleratorTypes"]) == set(documented) - {"ACCELERATOR_TYPE_UNSPECIFIED"}
    tiers = document("ml", "v1")["schemas"]["GoogleCloudMlV1__TrainingInput"]["properties"]["scaleTier"]["enum"]
    assert set(machines.mapping()["scaleTiers"]) == set(tiers)


@pytest.mark.parametrize("version", [one for group in machines.mapping()["runtimeVersions"] for one in group["versions"]])
def test_every_runtime_version(version: str) -> None:
    body, warnings = dry_run("job", *PROGRAM, "--runtime-version", version)
    assert "/tf-cpu.2-17." in checked(body)["jobSpec"]["workerPoolSpecs"][0]["pythonPackageSpec"]["executorImageUri"]
    assert len(warnings) == 1 and f"{version} had " in warnings[0] and "--executor-image-uri" in warnings[0]
    own, silent = dry_run("job", *PROGRAM, "--runtime-version", version, "--executor-image-uri", "eu.gcr.io/p/own:1")
    assert own["jobSpec"]["workerPoolSpecs"][0]["pythonPackageSpec"]["executorImageUri"] == "eu.gcr.io/p/own:1"
    assert silent == []


def test_legacy_gpus_can_be_kept() -> None:
    body, warnings = dry_run("job", *PROGRAM, "--scale-tier", "BASIC_GPU", "--keep-retired")
    assert checked(body)["jobSpec"]["workerPoolSpecs"][0]["machineSpec"] == {
        "machineType": "n1-standard-8",
        "acceleratorType": "NVIDIA_TESLA_K80",
        "acceleratorCount": 1,
    }
    assert "asked for all the same" in warnings[0]


def test_every_flag_reaches_its_field() -> None:
    arguments = shlex.split(
        """Name_1 --job-dir gs://b/out --packages gs://b/p.tar.gz --module-name p.run --runtime-version 2.1
        --region europe-west4
        --python-version 3.7 --scale-tier CUSTOM --network projects/1/global/networks/n --labels team=cats,kind=test
        --master-machine-type n1-standard-8 --master-accelerator type=nvidia-tesla-t4
        --worker-machine-type n1-standard-4 --worker-count 2 --worker-accelerator count=2,type=nvidia-tesla-t4
        --worker-image-uri gcr.io/p/w --parameter-server-machine-type standard --parameter-server-count 1
        --parameter-server-accelerator count=1,type=nvidia-tesla-p4 --parameter-server-image-uri gcr.io/p/s
        --service-account me@p.iam.gserviceaccount.com --enable-web-access --use-chief-in-tf-config true --async
        --staging-bucket gs://other --project p --quiet"""
    )
    old, _ = dry_run(*arguments, "--engine", "ml-engine", "--", "-a", "--", "--region=x")
    check_request("ml", "v1", "ml.projects.jobs.create", {"parent": "projects/p"}, {}, old)
    assert old == {
        "jobId": "Name_1",
        "labels": {"team": "cats", "kind": "test"},
        "trainingInput": {
            "jobDir": "gs://b/out",
            "packageUris": ["gs://b/p.tar.gz"],
            "pythonModule": "p.run",
            "region": "europe-west4",
            "runtimeVersion": "2.1",
            "pythonVersion": "3.7",
            "scaleTier": "CUSTOM",
            "masterType": "n1-standard-8",
            "masterConfig": {"acceleratorConfig": {"count": "1", "type": T4}},
            "workerType": "n1-standard-4",
            "workerCount": "2",
            "workerConfig": {"acceleratorConfig": {"count": "2", "type": T4}, "imageUri": "gcr.io/p/w"},
            "parameterServerType": "standard",
            "parameterServerCount": "1",
            "parameterServerConfig": {"acceleratorConfig": {"count": "1", "type": "NVIDIA_TESLA_P4"}, "imageUri": "gcr.io/p/s"},
            "serviceAccount": "me@p.iam.gserviceaccount.com",
            "network": "projects/1/global/networks/n",
            "enableWebAccess": True,
            "useChiefInTfConfig": True,
            "args": ["-a", "--", "--region=x"],
        },
    }
    body, _ = dry_run(*arguments, "--", "-a", "--", "--region=x")
    spec = checked(body)["jobSpec"]
    chief, *others = spec["workerPoolSpecs"]
    assert [pool["containerSpec"]["imageUri"] for pool in others] == ["gcr.io/p/w", "gcr.io/p/s"]
    for program in (chief["pythonPackageSpec"], others[0]["containerSpec"]):
        assert program["args"] == ["-a", "--", "--region=x", "--job-dir", "gs://b/out"]
    assert spec["serviceAccount"] == "me@p.iam.gserviceaccount.com"
    assert spec["network"] == "projects/1/global/networks/n"
    assert spec["enableWebAccess"] is True
    assert body["labels"]["team"] == "cats"
    assert body["displayName"] == "Name_1" and body["labels"]["odcloud-run"] == mlengine.run_id("Name_1") != "Name_1"


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(
        "trainingInput:\n  scaleTier: CUSTOM\n  masterType: standard_gpu\n  region: europe-west1\n  args: [old]\n"
        "  scheduling: {maxRunningTime: 3600s}\n  masterConfig: {diskConfig: {bootDiskSizeGb: 200}}\nlabels: {a: b}\n"
    )
    body, warnings = dry_run("job", *PROGRAM, "--config", str(file), "--master-machine-type", "n1-highmem-8", "--", "new")
    (pool,) = checked(body)["jobSpec"]["workerPoolSpecs"]
    assert pool["machineSpec"] == {"machineType": "n1-highmem-8"}
    assert pool["diskSpec"] == {"bootDiskSizeGb": 200}
    assert pool["pythonPackageSpec"]["args"] == ["new"]
    assert body["jobSpec"]["scheduling"] == {"timeout": "3600s"}
    assert body["labels"]["a"] == "b"
    assert warnings == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "trainingInput:\n  workerCuont: 9\n",
            "job.yaml:2: trainingInput.workerCuont: unknown field; did you mean workerCount?",
        ),
        (
            "trainingInput:\n  runtimeVersion: 1.2\n",
            'job.yaml:2: trainingInput.runtimeVersion: must be text, not 1.2; write "1.2"',
        ),
        ("trainingInput:\n  workerCount: many\n", "job.yaml:2: trainingInput.workerCount: must be a whole number, not 'many'"),
        ("trainingInput:\n\n  scaleTier: HUGE\n", "job.yaml:3: trainingInput.scaleTier: unknown value 'HUGE'; one of 'BASIC'"),
        ("trainingInput: 5\n", "job.yaml:1: trainingInput: must hold indented fields, not 5"),
        ("trainingInput:\n  args: one\n", "job.yaml:2: trainingInput.args: must be a list"),
        ("trainingInput:\n  region:\n", "job.yaml:2: trainingInput.region: has no value"),
        ("- a\n", "job.yaml:1: a job file is a mapping that begins with `trainingInput:`"),
        ("a: [\n", "job.yaml:2: not valid YAML"),
        (
            "trainingInput:\n  region: us-central1\n  hyperparameters: {goal: MAXIMIZE}\n",
            "job.yaml:3: trainingInput.hyperparameters: hyperparameter tuning is another service",
        ),
        (
            "trainingInput:\n  masterConfig:\n    tpuTfVersion: '1.2'\n",
            "job.yaml:3: trainingInput.masterConfig.tpuTfVersion: the",
        ),
        ("predictionInput: {}\n", "job.yaml:1: predictionInput: this is a training job"),
        ("state: RUNNING\n", "job.yaml:1: state: the service says this of a job"),
        ("workerPools: []\n", "job.yaml:1: workerPools: a job file has either trainingInput or native fields"),
        ("trainingInput:\n  a: &x 1\n  a: 2\n", "job.yaml:3: not valid YAML"),
    ],
)
def test_what_is_wrong_in_the_file(text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        reading.old(Path("job.yaml"))
    assert str(caught.value).startswith(message)


TRAINING = {"pythonModule": "p.run", "packageUris": ["gs://b/p.tar.gz"], "enableWebAccess": False}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"masterType": "standart"},
            "--master-machine-type (trainingInput.masterType): unknown machine type 'standart'; near it: standard",
        ),
        ({"workerType": "standard", "workerCount": "1"}, "--master-machine-type (trainingInput.masterType): missing"),
        ({"masterType": "standard", "workerCount": "1"}, "--worker-machine-type (trainingInput.workerType): missing"),
        ({"masterType": "standard", "workerType": "standard"}, "--worker-count (trainingInput.workerCount): missing"),
        (
            {"masterType": "standard", "parameterServerType": "standard", "parameterServerCount": "1"},
            "--parameter-server-count (trainingInput.parameterServerCount): parameter servers serve workers",
        ),
        (
            {"scaleTier": "BASIC", "masterType": "standard"},
            "--master-machine-type (trainingInput.masterType): scaleTier BASIC sets",
        ),
        ({"runtimeVersion": "3.0"}, "--runtime-version (trainingInput.runtimeVersion): ML Engine had no runtime '3.0'"),
        ({"pythonModule": ""}, "--module-name (trainingInput.pythonModule): missing"),
        ({"packageUris": []}, "--packages (trainingInput.packageUris): missing"),
        ({"pythonModule": "p/run.py"}, "--module-name (trainingInput.pythonModule): 'p/run.py' is no name of a Python module"),
        (
            {"masterType": "n1-standard-4", "masterConfig": {"acceleratorConfig": {"type": "TPU_V9", "count": "1"}}},
            "--master-accelerator (trainingInput.masterConfig.acceleratorConfig): unknown accelerator type 'TPU_V9'; one of",
        ),
        (
            {"masterType": "e2-standard-4", "masterConfig": {"acceleratorConfig": {"type": T4, "count": "1"}}},
            "--master-accelerator (trainingInput.masterConfig.acceleratorConfig): NVIDIA_TESLA_T4 is attached to N1 machines",
        ),
        (
            {"masterType": "n1-standard-4", "masterConfig": {"acceleratorConfig": {"type": T4, "count": "3"}}},
            "--master-accelerator (trainingInput.masterConfig.acceleratorConfig): a machine takes 1, 2 or 4",
        ),
        (
            {"masterType": "a2-highgpu-1g", "masterConfig": {"acceleratorConfig": {"type": T4, "count": "4"}}},
            "--master-accelerator (trainingInput.masterConfig.acceleratorConfig): a2-highgpu-1g comes with 1 ",
        ),
        (
            {"masterConfig": {"imageUri": "gcr.io/p/m"}},
            "--packages (trainingInput.packageUris): would not run: an image brings its own program",
        ),
        (
            {"masterConfig": {"imageUri": "gcr.io/p/m"}, "packageUris": []},
            "--module-name (trainingInput.pythonModule): would not run: an image brings its own program",
        ),
        (
            {"masterConfig": {"containerCommand": ["run"]}},
            "trainingInput.masterConfig.containerCommand: is for an image of your own; add imageUri",
        ),
        (
            {
                "masterType": "standard",
                "workerType": "standard",
                "workerCount": "1",
                "workerConfig": {"containerArgs": ["--own"]},
            },
            "trainingInput.workerConfig.containerArgs: is for an image of your own; add imageUri",
        ),
        (
            {
                "packageUris": [],
                "pythonModule": "",
                "masterConfig": {"imageUri": "gcr.io/p/m", "containerArgs": ["x"]},
                "args": ["y"],
            },
            "trainingInput.masterConfig.containerArgs: the job's own args would not be handed on",
        ),
        (
            {"scaleTier": "STANDARD_1", "workerCount": "0"},
            "--worker-count (trainingInput.workerCount): scaleTier STANDARD_1 sets the machines; write scaleTier: CUSTOM",
        ),
        ({"scheduling": {"maxRunningTime": "0s"}}, "trainingInput.scheduling.maxRunningTime: would end the job at once"),
    ],
)
def test_what_is_wrong_in_a_job(fields: dict[str, Any], message: str) -> None:
    job = mlengine.body("job", {"trainingInput": {**TRAINING, **fields}}, {}, ())
    with pytest.raises(UserError) as caught:
        mlengine.training_job(job, "us-central1", mlengine.Choices(), {})
    assert str(caught.value).startswith(message)


def test_a_label_of_odcloud_s_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--labels odcloud-run: odcloud sets this label itself"):
        dry_run("job", *PROGRAM, "--labels", "team=cats,odcloud-run=mine")
    file = tmp_path / "job.yaml"
    file.write_text("labels:\n  team: cats\n  odcloud-launch: mine\n")
    with pytest.raises(UserError, match=r"job.yaml:3: labels.odcloud-launch: odcloud sets this label itself"):
        dry_run("job", *PROGRAM, "--config", str(file))


@pytest.mark.parametrize(
    ("said", "warnings"),
    [
        (
            "--scale-tier basic-gpu --worker-image-uri gcr.io/p/w --worker-accelerator type=nvidia-tesla-t4 --keep-retired",
            [
                "--worker-accelerator (trainingInput.workerConfig.acceleratorConfig): has no effect: there are no machines",
                "--worker-image-uri (trainingInput.workerConfig.imageUri): has no effect: there are no machines",
            ],
        ),
        (
            "--config idle.yaml",
            ["idle.yaml:2: trainingInput.evaluatorConfig.diskConfig: has no effect: there are no machines of that kind; add"],
        ),
        ("--scale-tier basic --worker-count 0 --parameter-server-count 0", []),
    ],
)
def test_what_is_said_of_machines_that_there_are_none_of(
    said: str, warnings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("idle.yaml").write_text("trainingInput:\n  evaluatorConfig: {diskConfig: {bootDiskSizeGb: 200}}\n")
    body, told = dry_run("job", *PROGRAM, *shlex.split(said))
    assert len(checked(body)["jobSpec"]["workerPoolSpecs"]) == 1
    about = sorted(line.removeprefix("warning: ") for line in told if "K80" not in line)
    assert [line[: len(start)] for line, start in zip(about, warnings, strict=True)] == warnings


def test_versions_that_no_image_of_one_s_own_needs_are_said_to_have_no_effect() -> None:
    image = ["--master-image-uri", "gcr.io/p/m", "--region", "us-central1"]
    body, told = dry_run("job", *image, "--runtime-version", "1.2", "--python-version", "2.7", "--executor-image-uri", "i")
    assert checked(body)["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]["imageUri"] == "gcr.io/p/m"
    assert told == [
        f"warning: {field}: has no effect: every replica runs an image of its own"
        for field in (
            "--runtime-version (trainingInput.runtimeVersion)",
            "--python-version (trainingInput.pythonVersion)",
            "--executor-image-uri",
        )
    ]


def test_an_image_for_all_replicas_and_an_evaluator() -> None:
    fields = {
        "masterType": "standard",
        "masterConfig": {"imageUri": "gcr.io/p/m", "containerCommand": ["run"], "containerArgs": ["x"]},
        "workerType": "standard",
        "workerCount": "1",
        "evaluatorType": "standard",
        "evaluatorCount": "1",
        "enableWebAccess": False,
    }
    job, warnings = mlengine.training_job(mlengine.body("job", {"trainingInput": fields}, {}, ()), "r", mlengine.Choices(), {})
    pools = checked(vertex.custom_job(job))["jobSpec"]["workerPoolSpecs"]
    container = {"imageUri": "gcr.io/p/m", "command": ["run"], "args": ["x"]}
    assert [pool.get("containerSpec") for pool in pools] == [container, container, None, container]
    assert warnings == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"parameterServerType": "standard", "parameterServerCount": "2"},
            "--parameter-server-count (trainingInput.parameterServerCount): 2 parameter servers: an odd number is better",
        ),
        (
            {"parameterServerType": "standard_v100", "parameterServerCount": "1"},
            "--parameter-server-machine-type (trainingInput.parameterServerType): parameter servers hold variables and compute",
        ),
        (
            {
                "parameterServerType": "n1-standard-8",
                "parameterServerCount": "1",
                "parameterServerConfig": {"acceleratorConfig": {"type": "NVIDIA_TESLA_T4", "count": "1"}},
            },
            "--parameter-server-accelerator (trainingInput.parameterServerConfig.acceleratorConfig): parameter servers hold",
        ),
    ],
)
def test_the_page_s_guidelines_are_told(fields: dict[str, Any], said: str) -> None:
    workers = {"masterType": "standard", "workerType": "standard", "workerCount": "3"}
    job = mlengine.body("job", {"trainingInput": {**TRAINING, **workers, **fields}}, {}, ())
    _, warnings = mlengine.training_job(job, "us-central1", mlengine.Choices(), {})
    assert [warning[: len(said)] for warning in warnings] == [said]


def test_a_key_of_one_s_own_and_words_without_effect(tmp_path: Path) -> None:
    key = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"
    config = tmp_path / "job.yaml"
    config.write_text(
        f"trainingInput:\n  encryptionConfig: {{kmsKeyName: {key}}}\n  useChiefInTfConfig: true\n"
        "  scheduling: {maxWaitTime: 60s, priority: 3}\n"
    )
    body, warnings = dry_run("job", *PROGRAM, "--config", str(config))
    assert checked(body)["encryptionSpec"] == {"kmsKeyName": key}
    assert [warning.partition(": has no effect")[0].rpartition(".")[2] for warning in warnings] == [
        "useChiefInTfConfig",
        "maxWaitTime",
        "priority",
    ]
    old, _ = dry_run("job", *PROGRAM, "--config", str(config), "--engine", "ml-engine")
    check_request("ml", "v1", "ml.projects.jobs.create", {"parent": "projects/p"}, {}, old)
    assert old["trainingInput"]["scheduling"] == {"maxWaitTime": "60s", "priority": 3}


def test_an_unknown_machine_can_be_asked_for_all_the_same() -> None:
    body, warnings = dry_run("job", *PROGRAM, "--master-machine-type", "c4-standard-8", "--any-machine-type")
    assert checked(body)["jobSpec"]["workerPoolSpecs"][0]["machineSpec"] == {"machineType": "c4-standard-8"}
    assert len(warnings) == 1 and "nothing is known of c4-standard-8 here" in warnings[0]
