"""One launch, one job, however bad the way to Google: a gateway before a real local cloud loses and refuses what it should."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from gateway import LOSE_ANSWER, LOSE_REQUEST, Gateway, Trouble
from launcher_stage import Stage, enter

from launcher import vertex
from launcher.google.api import ATTEMPTS
from launcher.jobfile import reading, resolve
from launcher.launch import records, runs


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with enter(tmp_path_factory.mktemp("stage")) as made:
        made.behave(steps=1)
        yield made


@pytest.fixture
def gateway(stage: Stage) -> Iterator[Gateway]:
    with Gateway(stage.port) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


TROUBLES: dict[str, list[Trouble]] = {
    "answer-lost": [LOSE_ANSWER],
    "request-lost": [LOSE_REQUEST],
    "unavailable": [503, 500],
    "busy": [429],
    "all": [503, LOSE_REQUEST, LOSE_ANSWER],
}


@pytest.fixture(scope="module")
def troubled(stage: Stage) -> dict[str, tuple[subprocess.CompletedProcess[str], list[Trouble]]]:
    """A launch for each of TROUBLES, all at once, for most of them is waiting: its end, and the troubles it did not meet."""

    def launch(run: str) -> tuple[subprocess.CompletedProcess[str], list[Trouble]]:
        with Gateway(stage.port) as way:
            threading.Thread(target=way.serve_forever, args=(0.01,), daemon=True).start()
            way.where, way.troubles = ("POST", "/customJobs"), list(TROUBLES[run])
            arguments = ("train", "--config", "job.yaml", "--run", run, "--detach", "--format", "json")
            done = stage.run(*arguments, **way.overrides())
            way.shutdown()
            return done, way.troubles

    with ThreadPoolExecutor(len(TROUBLES)) as pool:
        return dict(zip(TROUBLES, pool.map(launch, TROUBLES), strict=True))


@pytest.mark.parametrize("run", TROUBLES)
def test_a_create_call_in_trouble_makes_one_job(stage: Stage, troubled: dict[str, Any], run: str) -> None:
    done, troubles_left = troubled[run]
    assert done.returncode == 0, done.stderr
    assert not troubles_left
    told = json.loads(done.stdout)
    assert told["run"] == run
    made = stage.session().jobs(display_name=run)
    assert [job["name"].rpartition("/")[2] for job in made] == [told["job"]]
    record = json.loads((stage.folder / f".odcloud/buckets/stage/runs/{run}/train-1.json").read_text())
    assert record["job"] == made[0]["name"]


@pytest.mark.parametrize("trouble", [LOSE_ANSWER, LOSE_REQUEST, 503])
def test_a_record_whose_answer_is_lost_is_known_as_one_s_own(stage: Stage, gateway: Gateway, trouble: str | int) -> None:
    run = f"record-{trouble}".replace(" ", "-")
    gateway.where, gateway.troubles = ("POST", "/upload/storage/v1/b/stage/o"), [trouble]
    stage.run("train", "--config", "job.yaml", "--run", run, "--detach", check=True, **gateway.overrides())
    assert not gateway.troubles
    assert len(stage.session().jobs(display_name=run)) == 1
    assert [path.name for path in (stage.folder / f".odcloud/buckets/stage/runs/{run}").iterdir()] == ["train-1.json"]


def test_a_refused_create_is_said_once_and_can_be_mended(stage: Stage, gateway: Gateway) -> None:
    gateway.where, gateway.troubles = ("POST", "/customJobs"), [403]
    done = stage.run("train", "--config", "job.yaml", "--run", "refused", **gateway.overrides())
    assert done.returncode == 2
    assert "answered 403 TROUBLE to aiplatform.projects.locations.customJobs.create: Come back later." in done.stderr
    assert stage.session().jobs(display_name="refused") == []
    mended = stage.run("train", "--config", "job.yaml", "--run", "refused", "--detach", check=True, **gateway.overrides())
    assert "waiting" not in mended.stderr
    assert len(stage.session().jobs(display_name="refused")) == 1


def test_following_outlives_lost_answers(stage: Stage, gateway: Gateway) -> None:
    gateway.where, gateway.troubles = ("POST", "/entries:list"), [503, LOSE_ANSWER, 429, LOSE_REQUEST, LOSE_ANSWER]
    done = stage.run("train", "--config", "job.yaml", "--run", "followed", check=True, **gateway.overrides())
    assert not gateway.troubles
    assert "step 1/1" in done.stderr
    assert done.stderr.count("chief: SUCCEEDED") == 1


@pytest.mark.parametrize("reading", [("jobs", "logs", "--follow"), ("ml-engine", "jobs", "stream-logs")])
def test_a_log_is_followed_through_an_outage(stage: Stage, gateway: Gateway, reading: tuple[str, ...]) -> None:
    job = launched(stage, f"read-{reading[0]}", []).job
    gateway.where, gateway.troubles = ("POST", "/entries:list"), [503] * (ATTEMPTS + 1)  # more than one call repeats
    done = stage.run(*reading, job["displayName"], check=True, **gateway.overrides())
    assert not gateway.troubles
    assert done.stderr.count("Come back later.; that is the service's own trouble") == 1 and "; trying again" in done.stderr
    assert done.stdout.count("chief 0 says hello") == 1


def record(stage: Stage, run: str, number: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((stage.folder / f".odcloud/buckets/stage/runs/{run}/train-{number}.json").read_text())
    return found


def launched(stage: Stage, run: str, said: list[str]) -> runs.Launched:
    session = stage.session()
    file = reading.parse("trainingInput: {masterType: standard}", "job.yaml")
    return runs.launch(session, resolve.training(session.outputs, file, run).job, said.append)


def test_a_living_launcher_s_record_is_waited_for(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine's launcher keeps its record for the length of the lease, and no longer."""
    session = stage.session()
    said: list[str] = []
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(records, "_machine", lambda: "another boot")
        held = records.claim(session, "leased", "train", 1, {"jobSpec": {"workerPoolSpecs": []}}, "0" * 32)
    assert held
    with ThreadPoolExecutor(1) as pool:
        launching = pool.submit(launched, stage, "leased", said)
        while not said:
            time.sleep(0.05)
        assert "is launching this run: waiting for it" in said[0]
        assert not session.jobs(display_name="leased")
        monkeypatch.setattr(records, "LEASE", 0.0)
        found = launching.result(timeout=120)
    assert found.job["labels"]["odcloud-launch"] == "0" * 32
    with pytest.raises(records.RecordLost):
        records.renew(session, held)
    assert record(stage, "leased")["job"] == found.job["name"]


def test_a_job_that_a_killed_launcher_made_is_found_after_its_end(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    first = launched(stage, "short", [])
    stage.run("jobs", "wait", first.job["name"].rpartition("/")[2], check=True)
    path = stage.folder / ".odcloud/buckets/stage/runs/short/train-1.json"
    content = json.loads(path.read_text())
    content["launcher"]["pid"] = 2**22 + 1  # nobody's
    path.write_text(json.dumps({**content, "job": None}))
    monkeypatch.setattr(records, "SETTLE", 1.0)
    again = launched(stage, "short", [])
    assert again.adopted
    assert again.job["name"] == first.job["name"]
    assert len(stage.session().jobs(display_name="short")) == 1
    assert record(stage, "short")["job"] == first.job["name"]
    third = launched(stage, "short", [])
    assert not third.adopted
    assert record(stage, "short", 2)["job"] == third.job["name"]


STOCKOUT = "Resources are insufficient in region: europe-west4. Please try a different region."
QUOTA = "The following quota metrics exceed quota limits: aiplatform.googleapis.com/custom_model_training_nvidia_t4_gpus"


@pytest.fixture
def elsewhere(stage: Stage, gateway: Gateway) -> Iterator[Gateway]:
    """A stack in europe-west4, which the gateway plays; the local cloud is the other region."""
    europe = {**stage.outputs, "region": "europe-west4"}
    stage.import_stack("europe", europe)
    gateway.answers["GET", "/locations/europe-west4/customJobs"] = (200, b"{}")
    yield gateway
    stage.pulumi("stack", "select", "stage")


@pytest.mark.parametrize(("status", "message"), [(429, STOCKOUT), (503, STOCKOUT), (429, QUOTA)])
def test_another_region_is_tried(stage: Stage, elsewhere: Gateway, status: int, message: str) -> None:
    error = {"error": {"code": status, "status": "RESOURCE_EXHAUSTED", "message": message}}
    elsewhere.answers["POST", "/locations/europe-west4/customJobs"] = (status, json.dumps(error).encode())
    run = f"elsewhere-{status}-{len(message)}"
    arguments = ["train", "--config", "job.yaml", "--run", run, "--detach"]
    refused = stage.run(*arguments, **elsewhere.overrides())
    assert refused.returncode == 2
    assert "--fallback-regions" in refused.stderr
    assert message in refused.stderr
    done = stage.run(*arguments, "--fallback-regions", "us-central1", check=True, **elsewhere.overrides())
    assert f"europe-west4: {message}: trying the next region" in done.stderr
    assert "warning: the job is in us-central1, the bucket stays in europe-west4" in done.stderr
    made = stage.session().jobs(display_name=run)
    assert [record(stage, run, 2)["job"]] == [job["name"] for job in made]


def test_a_pending_job_without_machines_is_launched_elsewhere(stage: Stage, elsewhere: Gateway) -> None:
    """The job in Europe, as the gateway tells it, fails before it starts; the next one runs on the local cloud."""
    name = "projects/1/locations/europe-west4/customJobs/77"
    job = {
        "name": name,
        "displayName": "pending",
        "labels": {"odcloud-run": "pending", "odcloud-kind": "train"},
        "state": "JOB_STATE_PENDING",
        "createTime": "2027-01-01T00:00:00Z",
        "jobSpec": {"workerPoolSpecs": []},
    }
    failed = {**job, "state": "JOB_STATE_FAILED", "error": {"code": 8, "message": STOCKOUT}, "endTime": job["createTime"]}
    elsewhere.answers["POST", "/locations/europe-west4/customJobs"] = (200, json.dumps(job).encode())
    elsewhere.answers.pop(("GET", "/locations/europe-west4/customJobs"))
    elsewhere.answers["GET", "/locations/europe-west4/customJobs/77"] = (200, json.dumps(failed).encode())
    elsewhere.answers["GET", "/locations/europe-west4/customJobs"] = (200, b"{}")
    done = stage.run(
        "train", "--config", "job.yaml", "--run", "pending", "--fallback-regions", "us-central1", **elsewhere.overrides()
    )
    assert done.returncode == 0, done.stderr
    assert "europe-west4 had no machines for the job: trying us-central1" in done.stderr
    assert [record(stage, "pending", 2)["job"]] == [job["name"] for job in stage.session().jobs(display_name="pending")]


def test_a_region_that_is_none_is_refused(stage: Stage) -> None:
    done = stage.run("train", "--config", "job.yaml", "--fallback-regions", "us-east1,moon")
    assert done.returncode == 2
    assert "--fallback-regions: 'moon' is no region" in done.stderr


def test_a_job_in_another_region_is_at_hand_like_any_other(stage: Stage, elsewhere: Gateway) -> None:
    """By its run and by its number: listed, shown, read, opened, adopted, cancelled and deleted."""
    refusal = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": STOCKOUT}}
    elsewhere.answers["POST", "/locations/europe-west4/customJobs"] = (429, json.dumps(refusal).encode())
    missing = {"error": {"code": 404, "status": "NOT_FOUND", "message": "no such job"}}
    elsewhere.answers["GET", "/locations/europe-west4/customJobs/"] = (404, json.dumps(missing).encode())
    stage.behave(steps=3000)
    way = elsewhere.overrides()
    launch = ("train", "--config", "job.yaml", "--run", "abroad", "--detach", "--format", "json")
    told = json.loads(stage.run(*launch, "--fallback-regions", "us-central1", check=True, **way).stdout)
    number = told["job"]
    rows = json.loads(stage.run("jobs", "list", "--format", "json", check=True, **way).stdout)
    assert [(row["run"], row["region"]) for row in rows if row["run"] == "abroad"] == [("abroad", "us-central1")]
    shown = json.loads(stage.run("jobs", "show", number, "--format", "json", check=True, **way).stdout)
    assert (shown["job"], shown["run"]) == (number, "abroad")
    assert stage.run("jobs", "logs", "abroad", check=True, **way).returncode == 0
    assert stage.run("open", "abroad", "--print", check=True, **way).stdout
    again = json.loads(stage.run(*launch, check=True, **way).stdout)  # nobody says where to look
    assert again["job"] == number
    cancelled = json.loads(stage.run("jobs", "cancel", "abroad", "--format", "json", check=True, **way).stdout)
    assert (cancelled["job"], cancelled["state"]) == (number, "CANCELLED")
    assert stage.run("jobs", "delete", number, check=True, **way).returncode == 0
    assert f"no job {number} in projects/" in stage.run("jobs", "show", number, **way).stderr


def test_a_launcher_killed_in_another_region_is_followed_by_one_that_looks_there(stage: Stage, elsewhere: Gateway) -> None:
    """Killed after its job was made abroad and before it could note that: the record says where to look."""
    refusal = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": STOCKOUT}}
    elsewhere.answers["POST", "/locations/europe-west4/customJobs"] = (429, json.dumps(refusal).encode())
    stage.behave(steps=3000)
    launch = ("train", "--config", "job.yaml", "--run", "orphan", "--detach", "--format", "json")
    told = json.loads(stage.run(*launch, "--fallback-regions", "us-central1", check=True, **elsewhere.overrides()).stdout)
    path = stage.folder / ".odcloud/buckets/stage/runs/orphan/train-1.json"
    content = json.loads(path.read_text())
    assert content["regions"] == ["us-central1"]
    content["launcher"]["pid"] = 2**22 + 1  # nobody's
    path.write_text(json.dumps({**content, "job": None}))
    again = json.loads(stage.run(*launch, check=True, **elsewhere.overrides()).stdout)
    assert again["job"] == told["job"]
    assert [vertex.number(job) for job in stage.session().jobs(display_name="orphan")] == [told["job"]]
    stage.run("jobs", "cancel", told["job"], check=True, **elsewhere.overrides())


@pytest.mark.parametrize("moment", ["before the call", "in the call"])
def test_a_launcher_that_stood_still_past_its_lease_makes_no_second_job(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Stopped (SIGSTOP) when it holds the record, or when it has just been allowed to send, and continued too late."""
    monkeypatch.setattr(records, "LEASE", 3.0)
    stage.behave(steps=3000)
    run = "stood-" + moment.replace(" ", "-")
    arguments = ["train", "--config", "job.yaml", "--run", run, "--detach", "--format", "json"]
    script = Path(__file__).with_name("stopped_launcher.py")
    first = subprocess.Popen(
        [sys.executable, str(script), moment, *arguments],
        cwd=stage.folder,
        env={**stage.environment, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while Path(f"/proc/{first.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert first.poll() is None, first.communicate()
            time.sleep(0.02)
        said: list[str] = []
        second = launched(stage, run, said)
        assert not second.adopted
        assert "is launching this run: waiting for it" in said[0]
    finally:
        first.send_signal(signal.SIGCONT)
    stdout, stderr = first.communicate(timeout=120)
    assert first.returncode == 0, stderr
    jobs = stage.session().jobs(display_name=run)
    going = [job for job in jobs if vertex.state(job) not in {*vertex.ENDED, vertex.CANCELLING}]
    assert [job["name"] for job in going] == [second.job["name"]]
    assert json.loads(stdout)["job"] == vertex.number(second.job)
    assert record(stage, run)["job"] == second.job["name"]
    if moment == "before the call":
        assert len(jobs) == 1
    else:  # the call could not be called back; what it made is not left running
        assert "the create call was carried out twice: cancelling job" in stderr
    stage.run("jobs", "cancel", vertex.number(second.job), check=True)


def test_ctrl_c_before_the_create_call_leaves_nothing_to_wait_for(stage: Stage, gateway: Gateway) -> None:
    stage.behave(steps=3000)
    held, looking, over = threading.Event(), threading.Event(), threading.Event()

    def weather(verb: str, path: str) -> None:
        if verb == "POST" and path.startswith("/upload/"):
            held.set()  # the record is being written: what comes next is the look for a job of the run
        elif verb == "GET" and path.endswith("/customJobs") and held.is_set():
            looking.set()
            over.wait(120)

    gateway.weather = weather
    arguments = ("train", "--config", "job.yaml", "--run", "interrupted", "--detach", "--format", "json")
    process = stage.start(*arguments, **gateway.overrides())
    assert looking.wait(120)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    over.set()
    assert process.returncode == 130
    assert "\ninterrupted: no job was created\n" in stderr
    assert record(stage, "interrupted")["error"] == "interrupted before the create call"
    gateway.weather = lambda verb, path: None
    again = stage.run(*arguments, check=True)
    assert "waiting for it" not in again.stderr
    assert record(stage, "interrupted", 2)["job"].endswith(json.loads(again.stdout)["job"])
    stage.run("jobs", "cancel", "interrupted", check=True)
