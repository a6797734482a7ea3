"""Job files that no one would write, and all that somebody might: no traceback, nothing dropped in silence, and back again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_launcher_vertex import OUTPUTS, RUN

from launcher import vertex
from launcher.errors import UserError
from launcher.job import Container, Disk, Machine, Pool, Program, PythonPackage, Reservation, Scheduling, TrainingJob
from launcher.jobfile import machines, models, reading, render, resolve

QUICK = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

# Values of every field that are right in themselves; whether they are right together is the launcher's to say.
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12)
NAME = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True)
URI = st.from_regex(r"gs://[a-z][a-z0-9]{2,6}(/[a-z0-9.]{1,8}){0,2}", fullmatch=True)
DURATION = st.integers(1, 10**6).map("{}s".format)
COUNT = st.integers(1, 12)
PROGRAM: dict[str, st.SearchStrategy[Any]] = {
    "executorImageUri": st.just("us-docker.pkg.dev/vertex-ai/training/tf-gpu.2-17.py310:latest"),
    "packageUris": st.lists(URI, min_size=1, max_size=3),
    "pythonModule": st.from_regex(r"[a-z]{1,6}\.[a-z]{1,6}", fullmatch=True),
    "imageUri": st.just("us-docker.pkg.dev/p/r/trainer@sha256:0123"),
    "command": st.lists(TEXT, min_size=1, max_size=2),
    "args": st.lists(TEXT.map("--{}".format), max_size=3),
    "env": st.dictionaries(NAME, TEXT, max_size=3),
}
AFFINITY = st.one_of(
    st.sampled_from(["NO_RESERVATION", "ANY_RESERVATION"]).map(lambda kind: {"reservationAffinityType": kind}),
    st.fixed_dictionaries(
        {
            "reservationAffinityType": st.just("SPECIFIC_RESERVATION"),
            "key": st.just("compute.googleapis.com/reservation-name"),
            "values": st.lists(TEXT, min_size=1, max_size=2),
        }
    ),
)
POOL: dict[str, st.SearchStrategy[Any]] = {
    "replicaCount": st.one_of(COUNT, COUNT.map(str)),
    "acceleratorType": st.sampled_from(["NVIDIA_TESLA_T4", "NVIDIA_L4"]),
    "acceleratorCount": st.sampled_from([1, 2, 3, 4]),
    "bootDiskType": st.sampled_from(["pd-ssd", "pd-standard", "hyperdisk-balanced"]),
    "bootDiskSizeGb": st.integers(1, 64000),
    "reservationAffinity": AFFINITY,
    **PROGRAM,
}
KEY = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"
KIND = st.sampled_from([*machines.names(), "n9-standard-4"])
POOLS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["chief", "worker", "ps", "evaluator"]), "machineType": KIND}, optional=POOL
    ),
    min_size=1,
    max_size=4,
).map(lambda pools: [{"role": "chief", "machineType": "standard"}, *(pool for pool in pools if pool["role"] != "chief")])
SCHEDULING = st.fixed_dictionaries(
    {},
    optional={
        "strategy": st.sampled_from(["STANDARD", "SPOT", "FLEX_START"]),
        "timeout": DURATION,
        "maxWaitDuration": DURATION,
        "restartJobOnWorkerRestart": st.booleans(),
        "disableRetries": st.booleans(),
    },
)
LABELS = st.dictionaries(st.from_regex(r"[a-z][a-z0-9_-]{0,9}", fullmatch=True), st.just("cats"), max_size=3)
NATIVE = st.fixed_dictionaries(
    {},
    optional={
        "workerPools": POOLS,
        "pipelineConfigPath": URI,
        "region": st.just("us-central1"),
        "baseOutputDirectory": URI,
        "serviceAccount": st.just("me@p.iam.gserviceaccount.com"),
        "network": st.just("projects/1/global/networks/n"),
        "tensorboard": st.just("projects/p/locations/us-central1/tensorboards/2"),
        "enableWebAccess": st.booleans(),
        "kmsKeyName": st.just(KEY),
        "anyMachineType": st.booleans(),
        "scheduling": SCHEDULING,
        "labels": LABELS,
        **PROGRAM,
    },
)
REPLICA = st.fixed_dictionaries(
    {},
    optional={
        "imageUri": PROGRAM["imageUri"],
        "containerCommand": PROGRAM["command"],
        "containerArgs": PROGRAM["args"],
        "acceleratorConfig": st.fixed_dictionaries({"type": POOL["acceleratorType"], "count": POOL["acceleratorCount"]}),
        "diskConfig": st.fixed_dictionaries({}, optional={"bootDiskType": st.just("pd-ssd"), "bootDiskSizeGb": COUNT}),
    },
)
TRAINING_INPUT = st.fixed_dictionaries(
    {},
    optional={
        "scaleTier": st.sampled_from(["BASIC", "STANDARD_1", "PREMIUM_1", "BASIC_GPU", "CUSTOM"]),
        **{f"{role}Type": KIND for role in ("master", "worker", "parameterServer", "evaluator")},
        **{f"{role}Count": st.integers(0, 9) for role in ("worker", "parameterServer", "evaluator")},
        **{f"{role}Config": REPLICA for role in ("master", "worker", "parameterServer", "evaluator")},
        "runtimeVersion": st.just("1.2"),
        "pythonVersion": st.just("3.5"),
        "region": st.just("us-central1"),
        "args": PROGRAM["args"],
        "packageUris": PROGRAM["packageUris"],
        "pythonModule": PROGRAM["pythonModule"],
        "jobDir": URI,
        "scheduling": st.fixed_dictionaries(
            {}, optional={"maxRunningTime": DURATION, "maxWaitTime": DURATION, "priority": COUNT}
        ),
        "encryptionConfig": st.just({"kmsKeyName": KEY}),
        "useChiefInTfConfig": st.booleans(),
        "serviceAccount": st.just("me@p.iam.gserviceaccount.com"),
        "network": st.just("projects/1/global/networks/n"),
        "enableWebAccess": st.booleans(),
    },
)
OLD = st.fixed_dictionaries({"trainingInput": TRAINING_INPUT}, optional={"labels": LABELS})
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def attempt(text: str) -> tuple[reading.JobFile, TrainingJob] | None:
    """The job of a file; None for a file that is refused as a user can read it."""
    try:
        file = reading.parse(text, "job.yaml")
        return file, resolve.training(OUTPUTS, file, RUN).job
    except UserError as error:
        assert str(error).startswith("job.yaml:"), error
        assert "\n" not in str(error)
        return None


@st.composite
def spoiled(draw: st.DrawFn, whole: st.SearchStrategy[Any]) -> Any:
    """A good document with something else in one place."""
    document = draw(whole)
    node, holder, key = document, None, None
    while isinstance(node, dict | list) and node and (holder is None or draw(st.booleans())):
        holder = node
        key = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        node = node[key]
    if holder is not None:
        holder[key] = draw(JUNK)
    return document


@QUICK
@given(st.one_of(JUNK, spoiled(NATIVE), spoiled(OLD)))
def test_whatever_a_file_holds_it_is_a_job_or_one_clear_error(document: Any) -> None:
    attempt(json.dumps(document))  # JSON is YAML
    attempt(render.dump(document))


@QUICK
@given(st.text(max_size=40) | st.text("trainingInput:workerPools {}[]&*!|>-'\"\n\t#%@,?0x_.", max_size=60))
@example("trainingInput: &a\n  labels: *a\n")
@example("workerPools: &a [*a]\n")
@example("? [a]\n: b\n")
@example("labels: {2020-13-45: a}\n")
@example("%YAML 9.9\n---\na: 1\n")
@example("labels: {a: 2020-99-99}\n")
@example("a: !!timestamp x\n")
@example("a: !!int x\n")
@example("<<: 3\n")
def test_whatever_a_text_is_it_is_a_job_or_one_clear_error(text: str) -> None:
    try:
        reading.parse(text, "job.yaml")
    except UserError as error:
        assert str(error).startswith("job.yaml"), error


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item)]
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


@QUICK
@given(st.one_of(NATIVE, OLD))
def test_nothing_that_a_file_says_is_dropped(document: dict[str, Any]) -> None:
    made = attempt(render.dump(document))
    if made is None:
        return
    file, job = made
    body = vertex.custom_job(job)
    said = " ".join(file.warnings)
    there = {str(leaf) for leaf in leaves(body)} | {job.region}
    for name, leaf in named(document):
        if name in ("role", "scaleTier", "runtimeVersion", "pythonVersion", "anyMachineType"):
            continue  # a place in the list of pools, a set of machines, what always gets a warning, a leave
        if leaf in machines.mapping()["machineTypes"] or leaf == 0:
            continue  # an old name; none of a kind
        if name == "machineType" or (name.endswith("Type") and leaf in machines.names()):
            assert any(leaf == pool.machine.machine_type for pool in job.pools) or not used(document, name)
            continue
        if name == "pipelineConfigPath":
            leaf = f"--pipeline_config_path={leaf}"
        assert str(leaf) in there or f"{name}: has no effect" in said or name.endswith("Version"), (
            f"{name}: {leaf} is neither in the body nor in a warning"
        )


def used(document: dict[str, Any], name: str) -> bool:
    """Whether an old file's machine type has machines at all."""
    count = document.get("trainingInput", {}).get(name.replace("Type", "Count"))
    return count != 0


def named(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """Each leaf with the name of its field."""
    if isinstance(value, dict):
        return [pair for key, item in value.items() for pair in named(item, name if name in ("env", "labels") else key)]
    if isinstance(value, list):
        return [pair for item in value for pair in named(item, name)]
    return [(name, value)]


PACKAGE = st.builds(
    PythonPackage,
    executor_image_uri=PROGRAM["executorImageUri"],
    package_uris=PROGRAM["packageUris"].map(tuple),
    python_module=PROGRAM["pythonModule"],
    args=PROGRAM["args"].map(tuple),
    env=PROGRAM["env"],
)
CONTAINER = st.builds(
    Container,
    image_uri=PROGRAM["imageUri"],
    command=st.one_of(st.just(()), PROGRAM["command"].map(tuple)),
    args=PROGRAM["args"].map(tuple),
    env=PROGRAM["env"],
)


def led(program: Program | None) -> Program | None:
    """The program with the arguments that every training has."""
    if program is None:
        return None
    own = (f"--train_dir={OUTPUTS.train_dir}/{RUN}", "--pipeline_config_path=gs://elsewhere/p.config")
    return type(program)(**{**vars(program), "args": (*own, *program.args)})


MACHINE = st.sampled_from(machines.names()).map(lambda name: machines.machine(name)[0]) | st.builds(
    Machine, st.just("n1-standard-8"), st.just("NVIDIA_TESLA_T4"), st.sampled_from([1, 2, 4])
)
PLAIN_MACHINE = MACHINE.filter(lambda machine: not machine.accelerator_type)


def pool(role: str, machine: st.SearchStrategy[Machine], count: st.SearchStrategy[int]) -> st.SearchStrategy[Pool]:
    return st.builds(
        Pool,
        role=st.just(role),
        machine=machine,
        count=count,
        disk=st.none() | st.builds(Disk, POOL["bootDiskType"], st.none() | POOL["bootDiskSizeGb"]),
        reservation=st.none()
        | AFFINITY.map(lambda of: Reservation(of["reservationAffinityType"], of.get("key"), tuple(of.get("values", ())))),
        program=st.none() | PACKAGE.map(led) | CONTAINER.map(led),
    )


JOBS = st.builds(
    TrainingJob,
    run=st.just(RUN),
    display_name=st.just(RUN),
    region=st.just("us-central1"),
    pools=st.one_of(
        st.tuples(pool("chief", MACHINE, st.just(1))),
        st.tuples(pool("chief", MACHINE, st.just(1)), pool("worker", MACHINE, COUNT), pool("ps", PLAIN_MACHINE, COUNT)),
        st.tuples(pool("chief", MACHINE, st.just(1)), pool("worker", MACHINE, COUNT), pool("evaluator", MACHINE, COUNT)),
    ),
    program=st.one_of(PACKAGE.map(led), CONTAINER.map(led)),
    output_uri=URI,
    service_account=st.just("me@p.iam.gserviceaccount.com"),
    labels=LABELS.map(lambda labels: {**OUTPUTS.labels, **labels}),
    scheduling=st.builds(
        Scheduling,
        timeout=st.none() | DURATION,
        strategy=st.just("FLEX_START"),
        restart_job_on_worker_restart=st.none() | st.just(False),
        disable_retries=st.none() | st.booleans(),
        max_wait_duration=st.none() | DURATION,
    ),
    network=st.none() | st.just("projects/1/global/networks/n"),
    tensorboard=st.none() | st.just("projects/p/locations/us-central1/tensorboards/2"),
    enable_web_access=st.none() | st.booleans(),
)


@QUICK
@given(JOBS)
def test_a_job_written_as_a_file_is_read_as_the_same_job(job: TrainingJob) -> None:
    made = resolve.training(OUTPUTS, reading.parse(render.render(job), "job.yaml"), RUN).job
    assert made == job
    assert vertex.custom_job(made) == vertex.custom_job(job)


@QUICK
@given(st.one_of(NATIVE, OLD))
def test_a_file_s_job_written_out_again_is_the_same_job(document: dict[str, Any]) -> None:
    made = attempt(render.dump(document))
    if made:
        text = render.render(made[1])
        assert resolve.training(OUTPUTS, reading.parse(text, "job.yaml"), RUN).job == made[1]


@QUICK
@given(st.one_of(NATIVE, OLD, spoiled(NATIVE), spoiled(OLD)))
def test_the_schema_takes_every_file_that_the_launcher_takes(document: Any) -> None:
    import jsonschema

    if isinstance(document, dict) and attempt(json.dumps(document)):
        jsonschema.validate(document, models.schema())


def test_the_tests_above_do_reach_good_jobs() -> None:
    assert attempt(render.dump({"workerPools": [{"role": "chief", "machineType": "standard"}]}))
    with pytest.raises(UserError):
        reading.parse("workerPools: 3", "job.yaml")
