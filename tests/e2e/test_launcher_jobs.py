"""The command `odcloud` as a user types it: a real local cloud, a real Pulumi backend, real processes."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from launcher_stage import BUCKET, Stage, enter

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with enter(tmp_path_factory.mktemp("stage")) as made:
        yield made


def succeed(stage: Stage, *arguments: str) -> Any:
    """A command's JSON answer."""
    return json.loads(stage.run(*arguments, "--format", "json", check=True).stdout)


def failure(stage: Stage, *arguments: str, **environment: str) -> str:
    """A command's one message, when its input is wrong."""
    done = stage.run(*arguments, **environment)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stdout == ""
    assert done.stderr.startswith("odcloud: error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_a_run_from_training_to_evaluation(stage: Stage) -> None:
    stage.behave(steps=3)
    done = stage.run("train", "--config", "job.yaml", "--format", "json", check=True)
    told = json.loads(done.stdout)
    assert re.fullmatch(r"object_detection_\d+", told["run"])
    assert told["state"] == "SUCCEEDED"
    assert [one["name"] for one in told["replicas"]] == ["chief", "worker-0", "worker-1", "ps-0"]
    assert told["replicas"][0]["exitCode"] == 0
    assert all(one["startTime"] and one["endTime"] for one in told["replicas"])
    assert "step 3/3 · loss 0.3333" in done.stderr
    assert "chief: the learning rate is high" in done.stderr
    assert "chatter" not in done.stderr
    assert not CONTROL.search(done.stderr)

    record = json.loads((stage.folder / f".odcloud/buckets/{BUCKET}/runs/{told['run']}/train-1.json").read_text())
    assert record["job"].endswith("/" + told["job"])
    assert record["request"]["labels"]["odcloud-run"] == told["run"]

    evaluated = stage.run("eval", check=True)
    assert f"{told['run'].replace('detection_', 'detection_eval_')} (job " in evaluated.stdout
    assert "AP 0.710 · AP50 0.830" in evaluated.stdout

    listed = succeed(stage, "jobs", "list")
    assert [(job["run"], job["kind"], job["state"]) for job in listed[:2]] == [
        (told["run"], "eval", "SUCCEEDED"),
        (told["run"], "train", "SUCCEEDED"),
    ]
    by_number, by_run = succeed(stage, "jobs", "show", told["job"]), succeed(stage, "jobs", "show", told["run"])
    assert by_number == by_run == told
    assert succeed(stage, "jobs", "show", evaluated.stdout.split(" ")[0])["kind"] == "eval"
    assert "worker-1" in stage.run("jobs", "show", told["run"], check=True).stdout

    # The run goes on as a new job when it is trained again.
    again = succeed(stage, "train", "--config", "job.yaml", "--run", told["run"])
    assert (again["run"], again["state"]) == (told["run"], "SUCCEEDED")
    assert again["job"] != told["job"]


def test_a_dry_run_prints_the_request_and_makes_nothing(stage: Stage) -> None:
    before = succeed(stage, "jobs", "list")
    # Nobody answers at that address: nothing may be asked there.
    done = stage.run(
        "train", "--config", "job.yaml", "--dry-run", CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM="http://127.0.0.1:9/"
    )
    assert done.stderr == "note: 2 workers and the chief: 3 training machines, and 1 parameter server\n"
    body = json.loads(done.stdout)
    assert [pool["replicaCount"] for pool in body["jobSpec"]["workerPoolSpecs"]] == ["1", "2", "1"]
    assert json.loads(stage.run("eval", "--run", "mine", "--dry-run").stdout)["displayName"] == "object_detection_eval_mine"
    assert succeed(stage, "jobs", "list") == before


def test_a_replica_that_raises_is_shown_with_its_last_lines(stage: Stage) -> None:
    stage.behave(steps=600, fail="worker 1")
    done = stage.run("train", "--config", "job.yaml", "--run", "raises")
    assert done.returncode == 1
    assert "raises (job " in done.stdout and ": FAILED after " in done.stdout
    assert "ValueError: the boxes have no corners" in done.stderr
    assert stage.run("jobs", "wait", "raises").returncode == 1
    shown = stage.run("jobs", "show", "raises", check=True).stdout
    assert "ValueError: the boxes have no corners" in shown
    assert [one["exitCode"] for one in succeed(stage, "jobs", "show", "raises")["replicas"] if one["name"] == "worker-1"] == [1]


def test_detach_follow_read_and_cancel(stage: Stage) -> None:
    stage.behave(steps=3000)
    launched = succeed(stage, "train", "--config", "job.yaml", "--run", "long", "--detach")
    assert launched["state"] in ("QUEUED", "PENDING", "RUNNING")

    with stage.start("train", "--config", "job.yaml", "--run", "long", "--format", "json") as follower:
        assert follower.stderr and follower.stdout
        lines = []
        for line in follower.stderr:
            lines.append(line)
            if line.startswith("step "):
                break
        assert lines[0].startswith(f"following long: job {launched['job']}, ")  # adopted, not launched again
        follower.send_signal(signal.SIGINT)
        rest = follower.stderr.read()
        assert json.loads(follower.stdout.read())["state"] == "RUNNING"
    assert follower.returncode == 130
    assert f"detached: job {launched['job']} goes on" in rest
    assert f"odcloud jobs logs --follow {launched['job']}" in rest
    assert f"odcloud jobs cancel {launched['job']}" in rest
    assert "Traceback" not in rest

    with stage.start("jobs", "logs", "long", "--follow", "--replica", "chief", "--format", "json") as reader:
        assert reader.stdout
        entries = []
        for line in reader.stdout:
            entries.append(json.loads(line))
            if entries[-1]["message"] == "step 40":
                break
        cancelled = succeed(stage, "jobs", "cancel", "long")
        assert cancelled["state"] == "CANCELLED"
        assert None not in [one["exitCode"] for one in cancelled["replicas"]]
        entries += [json.loads(line) for line in reader.stdout]
    assert reader.returncode == 0  # ends with the job
    assert {entry["replica"] for entry in entries} == {"chief"}
    steps = [entry["payload"]["step"] for entry in entries if "step" in entry.get("payload", {})]
    assert steps == list(range(1, len(steps) + 1))  # none lost, none twice

    assert succeed(stage, "jobs", "cancel", "long") == succeed(stage, "jobs", "show", "long")  # it has ended: that is all right
    assert stage.run("jobs", "wait", "long").returncode == 1


def test_two_launch_one_run_at_once(stage: Stage) -> None:
    stage.behave(steps=20)
    both = [stage.start("train", "--config", "job.yaml", "--run", "twice", "--detach", "--format", "json") for _ in range(2)]
    answers = [json.loads(one.communicate(timeout=100)[0]) for one in both]
    assert answers[0]["job"] == answers[1]["job"]
    assert len([job for job in succeed(stage, "jobs", "list") if job["run"] == "twice"]) == 1
    assert stage.run("jobs", "wait", "twice").returncode == 0


def test_a_launcher_that_was_killed_is_followed_by_one_that_goes_on(stage: Stage) -> None:
    """Its record is there and no job: the state between the two writes of a launch."""
    stage.behave(steps=1)
    succeed(stage, "train", "--config", "job.yaml", "--run", "living")
    runs = stage.folder / f".odcloud/buckets/{BUCKET}/runs/orphan"
    runs.mkdir(parents=True)
    living = json.loads((runs.parent / "living/train-1.json").read_text())
    killed = {"run": "orphan", "launcher": {**living["launcher"], "pid": 2**22 + 1}, "job": None, "error": None}
    (runs / "train-1.json").write_text(json.dumps(killed))
    told = succeed(stage, "train", "--config", "job.yaml", "--run", "orphan")
    assert told["state"] == "SUCCEEDED"
    assert json.loads((runs / "train-1.json").read_text())["job"].endswith(told["job"])


def test_new_runs_in_one_second_are_different_runs(stage: Stage) -> None:
    stage.behave(steps=1)
    both = [stage.start("train", "--config", "job.yaml", "--detach", "--format", "json") for _ in range(2)]
    answers = [json.loads(one.communicate(timeout=100)[0]) for one in both]
    assert answers[0]["run"] != answers[1]["run"]
    for answer in answers:
        assert stage.run("jobs", "wait", answer["job"]).returncode == 0


def test_a_report_gets_what_the_run_left(stage: Stage, tmp_path: Path) -> None:
    """With a stand-in for the trainer's module that says what it was given; the real one wants a real training (test_demo)."""
    stage.behave(steps=1)
    told = succeed(stage, "train", "--config", "job.yaml", "--run", "reported")
    stage.run("eval", "--run", "reported", check=True)
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer/__init__.py").touch()
    (tmp_path / "trainer/report.py").write_text(
        "import json, pathlib, sys\n"
        "given = dict(word.lstrip('-').split('=', 1) for word in sys.argv[1:])\n"
        "files = {name: sorted(str(f.relative_to(given[name])) for f in pathlib.Path(given[name]).rglob('*') if f.is_file())\n"
        "         for name in ('train_dir', 'eval_dir')}\n"
        "print(json.dumps({**given, **files, 'facts': json.loads(pathlib.Path(given['facts']).read_text())}))\n"
    )
    given = json.loads(
        stage.run("report", "--run", "reported", "--format", "json", PYTHONPATH=str(tmp_path), check=True).stdout
    )
    assert given["train_dir"] == ["events.out.tfevents.1.host"]  # and no checkpoint
    assert given["eval_dir"] == ["metrics.json"]
    assert given["facts"].pop("cost").startswith("$")
    assert given["facts"] == told
    assert (given["run"], given["output"], given["format"]) == ("reported", "report/reported", "json")


@pytest.mark.parametrize("command", [("local", "status"), ("data", "--help")])
def test_other_rooms_commands_are_passed_on(stage: Stage, command: tuple[str, ...]) -> None:
    done = stage.run(*command)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_no_such_bucket(stage: Stage) -> None:
    stage.import_stack("nobucket", {**stage.outputs, "bucket": "not-there"})
    try:
        for command in (["train", "--config", "job.yaml", "--run", "x"], ["eval"], ["report"]):
            assert "the bucket gs://not-there, output 'bucket' of the stack, does not exist" in failure(stage, *command)
    finally:
        stage.pulumi("stack", "select", "stage")
    assert not [job for job in succeed(stage, "jobs", "list") if job["run"] == "x"]


def test_missing_output_and_no_outputs_yet(stage: Stage) -> None:
    values = {name: value for name, value in stage.outputs.items() if name != "package_uris"}
    stage.import_stack("partial", values)
    stage.pulumi("stack", "select", "--create", "empty")
    try:
        assert "output 'package_uris' of partial is missing; run `pulumi up`" in failure(stage, "eval", "--stack", "partial")
        assert "has no outputs yet; run `pulumi up`" in failure(stage, "jobs", "list", "--stack", "empty")
    finally:
        stage.pulumi("stack", "select", "stage")


def test_no_such_stack(stage: Stage) -> None:
    message = failure(stage, "train", "--config", "job.yaml", "--stack", "nowhere")
    assert "there is no stack 'nowhere'; `pulumi stack ls`" in message


def test_no_stack_selected(stage: Stage, tmp_path: Path) -> None:
    message = failure(stage, "jobs", "list", PULUMI_BACKEND_URL=f"file://{tmp_path}", PULUMI_HOME=str(tmp_path / "home"))
    assert "no stack is selected; choose one with --stack NAME" in message


def test_not_logged_in(stage: Stage, tmp_path: Path) -> None:
    message = failure(stage, "jobs", "list", PULUMI_BACKEND_URL="", PULUMI_HOME=str(tmp_path / "home"))
    assert 'Pulumi is not logged in; run `pulumi login`, or for the local cloud first `eval "$(odcloud local env)"`' in message


def test_no_pulumi(stage: Stage, tmp_path: Path) -> None:
    assert "no `pulumi` on PATH; run `make setup`" in failure(stage, "jobs", "list", PATH=str(tmp_path))


def test_nobody_answers_and_a_wrong_token(stage: Stage) -> None:
    message = failure(stage, "jobs", "list", CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM="http://127.0.0.1:9/")
    assert "cannot reach http://127.0.0.1:9 (that address is $CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM)" in message
    message = failure(stage, "jobs", "list", GOOGLE_OAUTH_ACCESS_TOKEN="wrong")
    assert "answered 401 Unauthorized" in message and 'eval "$(odcloud local env)"' in message


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train"], "Missing option '--config'"),
        (["trian"], "No such command 'trian'"),
        (["train", "--config", "none.yaml"], "none.yaml: no such job file"),
        (["train", "--config", "wrong.yaml"], "wrong.yaml:2: trainingInput.masterType: unknown machine type 'standrad'"),
        (
            ["train", "--config", "job.yaml", "--run", "Not A Run"],
            "--run 'Not A Run': a run id is at most 63 lower-case letters",
        ),
        (["eval", "--run", "none"], "gs://stage/train/none holds no checkpoint to evaluate"),
        (["report", "--run", "none"], "run none has left nothing to report on"),
        (["jobs", "show", "none"], "no job has the number, run id or name 'none'"),
        (["jobs", "show", "123"], "no job 123 in projects/odcloud-local/locations/us-central1"),
    ],
)
def test_wrong_words(stage: Stage, arguments: list[str], said: str) -> None:
    (stage.folder / "wrong.yaml").write_text("trainingInput:\n  masterType: standrad\n")
    assert said in failure(stage, *arguments)


def test_a_replica_that_there_is_not(stage: Stage) -> None:
    stage.behave(steps=1)
    made = succeed(stage, "train", "--config", "job.yaml", "--run", "small", "--detach")
    message = failure(stage, "jobs", "logs", "small", "--replica", "worker-7")
    assert f"--replica 'worker-7': job {made['job']} has " in message and "worker-1" in message


def test_the_server_may_go_away_for_a_moment(stage: Stage) -> None:
    stage.behave(steps=3000)  # it cannot end before the stop
    with stage.start("train", "--config", "job.yaml", "--run", "patient") as follower:
        assert follower.stderr
        for line in follower.stderr:
            if line.startswith("step "):
                break
        stage.run("local", "stop", check=True)
        assert any("; trying again" in line for line in follower.stderr)
        stage.run("local", "start", "--port", str(stage.port), check=True)
        rest = follower.stderr.read()
    # A stop ends the replicas, so the local cloud has cancelled the job; the follower saw it through.
    assert follower.returncode == 1, rest
    assert "CANCELLED" in rest and "Traceback" not in rest
