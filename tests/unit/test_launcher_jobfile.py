"""The job file: what it means, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.errors import UserError
from launcher.job import Machine, Pool
from launcher.jobfile import overrides, reading

ROOT = Path(__file__).parents[2]
OLD_PAGE = """trainingInput:
  runtimeVersion: "1.2"
  scaleTier: CUSTOM
  masterType: standard_gpu
  workerCount: 9
  workerType: standard_gpu
  parameterServerCount: 3
  parameterServerType: standard
"""


def test_the_old_page_s_file_is_read_as_it_stands() -> None:
    file = reading.parse(OLD_PAGE, "job.yaml")
    gpu = Machine("n1-standard-8", "NVIDIA_TESLA_T4", 1)
    assert file.pools == (Pool("chief", gpu, 1), Pool("worker", gpu, 9), Pool("ps", Machine("n1-standard-4"), 3))
    assert [warning.split(": ")[0] for warning in file.warnings] == ["job.yaml:4", "job.yaml:6", "job.yaml:2"]
    assert "K80" in file.warnings[0]
    assert "n1-standard-8 with 1 NVIDIA_TESLA_T4" in file.warnings[0]


def test_the_demo_s_file() -> None:
    file = reading.read(ROOT / "examples/digits/job.yaml")
    assert [(pool.role, pool.count) for pool in file.pools] == [("chief", 1), ("worker", 2), ("ps", 1)]
    assert not file.warnings


@pytest.mark.parametrize("count", ["9", '"9"', "'9'"])
def test_counts_may_be_text_as_json_carries_them(count: str) -> None:
    file = reading.parse(OLD_PAGE.replace("workerCount: 9", f"workerCount: {count}"), "job.yaml")
    assert file.pools[1].count == 9


@pytest.mark.parametrize(
    ("tier", "pools"),
    [
        ("BASIC", {"chief": 1}),
        ("STANDARD_1", {"chief": 1, "worker": 4, "ps": 3}),
        ("PREMIUM_1", {"chief": 1, "worker": 19, "ps": 11}),
        ("BASIC_GPU", {"chief": 1}),
    ],
)
def test_scale_tiers(tier: str, pools: dict[str, int]) -> None:
    file = reading.parse(f"trainingInput: {{scaleTier: {tier}}}", "job.yaml")
    assert {pool.role: pool.count for pool in file.pools} == pools


def test_no_workers_asked_for_means_no_pool_of_workers() -> None:
    file = reading.parse("trainingInput: {masterType: standard, workerType: standard, workerCount: 0}", "job.yaml")
    assert [pool.role for pool in file.pools] == ["chief"]


@pytest.mark.parametrize(
    ("kind", "machine"),
    [
        ("large_model", "n1-highmem-8"),
        ("n1-highcpu-16", "n1-highcpu-16"),
        ("e2-standard-4", "e2-standard-4"),
        ("g2-standard-24", "g2-standard-24 with 2 NVIDIA_L4"),
        ("complex_model_l_gpu", "n1-standard-32 with 4 NVIDIA_TESLA_T4"),
    ],
)
def test_machine_types(kind: str, machine: str) -> None:
    assert str(reading.parse(f"trainingInput: {{masterType: {kind}}}", "job.yaml").pools[0].machine) == machine


@pytest.mark.parametrize(
    ("kind", "near"),
    [("n1-standrad-4", "n1-standard-4"), ("n1-standard-5", "n1-standard-"), ("c9-standard-4", "c2-standard-4"), ("g2-4", "")],
)
def test_a_machine_that_is_not_listed_is_an_error_that_can_be_overruled(kind: str, near: str) -> None:
    text = f"trainingInput: {{masterType: {kind}}}"
    with pytest.raises(UserError) as caught:
        reading.parse(text, "job.yaml")
    assert str(caught.value).startswith(f"job.yaml:1: trainingInput.masterType: unknown machine type '{kind}'; near it: {near}")
    assert "If Google has it all the same: --any-machine-type (in a native job file anyMachineType: true)" in str(caught.value)
    for file in (
        reading.parse(text, "job.yaml", overrides.given({"any_machine_type": True}, {})),
        reading.parse(text, "job.yaml", overrides.given({}, {"ODCLOUD_ANY_MACHINE_TYPE": "true"})),
        reading.parse(f"anyMachineType: true\nworkerPools: [{{role: chief, machineType: {kind}}}]", "job.yaml"),
    ):
        assert file.pools[0].machine == Machine(kind)
        assert f"nothing is known of {kind} here" in file.warnings[0]


def test_the_old_service_s_accelerators_are_what_stands_for_them_today() -> None:
    file = reading.parse(
        "jobId: mine\ntrainingInput:\n  masterType: n1-standard-8\n  masterConfig:\n    acceleratorConfig:\n"
        "      type: NVIDIA_TESLA_K80\n      count: 8\n"
        "  workerType: cloud_tpu\n  workerCount: 1\n  workerConfig: {acceleratorConfig: {type: TPU_V3_POD, count: 32}}\n",
        "job.yaml",
    )
    assert file.pools[0].machine == Machine("n1-standard-8", "NVIDIA_TESLA_T4", 4)
    assert file.pools[1].machine == Machine("cloud-tpu", "TPU_V3", 32)
    said = "\n".join(file.warnings)
    assert "job.yaml:1: jobId: has no effect" in said
    assert (
        "job.yaml:6: trainingInput.masterConfig.acceleratorConfig.type: 8 NVIDIA_TESLA_K80: withdrawn by Google; "
        "4 NVIDIA_TESLA_T4 is used instead; native worker pools ask for it all the same"
    ) in said
    assert "job.yaml:10: trainingInput.workerConfig.acceleratorConfig.type: 32 TPU_V3_POD: a pod is asked for" in said
    native = "workerPools: [{role: chief, machineType: n1-standard-8, acceleratorType: NVIDIA_TESLA_K80, acceleratorCount: 1}]"
    file = reading.parse(native, "job.yaml")
    assert file.pools[0].machine == Machine("n1-standard-8", "NVIDIA_TESLA_K80", 1)
    where = "job.yaml:1: workerPools[0].acceleratorType"
    assert file.warnings == (f"{where}: NVIDIA_TESLA_K80 is withdrawn by Google; asked for all the same",)
    (told,) = reading.parse("trainingInput:\n  scaleTier: CUSTOM\n  masterType: standard_gpu\n", "job.yaml").warnings
    assert told.startswith("job.yaml:3: trainingInput.masterType: standard_gpu was one NVIDIA K80")
    assert told.endswith("a machine type of today with an accelerator of your choice overrules it")


T = "trainingInput:\n"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "begins with `trainingInput:`"),
        ("- a\n", 1, "begins with `trainingInput:`"),
        ("trainingInput:\n", 1, "trainingInput: has no value"),
        ("trainingInput: 3\n", 1, "trainingInput: must hold indented fields, not 3"),
        ("masterType: standard\n", 1, "masterType: belongs under trainingInput; indent it there"),
        ("trainingInput: {}\nlables: {a: b}\n", 2, "lables: unknown field; did you mean labels?"),
        (T + "  workerCont: 3\n", 2, "trainingInput.workerCont: unknown field; did you mean workerCount?"),
        (T + "  scaleTier: BASIC\n  zzz: 3\n", 3, "trainingInput.zzz: unknown field; one of scaleTier"),
        (T + "  hyperparameters: {}\n", 2, "hyperparameter tuning is another service today"),
        (T + "  labels: {a: b}\n", 2, "labels stand beside trainingInput"),
        (T + "  masterType: standrad\n", 2, "unknown machine type 'standrad'; near it: standard,"),
        (T + "  masterType: n1-standard-5\n", 2, "near it: n1-standard-"),
        (T + "  masterType: TPU\n", 2, "unknown machine type 'TPU'; near it: standard,"),
        (
            T + "  masterType: standard\n  workerType: standart_gpu\n  workerCount: 2\n",
            3,
            "trainingInput.workerType: unknown machine",
        ),
        (T + "  masterType:\n", 2, "trainingInput.masterType: has no value"),
        (T + "  masterType: 4\n", 2, 'must be text, not 4; write "4", in quotes'),
        (T + "  runtimeVersion: 1.2\n", 2, 'must be text, not 1.2; write "1.2", in quotes'),
        (T + "  masterType: standard\n  workerCount: -2\n", 3, "trainingInput.workerCount: must be 0 or more, not -2"),
        (T + '  workerCount: "-2"\n', 2, "must be 0 or more, not -2"),
        (T + "  workerCount: two\n", 2, "must be a whole number, not 'two'"),
        (T + "  workerCount: 2.5\n", 2, "must be a whole number, not 2.5"),
        (T + "  workerCount: true\n", 2, "must be a whole number, not True"),
        (T + "  scaleTier: BASC\n", 2, "unknown value 'BASC'; one of 'BASIC'"),
        (T + "  scaleTier: BASIC\n  workerCount: 2\n", 3, "scaleTier BASIC sets the machines; write scaleTier: CUSTOM"),
        (T + "  scaleTier: CUSTOM\n", 2, "masterType is missing; machines of your own choice need a master"),
        (
            T + "  workerType: standard\n  workerCount: 2\n",
            2,
            "masterType is missing; machines of your own choice need a master",
        ),
        (T + "  masterType: standard\n  workerCount: 2\n", 3, "workerType is missing"),
        (T + "  masterType: standard\n  workerType: standard\n", 3, "workerCount is missing"),
        (T + "  masterType: standard\n  parameterServerCount: 3\n", 3, "parameterServerType is missing"),
        (
            T + "  masterType: standard\n  parameterServerCount: 3\n  parameterServerType: standard\n",
            3,
            "parameter servers serve workers, and there are none",
        ),
        (T + "  args: a\n", 2, "must be a list, not 'a'"),
        (T + "  args:\n  - --a=1\n  - 3\n", 4, 'trainingInput.args[1]: must be text, not 3; write "3", in quotes'),
        (T + "  packageUris:\n  - dist/x.tar.gz\n", 3, "must be a gs://BUCKET/… address, not 'dist/x.tar.gz'"),
        (T + "  pythonModule: train er\n", 2, "must be a Python module's name"),
        (T + "  region: somewhere\n", 2, "must be a region, for example us-central1"),
        (T + "  scheduling:\n    maxRunningTime: 12h\n", 3, "a duration in seconds, for example \"43200s\", not '12h'"),
        (T + "  scheduling:\n    maxRuningTime: 12s\n", 3, "did you mean maxRunningTime?"),
        ("trainingInput: {}\nlabels:\n  team: Big Cats\n", 3, "a label is at most 63"),
        ("trainingInput: {}\nlabels:\n  Team: cats\n", 3, "a label is at most 63"),
        # not YAML
        ("trainingInput: [\n", 2, "not valid YAML"),
        (T + "\tmasterType: standard\n", 2, "found character '\\t' that cannot start any token"),
        (T + '  masterType: "standard\n', 3, "not valid YAML"),
        (T + "  masterType: a\n  masterType: b\n", 3, "duplicate key"),
        (T + "  masterType: *standard\n", 2, "undefined alias"),
        (T + "  scaleTier: BASIC\n---\na: b\n", 3, "expected a single document"),
        (T + "  masterType: !!python/object:os.system standrad\n", 2, "unknown machine type 'standrad'"),
    ],
)
def test_a_wrong_file_is_answered_with_line_field_and_advice(text: str, line: int, said: str) -> None:
    with pytest.raises(UserError) as caught:
        reading.parse(text, "job.yaml")
    message = str(caught.value)
    assert message.startswith(f"job.yaml:{line}: "), message
    assert said in message
    assert "\n" not in message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such job file"):
        reading.read(tmp_path / "job.yaml")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"trainingInput: \x00\n"])
def test_a_file_that_is_not_text(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"job\.yaml"):
        reading.read(path)


def test_a_folder_and_another_encoding_in_the_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the job file: Is a directory;"):
        reading.read(tmp_path)
    path = tmp_path / "job.yaml"
    path.write_bytes("trainingInput:\n  # café\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"job\.yaml:2: .*save it as UTF-8"):
        reading.read(path)


def test_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("trainingInput:\n  scaleTier: BASIC\n", encoding="utf-8-sig")
    assert len(reading.read(path).pools) == 1
