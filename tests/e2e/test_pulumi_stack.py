"""The stack's whole life with the real Pulumi on a real local cloud, in a project folder and a state folder of its own."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from stack_project import BILLING, CONFIG, SHARDS, Project, running
from token_gateway import signing

from infra.outputs import StackOutputs
from localcloud.pulumi_provider.rest import STORAGE

PARENT = "projects/odcloud-local/locations/us-central1"

pytestmark = pytest.mark.slow


def waiting(outputs: StackOutputs) -> dict[str, Any]:
    """A custom job of the stack that runs until it is stopped."""
    pool = {
        "machineSpec": {"machineType": "n1-standard-4"},
        "replicaCount": "1",
        "pythonPackageSpec": {
            "executorImageUri": outputs.executor_image_uri,
            "packageUris": outputs.package_uris,
            "pythonModule": "waiter.wait",
        },
    }
    return {"displayName": "waits", "labels": outputs.labels, "jobSpec": {"workerPoolSpecs": [pool]}}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with running(tmp_path) as made:
        yield made


def test_up_again_refresh_change_destroy(project: Project) -> None:
    # A service that was just switched on is refused at first, as on Google Cloud.
    project.localcloud("chaos", "fail", "storage", "--with", "disabled", "--calls", "2")
    said = project.succeed("up", "--yes", "--skip-preview")
    assert "storage.googleapis.com is switched on, but not usable yet: waiting" in said
    outputs = project.outputs()
    assert outputs.bucket == "odcloud-local-odcloud-local"
    assert outputs.service_account == "odcloud-local@odcloud-local.iam.gserviceaccount.com"
    assert outputs.labels == {"odcloud-stack": "local"}
    assert outputs.endpoints["aiplatform"] == project.environment["CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM"]
    uris = [outputs.pipeline_config_path, outputs.label_map_path, *outputs.package_uris]
    uris += [f"{outputs.data_dir}/{shard}" for shard in SHARDS]
    assert project.objects(outputs.bucket) == {uri.removeprefix(f"gs://{outputs.bucket}/") for uri in uris}
    assert re.fullmatch(r"gs://[^/]+/packages/[0-9a-f]{12}/odcloud_trainer-0\.1\.0\.tar\.gz", outputs.package_uris[0])

    kinds = {
        str(left.get("kind") or left.get("role") or left.get("email") or left.get("format")) for left in project.leftovers()
    }
    assert kinds == {"storage#bucket", outputs.service_account, "DOCKER", "roles/logging.logWriter"}

    # Nothing changes by itself, neither here nor there.
    project.succeed("up", "--yes", "--skip-preview", "--expect-no-changes")
    project.succeed("refresh", "--yes", "--skip-preview", "--expect-no-changes")

    # What others changed is seen by a refresh and put right by the next up.
    bucket = f"storage/v1/b/{outputs.bucket}"
    project.call("PATCH", bucket, {"labels": {"odcloud-stack": "mine", "another": "label"}})
    project.call("DELETE", f"{bucket}/o/data%2Flabel_map.pbtxt")
    project.fail("refresh", "--yes", "--skip-preview", "--expect-no-changes")
    project.succeed("up", "--yes", "--skip-preview")
    assert project.call("GET", bucket)["labels"] == {"odcloud-stack": "local"}
    assert "data/label_map.pbtxt" in project.objects(outputs.bucket)

    # A changed source is a new object beside the old one, which jobs may need; a changed shard is uploaded under its own name.
    (project.root / "examples/digits/pipeline.config").write_text(f"model {{ ssd {{}} }}\n{CONFIG}")
    (project.root / "digits" / SHARDS[0]).write_text("other records")
    preview = project.succeed("preview", "--diff")
    assert "pipeline.config" in preview and SHARDS[0] in preview and SHARDS[1] not in preview
    project.succeed("up", "--yes", "--skip-preview")
    changed = project.outputs().pipeline_config_path
    assert changed != outputs.pipeline_config_path
    for uri in (changed, outputs.pipeline_config_path):
        assert uri.removeprefix(f"gs://{outputs.bucket}/") in project.objects(outputs.bucket)
    assert project.call("GET", f"{bucket}/o/data%2F{SHARDS[0]}")["size"] == str(len("other records"))

    project.succeed("destroy", "--yes", "--skip-preview")
    assert project.leftovers() == []
    assert {path: path.read_bytes() for path in project.root.glob("Pulumi*.yaml")} == project.committed
    assert project.provider_processes() == []


def test_destroy_first_stops_the_stacks_jobs_and_touches_nothing_if_it_cannot(project: Project) -> None:
    project.succeed("up", "--yes", "--skip-preview")
    outputs = project.outputs()
    job = waiting(outputs)
    name = project.call("POST", f"v1/{PARENT}/customJobs", job)["name"]
    other = project.call("POST", f"v1/{PARENT}/customJobs", {**job, "labels": {"odcloud-stack": "another"}})["name"]
    deadline = time.monotonic() + 120
    while project.call("GET", f"v1/{name}")["state"] != "JOB_STATE_RUNNING":
        assert time.monotonic() < deadline, project.call("GET", f"v1/{name}")
        time.sleep(0.2)

    nowhere = {"CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": "http://127.0.0.1:9/"}
    said = project.fail("destroy", "--yes", "--skip-preview", **nowhere)
    assert "http://127.0.0.1:9/v1/projects/odcloud-local" in said and "is not reached" in said and "odcloud local start" in said
    assert 'File "' not in said
    assert SHARDS[0] in str(project.objects(outputs.bucket))

    assert f"{name} is cancelled and waited for" in project.succeed("destroy", "--yes", "--skip-preview")
    assert project.leftovers() == []
    (left,) = project.call("GET", f"v1/{PARENT}/customJobs")["customJobs"]
    assert left["name"] == other and left["state"] not in ("JOB_STATE_CANCELLED", "JOB_STATE_CANCELLING")


def test_a_job_that_does_not_stop_is_waited_for_or_named_with_nothing_deleted(project: Project) -> None:
    """Its replica ignores SIGTERM: the local cloud ends it ten seconds after the cancellation."""
    waiter = project.root / "trainer/waiter/wait.py"
    waiter.write_text(
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('stubborn', flush=True)\ntime.sleep(600)\n"
    )
    project.succeed("up", "--yes", "--skip-preview")
    outputs = project.outputs()
    name = project.call("POST", f"v1/{PARENT}/customJobs", waiting(outputs))["name"]
    deadline = time.monotonic() + 120
    entries = {"resourceNames": ["projects/odcloud-local"], "filter": 'jsonPayload.message = "stubborn"'}
    while not project.call("POST", "v2/entries:list", entries).get("entries"):
        assert time.monotonic() < deadline, project.call("GET", f"v1/{name}")
        time.sleep(0.2)

    teardown = project.root / "infra/teardown.py"
    patient = teardown.read_text()
    impatient = patient.replace("\nWAIT_SECONDS = 15 * 60\n", "\nWAIT_SECONDS = 0\n")
    assert impatient != patient
    before = project.objects(outputs.bucket)
    teardown.write_text(impatient)
    said = project.fail("destroy", "--yes", "--skip-preview")
    assert f"after being cancelled: {name}. They use what the stack has made, so nothing of it is deleted" in said
    assert "Traceback" not in said and project.objects(outputs.bucket) == before

    teardown.write_text(patient)
    project.succeed("destroy", "--yes", "--skip-preview")
    assert project.call("GET", f"v1/{PARENT}/customJobs") == {}
    assert project.leftovers() == []


def test_results_are_refused_kept_or_deleted(project: Project) -> None:
    config = project.root / "Pulumi.local.yaml"
    config.write_text(
        config.read_text().replace(
            "  odcloud:onDestroy: delete\n", "  odcloud:bucketLocation: EU\n  odcloud:versioning: true\n"
        )
    )
    said = project.succeed("up", "--yes", "--skip-preview")
    assert "the bucket is in EU, the jobs run in us-central1" in said
    bucket = project.outputs().bucket
    before = project.objects(bucket)
    for name in ("train/r/ckpt-1", "train/r/ckpt-1", "eval/r/metrics.json"):
        project.put(bucket, name)

    said = project.fail("destroy", "--yes", "--skip-preview")
    held = "2 objects and 1 old generation of training and evaluation (69 B)"
    assert f"{held} in gs://{bucket} would be lost, so nothing is deleted" in said
    assert 'File "' not in said
    assert project.objects(bucket) > before
    # A bucket elsewhere is another bucket: the one that holds the results would go.
    for key, other in {"odcloud:bucketLocation": "US", "odcloud:bucket": "another", "gcp:region": "us-east1"}.items():
        settings = config.read_text()
        project.succeed("config", "set", key, other)
        said = project.fail("up", "--yes", "--skip-preview")
        assert f"{held} in gs://{bucket} would be lost, so nothing is deleted" in said and "Set it back first" in said
        config.write_text(settings)
        project.succeed("up", "--yes", "--skip-preview")
        assert project.objects(bucket) > before
    project.succeed("up", "--yes", "--skip-preview", "--expect-no-changes")

    project.succeed("config", "set", "odcloud:onDestroy", "keepCheckpoints")
    project.succeed("up", "--yes", "--skip-preview")
    said = project.succeed("destroy", "--yes", "--skip-preview")
    assert "stay: the bucket is kept" in said
    assert [left["name"] for left in project.leftovers()] == [bucket]
    assert {"train/r/ckpt-1", "eval/r/metrics.json"} <= project.objects(bucket)
    kept = project.call("GET", f"storage/v1/b/{bucket}/o?versions=true&prefix=train/")["items"]
    assert [item["name"] for item in kept] == ["train/r/ckpt-1"] * 2 and kept[0]["timeDeleted"]
    assert not any(name.startswith("data/") for name in project.objects(bucket))


def test_a_bucket_that_was_there_stays_as_it_was(project: Project) -> None:
    """Only what is under the stack's own prefix comes and goes; the launcher keeps to it, too."""
    config = project.root / "Pulumi.local.yaml"
    config.write_text(config.read_text().replace('odcloud:softDeleteDays: "0"', "odcloud:existingBucket: theirs"))
    said = project.fail("up", "--yes", "--skip-preview")
    assert "odcloud:existingBucket: there is no bucket gs://theirs. Name one that exists" in said and "Traceback" not in said
    project.call("POST", "storage/v1/b?project=odcloud-local", {"name": "theirs", "location": "EU"})
    project.call("PATCH", "storage/v1/b/theirs", {"versioning": {"enabled": True}})
    for name in ("data/theirs", "train/theirs", "odcloud-locals/theirs"):
        project.put("theirs", name)
    bucket = project.call("GET", "storage/v1/b/theirs")
    policy = project.call("GET", "storage/v1/b/theirs/iam")

    assert "the bucket is in EU, the jobs run in us-central1" in project.succeed("up", "--yes", "--skip-preview")
    outputs = project.outputs()
    assert (outputs.bucket, outputs.prefix, outputs.train_dir) == (
        "theirs",
        "odcloud-local/",
        "gs://theirs/odcloud-local/train",
    )
    mine = {name for name in project.objects("theirs") if name.startswith("odcloud-local/")}
    assert {uri.removeprefix("gs://theirs/") for uri in (*outputs.package_uris, outputs.label_map_path)} < mine
    members = [binding["members"] for binding in project.call("GET", "storage/v1/b/theirs/iam")["bindings"]]
    assert [f"serviceAccount:{outputs.service_account}"] in members
    project.succeed("up", "--yes", "--skip-preview", "--expect-no-changes")
    project.succeed("refresh", "--yes", "--skip-preview", "--expect-no-changes")

    job = project.root / "job.yaml"
    job.write_text("trainingInput:\n  scaleTier: CUSTOM\n  masterType: n1-standard-4\n")
    code, said = project.odcloud("train", "--config", str(job), "--run", "r1", "--detach", "--format", "json")
    assert code == 0, said
    assert "odcloud-local/runs/r1/train-1.json" in project.objects("theirs")
    project.put("theirs", "odcloud-local/train/r1/ckpt-1")
    project.put("theirs", "odcloud-local/train/r1/ckpt-1")
    project.succeed("config", "set", "odcloud:onDestroy", "refuse")
    project.succeed("up", "--yes", "--skip-preview")
    refused = project.fail("destroy", "--yes", "--skip-preview")
    assert "in gs://theirs/odcloud-local would be lost, so nothing is deleted" in refused

    project.succeed("config", "set", "odcloud:onDestroy", "delete")
    project.succeed("up", "--yes", "--skip-preview")
    assert "under gs://theirs/odcloud-local/ deleted" in project.succeed("destroy", "--yes", "--skip-preview")
    left = project.call("GET", "storage/v1/b/theirs/o?versions=true")["items"]
    assert [item["name"] for item in left] == ["data/theirs", "odcloud-locals/theirs", "train/theirs"]
    after = project.call("GET", "storage/v1/b/theirs")
    unchanged = bucket.keys() - {"etag", "metageneration", "updated"}
    assert {name: after[name] for name in unchanged} == {name: bucket[name] for name in unchanged}
    assert project.call("GET", "storage/v1/b/theirs/iam").get("bindings", []) == policy.get("bindings", [])
    assert [found["name"] for found in project.leftovers()] == ["theirs"]


def test_two_stacks_at_once_with_their_state_in_a_bucket(project: Project) -> None:
    """Pulumi's gs:// backend sends an emulator no token, so here it has a gateway that adds it (docs/delivery.md)."""
    url, token = (project.environment[name] for name in ("API_ENDPOINT_OVERRIDE", "GOOGLE_OAUTH_ACCESS_TOKEN"))
    project.call("POST", "storage/v1/b?project=odcloud-local", {"name": "state"})
    with signing(url, token) as gateway:
        project.environment |= {"STORAGE_EMULATOR_HOST": gateway, "PULUMI_BACKEND_URL": "gs://state"}

        def both(*arguments: str) -> None:
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda stack: project.succeed(*arguments, "--stack", stack), ("local", "dev")))

        settings = ("--region", "us-central1", "--on-destroy", "delete", "--data-dir", "digits")
        assert project.odcloud("init", "dev", "--project", "odcloud-local", *settings)[0] == 0
        project.succeed("stack", "select", "--create", "local")
        both("up", "--yes", "--skip-preview")
        assert project.odcloud("doctor", "--orphans") == (0, "nothing in odcloud-local is left of a stack that is no more\n")
        code, said = project.odcloud("jobs", "list", "--stack", "dev")
        assert code == 0, said

        # One value changed: only what depends on it.
        project.succeed("config", "set", "--stack", "dev", "odcloud:temporaryDays", "3")
        steps = json.loads(project.succeed("preview", "--json", "--stack", "dev"))["steps"]
        changed = {step["urn"].rpartition("::")[2]: step["op"] for step in steps if step["op"] != "same"}
        assert changed == {"bucket": "update"}
        both("up", "--yes", "--skip-preview")
        rules = [
            project.call("GET", f"storage/v1/b/odcloud-local-odcloud-{stack}")["lifecycle"]["rule"]
            for stack in ("local", "dev")
        ]
        assert [rule["condition"]["age"] for (rule,) in rules] == [7, 3]
        both("destroy", "--yes", "--skip-preview")
        assert [left["name"] for left in project.leftovers()] == ["state"]
        assert project.odcloud("doctor", "--orphans") == (0, "nothing in odcloud-local is left of a stack that is no more\n")


def test_a_stack_with_everything_is_made_kept_and_removed(project: Project) -> None:
    """Launchers, workflows that deploy, old generations, a key: each type that the stack can have, with the policies kept."""
    for key, value in {
        "githubRepository": "vision/pets",
        "versioning": "true",
        "checkpointDays": "90",
        "billingAccount": BILLING,
        "budget": "200",
        "kmsKey": "projects/odcloud-local/locations/us-central1/keyRings/r/cryptoKeys/k",
    }.items():
        project.succeed("config", "set", f"odcloud:{key}", value)
    project.succeed("config", "set", "--path", "odcloud:launchers[0]", "group:vision@example.com")
    plan = project.root / "plan.json"

    def checked() -> tuple[int, str]:
        plan.write_text(project.succeed("preview", "--json", "--show-sames"))
        done = subprocess.run([sys.executable, "-m", "infra.policies", str(plan)], capture_output=True, text=True)
        return done.returncode, done.stdout

    assert checked() == (0, "every resource keeps the rules\n")
    project.succeed("up", "--yes", "--skip-preview")
    program = project.root / "infra/storage.py"
    kept = program.read_text()
    program.write_text(kept.replace('public_access_prevention="enforced"', 'public_access_prevention="inherited"'))
    assert program.read_text() != kept
    project.succeed("up", "--yes", "--skip-preview")
    assert checked() == (1, "gcp:storage/bucket:Bucket bucket can be made public: set publicAccessPrevention to enforced\n")
    program.write_text(kept)
    project.succeed("up", "--yes", "--skip-preview")
    outputs = project.outputs()
    assert outputs.delivery["deployer"] == "deploy-local@odcloud-local.iam.gserviceaccount.com"
    provider = project.call("GET", f"v1/{outputs.delivery['workload_identity_provider']}")
    assert "assertion.repository == 'vision/pets'" in provider["attributeCondition"]
    (budget,) = project.call("GET", f"v1/billingAccounts/{BILLING}/budgets")["budgets"]
    assert budget["amount"]["specifiedAmount"]["units"] == "200"
    assert budget["budgetFilter"]["projects"] == ["projects/100000000001"]
    assert budget["budgetFilter"]["labels"] == {"odcloud-stack": ["local"]}
    project.succeed("up", "--yes", "--skip-preview", "--expect-no-changes")
    project.succeed("refresh", "--yes", "--skip-preview", "--expect-no-changes")

    # Only what depends on a changed value changes.
    project.succeed("config", "set", "odcloud:githubBranch", "release")
    preview = project.succeed("preview", "--diff")
    assert "refs/heads/release" in preview and "gcp:storage" not in preview
    project.succeed("up", "--yes", "--skip-preview")
    project.put(outputs.bucket, "data/twice")
    project.put(outputs.bucket, "data/twice")
    said = project.succeed("destroy", "--yes", "--skip-preview")
    # The deployer may destroy what it is of: its rights go when nothing else is left, and what takes them goes last of them.
    gone = re.findall(r" (\S+) deleted", said)
    rights = [name for name in gone if name.startswith("deployer-deploy-")]
    assert len(rights) == 6 and rights[-1] == "deployer-deploy-bindings"
    others = {"bucket", "repository", "trainer", "budget", "logs", "launch-deployer", "previewer", "pool", "github"}
    assert others < set(gone[: gone.index(rights[0])])
    assert project.leftovers() == []


def test_a_stack_is_made_from_a_few_answers(project: Project) -> None:
    def init(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "launcher.cli", "init", "dev", *arguments]
        return subprocess.run(
            command,
            cwd=project.root,
            env=project.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    file = project.root / "Pulumi.dev.yaml"
    wrong = init("--project", "odcloud-local", "--region", "Moon", "--on-destroy", "perhaps")
    assert wrong.returncode == 2 and wrong.stderr.startswith("odcloud: error: Pulumi.dev.yaml")
    assert "gcp:region: 'Moon'" in wrong.stderr and "odcloud:onDestroy: 'perhaps'" in wrong.stderr
    silent = init("--region", "us-central1")
    assert silent.returncode == 2 and "gcp:project is not given" in silent.stderr
    assert not file.exists() and "dev" not in project.succeed("stack", "ls")

    made = init("--project", "odcloud-local", "--region", "us-central1", "--on-destroy", "delete", "--data-dir", "digits")
    assert made.returncode == 0, made.stderr
    assert "Next: `pulumi up`" in made.stdout
    again = init("--on-destroy", "refuse", "--format", "json")
    assert json.loads(again.stdout)["config"] == {
        "gcp:project": "odcloud-local",
        "gcp:region": "us-central1",
        "odcloud:dataDir": "digits",
        "odcloud:onDestroy": "refuse",
    }
    # Two stacks side by side in one project, with the same people: one goes, the other is untouched.
    for stack in ("dev", "local"):
        project.succeed("config", "set", "--stack", stack, "--path", "odcloud:launchers[0]", "group:vision@example.com")
    project.succeed("up", "--yes", "--skip-preview", "--stack", "dev")
    assert project.odcloud("doctor", "--orphans") == (0, "nothing in odcloud-local is left of a stack that is no more\n")
    project.succeed("stack", "select", "local")
    project.succeed("up", "--yes", "--skip-preview")
    project.succeed("destroy", "--yes", "--skip-preview", "--stack", "dev")
    project.succeed("refresh", "--yes", "--skip-preview", "--expect-no-changes")
    outputs = project.outputs()
    job = waiting(outputs)
    ended, running = (project.call("POST", f"v1/{PARENT}/customJobs", job)["name"] for _ in range(2))
    project.call("POST", f"v1/{ended}:cancel", {})
    deadline = time.monotonic() + 120
    while project.call("GET", f"v1/{ended}")["state"] != "JOB_STATE_CANCELLED":
        assert time.monotonic() < deadline
        time.sleep(0.2)

    # A stack of which Pulumi has lost the state leaves everything behind, and each thing is named with what removes it.
    project.succeed("stack", "rm", "--yes", "--force", "--preserve-config")
    code, text = project.odcloud("doctor", "--orphans", "--format", "json")
    left = json.loads(text)
    assert code == 1 and {one["stack"] for one in left} == {"local"}
    kinds = [one["what"].split()[0] for one in left]
    assert (kinds[:4], set(kinds[4:])) == (
        ["bucket", "repository", "job", "account"],
        {"roles/aiplatform.user", "roles/logging.viewer", "roles/serviceusage.serviceUsageConsumer"},
    )
    assert running.rpartition("/")[2] in left[2]["what"]
    assert left[0]["remove"] == "gcloud storage rm --recursive gs://odcloud-local-odcloud-local"


def test_mistakes_are_one_clear_message(project: Project) -> None:
    config = project.root / "Pulumi.local.yaml"
    config.write_text(config.read_text().replace("odcloud:onDestroy: delete", "odcloud:onDestroy: perhaps\n  odcloud:typo: 1"))
    said = project.fail("up", "--yes", "--skip-preview")
    assert "odcloud:onDestroy: 'perhaps'" in said and "odcloud:typo: no such setting" in said
    assert "Traceback" not in said

    config.write_bytes(project.committed[config])
    shutil.rmtree(project.root / "digits")
    said = project.fail("up", "--yes", "--skip-preview")
    assert "digits: no such folder. Make the demo's dataset with `odcloud data digits digits`" in said
    assert "Traceback" not in said
    assert project.leftovers() == []

    project.localcloud("stop")
    (project.root / "digits").mkdir()
    for name in (*SHARDS, "label_map.pbtxt"):
        (project.root / "digits" / name).write_text(name)
    said = project.fail("up", "--yes", "--skip-preview")
    assert "the local cloud is not reached" in said and "odcloud local start" in said
    assert "Traceback" not in said
    project.start()


def stopped(project: Project, number: signal.Signals, moment: str, *arguments: str) -> tuple[int, str]:
    """Sends Pulumi a signal once it says `moment`; exit code and what it said. Afterwards nothing of it runs any more."""
    process = subprocess.Popen(
        ["pulumi", *arguments, "--yes", "--skip-preview", "--non-interactive", "--color=never"],
        cwd=project.root,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if moment in line:
            break
    else:
        raise AssertionError(f"pulumi {' '.join(arguments)} never said {moment!r}:\n{said[-4000:]}")
    helpers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    said += process.communicate()[0]
    deadline = time.monotonic() + 120
    while project.provider_processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert project.provider_processes() == []
    for helper in helpers:  # Pulumi's own language host notices only after five minutes
        with contextlib.suppress(psutil.NoSuchProcess):
            helper.kill()
    return process.returncode, said


def test_a_killed_up_can_be_run_again(project: Project) -> None:
    """Whatever was made before the kill, noted in the state or not, the next up ends well."""
    for moment in (
        "BucketIAMMember objects creat",
        "Bucket bucket creating",
        "BucketObject data/train-00001-of-00002.tfrecord created",
    ):
        stopped(project, signal.SIGKILL, moment, "up")
        project.succeed("cancel", "--yes")
        project.succeed("up", "--yes", "--skip-preview")
        assert project.outputs()
        project.succeed("destroy", "--yes", "--skip-preview")
        assert project.leftovers() == []


def test_a_full_bucket_goes_however_often_destroy_is_interrupted(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 objects and 3,000 old generations; killed, interrupted, and run once more than needed."""
    project.succeed("config", "set", "odcloud:versioning", "true")
    project.succeed("up", "--yes", "--skip-preview")
    bucket = project.outputs().bucket
    folder = project.home / "buckets" / bucket / "train"
    folder.mkdir()
    for step in range(13_000):
        (folder / f"ckpt-{step}").write_text("written by training")
    monkeypatch.setenv("GOOGLE_STORAGE_CUSTOM_ENDPOINT", project.environment["GOOGLE_STORAGE_CUSTOM_ENDPOINT"])
    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", project.environment["GOOGLE_OAUTH_ACCESS_TOKEN"])
    for start in range(0, 3000, 100):
        paths = [f"b/{bucket}/o/train%2Fckpt-{step}" for step in range(start, start + 100)]
        assert list(STORAGE.batch("DELETE", paths)) == [{}] * 100

    progress = rf"gs://{bucket}: 0 of ([\d,]+) objects and old generations"
    code, said = stopped(project, signal.SIGKILL, f"gs://{bucket}: 2,600 of 13,0", "destroy")
    assert "10,000 objects and 3,000 old generations of training and evaluation (247.0 kB)" in said and code == -signal.SIGKILL
    assert "pulumi cancel" in project.fail("destroy", "--yes", "--skip-preview")
    project.succeed("cancel", "--yes")
    code, said = stopped(project, signal.SIGINT, f"gs://{bucket}: 0 of ", "destroy")
    left = re.search(r"interrupted with ([\d,]+) objects .* left; `pulumi destroy` again goes on from there", said)
    assert code != 0 and left and 0 < number(left) < number(re.search(progress, said)) <= 10_500, said
    assert "Traceback" not in said
    said = project.succeed("destroy", "--yes", "--skip-preview")
    assert number(re.search(progress, said)) == number(left)
    assert project.leftovers() == [] and not (project.home / "generations" / bucket).exists()
    project.succeed("destroy", "--yes", "--skip-preview")  # nothing is left to do


def number(found: re.Match[str] | None) -> int:
    assert found
    return int(found[1].replace(",", ""))


def test_a_wrong_token_is_refused_in_the_services_words(project: Project) -> None:
    said = project.fail("up", "--yes", "--skip-preview", GOOGLE_OAUTH_ACCESS_TOKEN="wrong")
    assert "401" in said and "Traceback" not in said
    with pytest.raises(urllib.error.HTTPError, match="404"):
        project.call("GET", "storage/v1/b/odcloud-local-odcloud-local")
