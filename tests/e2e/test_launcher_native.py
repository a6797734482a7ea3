"""Native job files, flags and the scaled learning rate, against a real local cloud, stack and job."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from launcher_stage import BUCKET, Stage

from launcher.google.api import VERSIONS, override_name

NATIVE = """workerPools:
- {role: chief, machineType: n1-standard-4, env: {ONLY: chief}}
- {role: worker, machineType: n1-standard-4, replicaCount: 2}
- {role: ps, machineType: n1-standard-4, replicaCount: 2}
scheduling: {strategy: SPOT, timeout: 600s}
labels: {team: cats}
"""
CONFIG = """train_config { optimizer { adam_optimizer { learning_rate { constant_learning_rate {
  learning_rate: 0.004  # the peak
} } } } }
"""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("stage"))
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("GOOGLE_OAUTH_ACCESS_TOKEN", *(override_name(service) for service in VERSIONS)):
                patch.setenv(name, made.environment[name])
            made.fill_bucket()
        (made.folder / "native.yaml").write_text(NATIVE)
        yield made
    finally:
        made.close()


def bucket(stage: Stage) -> Path:
    return stage.folder / ".odcloud" / "buckets" / BUCKET


def test_a_native_job_trains(stage: Stage) -> None:
    stage.behave(steps=1)
    done = stage.run("train", "--config", "native.yaml", "--run", "native", "--parameter-servers", "1", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert "2 workers and the chief: 3 training machines, and 1 parameter server" in done.stderr
    assert "odd number" not in done.stderr  # the flag went before the file
    facts = json.loads(done.stdout)
    assert facts["state"] == "SUCCEEDED"
    record = json.loads(next((bucket(stage) / "runs/native").iterdir()).read_text())
    spec = record["request"]["jobSpec"]
    assert spec["scheduling"] == {"timeout": "600s", "strategy": "SPOT"}
    assert [pool["replicaCount"] for pool in spec["workerPoolSpecs"]] == ["1", "2", "1"]
    assert record["request"]["labels"]["team"] == "cats"


def test_dry_run_prints_the_body_alone(stage: Stage) -> None:
    done = stage.run("train", "--config", "native.yaml", "--dry-run", ODCLOUD_TIMEOUT="60s")
    assert json.loads(done.stdout)["jobSpec"]["scheduling"]["timeout"] == "60s"
    assert "2 parameter servers: an odd number is better" in done.stderr


def test_explain_shows_every_source(stage: Stage) -> None:
    asked = ("train", "--config", "native.yaml", "--explain", "--workers", "5")
    rows = {row["name"]: row for row in json.loads(stage.run(*asked, "--format", "json", ODCLOUD_TIMEOUT="60s").stdout)}
    assert rows["worker.replicaCount"] == {"name": "worker.replicaCount", "value": 5, "source": "flag --workers"}
    assert rows["scheduling.timeout"]["source"] == "environment ODCLOUD_TIMEOUT"
    assert rows["scheduling.strategy"]["source"] == "job file native.yaml:5"
    assert rows["serviceAccount"]["source"] == "stack output service_account"
    assert rows["network"]["source"] == "default"
    table = stage.run(*asked).stdout
    assert "flag --workers" in table
    assert len(table.splitlines()) == len(rows)


def test_the_learning_rate_is_held_against_the_workers(stage: Stage) -> None:
    path = bucket(stage) / "config" / "pipeline.config"
    path.write_text(CONFIG)
    said = stage.run("train", "--config", "native.yaml", "--run", "advised", "--detach")
    assert "learning rate 0.004 with 2 workers" in said.stderr
    stage.run("jobs", "cancel", "advised", check=True)
    dry = stage.run("train", "--config", "native.yaml", "--scale-lr", "--dry-run")
    (target,) = {
        arg.partition("=")[2]
        for pool in json.loads(dry.stdout)["jobSpec"]["workerPoolSpecs"]
        for arg in pool["pythonPackageSpec"]["args"]
        if arg.startswith("--pipeline_config_path=")
    }
    copy = bucket(stage) / target.removeprefix(f"gs://{BUCKET}/")
    assert not copy.exists()  # a dry run sends nothing
    for run in ("scaled", "scaled-again"):  # the second time the copy is there already
        done = stage.run("train", "--config", "native.yaml", "--run", run, "--scale-lr", "--detach")
        assert done.returncode == 0, done.stderr
        assert "learning rate 0.004 of gs://stage/config/pipeline.config divided by 2 workers: 0.002" in done.stderr
        stage.run("jobs", "cancel", run, check=True)
    assert copy.read_text() == CONFIG.replace("0.004", "0.002")
    rows = json.loads(stage.run("train", "--config", "native.yaml", "--scale-lr", "--explain", "--format", "json").stdout)
    assert {"name": "pipelineConfigPath", "value": target, "source": "flag --scale-lr"} in rows
    stage.behave(steps=1)
    refused = stage.run("train", "--config", "native.yaml", "--scale-lr", "--run", "none")
    assert refused.returncode == 2
    assert "writes no learning rate in train_config.optimizer" in refused.stderr


def test_wrong_files_and_flags_end_in_one_line(stage: Stage) -> None:
    (stage.folder / "wrong.yaml").write_text(NATIVE.replace("role: worker", "role: chief"))
    for arguments, said in (
        (("--config", "wrong.yaml"), "wrong.yaml:3: workerPools[1].role: two chiefs"),
        (("--config", "native.yaml", "--timeout", "1h"), "--timeout: must be a duration"),
    ):
        done = stage.run("train", *arguments)
        assert done.returncode == 2
        assert done.stderr.startswith(f"odcloud: error: {said}")
        assert done.stderr.count("\n") == 1


def test_what_one_has_to_know_is_said_before_a_job_is_made(stage: Stage) -> None:
    """Notes, warnings and advice come with a create call that is refused: nothing was spent yet."""
    (bucket(stage) / "config" / "pipeline.config").write_text(CONFIG)
    done = stage.run("train", "--config", "native.yaml", "--run", "told-first", "--detach", "--image", "no_image!")
    assert (
        done.returncode == 2
        and "answered 400 INVALID_ARGUMENT to aiplatform.projects.locations.customJobs.create" in done.stderr
    )
    said = done.stderr
    for text in (
        "note: 2 workers and the chief: 3 training machines, and 2 parameter servers",
        "2 parameter servers: an odd number is better",
        "learning rate 0.004 with 2 workers",
    ):
        assert 0 <= said.index(text) < said.index("odcloud: error: ")


def test_an_evaluation_is_ruled_like_a_training(stage: Stage) -> None:
    """Flag > environment > job file > stack outputs > default, and an image pinned for both."""
    pool = "workerPools: [{role: chief, machineType: standard_gpu}]\n"
    (stage.folder / "eval.yaml").write_text(pool + "scheduling: {timeout: 600s}\nargs: [--own=1]\nlabels: {team: cats}\n")
    run = ("--run", "native")
    plain = json.loads(stage.run("eval", *run, "--dry-run", check=True).stdout)
    (pool,) = plain["jobSpec"]["workerPoolSpecs"]
    assert pool["pythonPackageSpec"]["args"] == [
        "--checkpoint_dir=gs://stage/train/native",
        "--eval_dir=gs://stage/eval/native",
        "--pipeline_config_path=gs://stage/config/pipeline.config",
    ]
    asked = ("eval", *run, "--config", "eval.yaml")
    told = stage.run(*asked, "--timeout", "60s", "--dry-run", check=True, ODCLOUD_TIMEOUT="90s", ODCLOUD_STRATEGY="SPOT")
    body = json.loads(told.stdout)
    (pool,) = body["jobSpec"]["workerPoolSpecs"]
    assert pool["machineSpec"]["acceleratorType"] == "NVIDIA_TESLA_T4" and "standard_gpu was one NVIDIA K80" in told.stderr
    assert pool["pythonPackageSpec"]["args"][-1] == "--own=1"
    assert body["jobSpec"]["scheduling"] == {"timeout": "60s", "strategy": "SPOT"}
    assert (body["labels"]["team"], body["labels"]["odcloud-kind"]) == ("cats", "eval")
    rows = json.loads(stage.run(*asked, "--explain", "--format", "json", check=True, ODCLOUD_STRATEGY="SPOT").stdout)
    sources = {row["name"]: row["source"] for row in rows}
    assert sources["scheduling.timeout"] == "job file eval.yaml:2"
    assert sources["scheduling.strategy"] == "environment ODCLOUD_STRATEGY"
    assert sources["packageUris"] == "stack output package_uris"
    refused = stage.run("eval", *run, "--config", "native.yaml", "--dry-run")
    assert refused.returncode == 2
    assert "native.yaml:3: workerPools[1]: an evaluation runs on one machine" in refused.stderr

    (stage.folder / "next.yaml").write_text("args: [--continuous]\n")
    early = stage.run(
        "eval", "--run", "not-yet", "--config", "next.yaml", "--detach"
    )  # next to a training without a checkpoint
    assert early.returncode == 0, early.stderr
    assert "holds no checkpoint to evaluate" in stage.run("eval", "--run", "never").stderr

    image = "us-central1-docker.pkg.dev/p/r/trainer@sha256:" + 64 * "0"
    for command in (("train", "--config", "native.yaml"), ("eval", *run)):
        for given, who in (((), "$ODCLOUD_IMAGE"), (("--image", image), "--image")):
            done = stage.run(*command, *given, "--dry-run", check=True, **({} if given else {"ODCLOUD_IMAGE": image}))
            assert f"warning: {who}: the image's own program runs, not the stack's packages" in done.stderr
            pool = json.loads(done.stdout)["jobSpec"]["workerPoolSpecs"][0]
            assert "pythonPackageSpec" not in pool and pool["containerSpec"]["imageUri"] == image
            assert pool["containerSpec"].get("command") == (None if command[0] == "train" else ["python", "-m", "tiny.program"])
    (stage.folder / "packages.yaml").write_text("packageUris: [gs://b/p.tar.gz]\npythonModule: a.b\n")
    done = stage.run("train", "--config", "packages.yaml", "--image", image, "--dry-run", check=True)
    said = "--image: the image's own program runs, not packages.yaml:1: packageUris, packages.yaml:2: pythonModule"
    assert said in done.stderr


def test_doctor_and_cost_see_the_job_that_train_would_send(stage: Stage) -> None:
    four = json.loads(stage.run("cost", "--config", "native.yaml", "--format", "json", check=True).stdout)["hourly"]
    nine = json.loads(stage.run("cost", "--config", "native.yaml", "--format", "json", check=True, ODCLOUD_WORKERS="7").stdout)[
        "hourly"
    ]
    assert nine > four
    (asked,) = (
        one
        for one in json.loads(
            stage.run(
                "doctor", "--config", "native.yaml", "--image", "example.com/x:1", "--format", "json", ODCLOUD_STRATEGY="SPOT"
            ).stdout
        )
        if one["check"] == "packages"
    )
    assert asked["text"] == "the job needs no packages: its program is in its image"
    refused = stage.run("doctor", "--config", "native.yaml", ODCLOUD_TIMEOUT="soon")
    assert refused.returncode == 2 and "$ODCLOUD_TIMEOUT: must be a duration" in refused.stderr


def test_packages_of_this_machine_go_up_once(stage: Stage) -> None:
    name = "tiny-0.1.0.tar.gz"
    shutil.copy(bucket(stage) / "packages/0" / name, stage.folder / name)
    asked = ("train", "--config", "native.yaml", "--parameter-servers", "1", "--packages", name)

    def there() -> list[Path]:
        return [path for path in (bucket(stage) / "packages").rglob(name) if path.parent.name != "0"]

    stage.behave(steps=1)
    dry = json.loads(stage.run(*asked, "--dry-run", check=True).stdout)
    (uri,) = dry["jobSpec"]["workerPoolSpecs"][0]["pythonPackageSpec"]["packageUris"]
    assert there() == []  # a dry run sends nothing
    done = stage.run(*asked, "--run", "own", "--format", "json", check=True)
    assert json.loads(done.stdout)["state"] == "SUCCEEDED"
    assert f"uploaded {name} to {uri}\n" in done.stderr
    (path,) = there()
    assert uri == f"gs://{BUCKET}/packages/{path.parent.name}/{name}"
    evaluated = stage.run("eval", "--run", "own", "--format", "json", check=True, ODCLOUD_PACKAGES=name)
    assert json.loads(evaluated.stdout)["state"] == "SUCCEEDED"
    assert "uploaded" not in evaluated.stderr and there() == [path]
    checks = json.loads(stage.run("doctor", *asked[1:], "--format", "json").stdout)
    assert next(one["state"] for one in checks if one["check"] == "packages") == "ok"
    refused = stage.run("train", "--config", "native.yaml", "--packages", "none.tar.gz")
    assert refused.returncode == 2 and "--packages none.tar.gz: no such file" in refused.stderr
    both = stage.run("train", "--config", "native.yaml", "--packages", name, "--image", "x")
    assert both.returncode == 2 and "--image and --packages exclude each other" in both.stderr
