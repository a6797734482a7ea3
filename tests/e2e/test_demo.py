"""`make demo` and the README, as a user with a fresh clone meets them: real Pulumi and a real TensorFlow cluster."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from doc_blocks import blocks

ROOT = Path(__file__).resolve().parents[2]
IN_CLOUD = 'eval "$(.venv/bin/odcloud local env)"; '
BY_HAND_STEPS = 12  # num_steps of the trainings by hand: the commands are the README's, only the training is short

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def environment(clone: Path) -> dict[str, str]:
    """A user's shell: nothing of this virtual environment but its uv, which spares a second download of TensorFlow."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("CLOUDSDK_API_", "GOOGLE_", "ODCLOUD_", "PULUMI_"))}
    env.pop("VIRTUAL_ENV", None)
    tools = clone.parent / "tools"
    tools.mkdir(exist_ok=True)
    uv = ROOT / ".venv/bin/uv"
    if uv.exists() and not (tools / "uv").exists():
        (tools / "uv").symlink_to(uv)
    path = [p for p in env["PATH"].split(os.pathsep) if not p.startswith(str(ROOT / ".venv"))]
    return env | {"PATH": os.pathsep.join([str(tools), *path])}


def another_project(clone: Path) -> dict[str, str]:
    """What a shell may hold for another project, its cloud and its Pulumi account: none of it is for this one."""
    modules = clone.parent / "another"
    for name in ("trainer", "infra", "yaml"):
        (modules / name).mkdir(parents=True, exist_ok=True)
        (modules / name / "__init__.py").write_text("raise SystemExit('another project')\n")
    nowhere = "http://127.0.0.1:9/"
    return {
        "PYTHONPATH": str(modules),
        "VIRTUAL_ENV": str(modules),
        "CDPATH": str(clone.parent),  # which has a folder tools, too
        "CLOUDSDK_CORE_PROJECT": "another-project",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": nowhere,
        "GOOGLE_APPLICATION_CREDENTIALS": str(modules / "key.json"),
        "GOOGLE_IMPERSONATE_SERVICE_ACCOUNT": "deployer@another-project.iam.gserviceaccount.com",
        "ODCLOUD_HOME": str(modules / "home"),
        "ODCLOUD_WORKERS": "7",
        "PULUMI_ACCESS_TOKEN": "pul-0",
        "PULUMI_BACKEND_URL": nowhere,
        "PULUMI_CONFIG_PASSPHRASE": "another",
        "PULUMI_HOME": str(modules / "pulumi"),
        "PULUMI_PYTHON_CMD": str(modules / "python"),
        "PULUMI_STACK": "production",
    }


def shell(clone: Path, script: str, timeout: float = 3000, **variables: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=clone,
        env=environment(clone) | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"$ {script}\nexit code {done.returncode}\n{done.stdout[-6000:]}"
    return done.stdout


def interrupted_demo(clone: Path, said: str) -> str:
    """`make demo`, sent what Ctrl-C on a terminal sends as soon as it says that; what it printed from then on."""
    demo = subprocess.Popen(
        ["make", "demo"],
        cwd=clone,
        env=environment(clone) | another_project(clone),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert demo.stdout is not None
    seen = []
    for line in demo.stdout:
        seen.append(line)
        if said in line:
            break
    else:
        raise AssertionError(f"make demo never said {said!r}:\n{''.join(seen[-40:])}")
    os.killpg(demo.pid, signal.SIGINT)
    output = demo.communicate(timeout=900)[0]
    assert demo.returncode != 0
    return output


def processes_of(clone: Path) -> list[str]:
    """Command lines of all processes that run from the clone or its virtual environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            cwd = str((entry / "cwd").readlink())
        except OSError:
            continue
        if int(entry.name) != os.getpid() and (str(clone) in line or cwd.startswith(str(clone))):
            found.append(line)
    return found


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("fresh") / "odcloud"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    yield folder
    if (folder / ".venv/bin/odcloud").exists():
        subprocess.run([folder / ".venv/bin/odcloud", "local", "stop"], cwd=folder, env=environment(folder), check=False)
    shutil.rmtree(folder, ignore_errors=True)


def wait_until(condition: Callable[[], bool], seconds: float = 900) -> None:
    """The limit only ends a test that would hang."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if condition():
            return
        time.sleep(0.5)
    raise AssertionError("waited in vain")


def resumptions(clone: Path, job: str) -> list[int]:
    """The steps from which training has gone on, as the job's log tells."""
    log = shell(clone, f"{IN_CLOUD} odcloud jobs logs {job}")
    return [int(step) for step in re.findall(r"resuming from step (\d+)", log)]


def kill_replica(job: str, task: str) -> None:
    """SIGKILL to the Python process of a replica, as the kernel does when memory runs out."""
    marker = f":{job}:{task}:".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            is_trainer = b"trainer.train" in (entry / "cmdline").read_bytes() and (entry / "exe").resolve().name.startswith(
                "python"
            )
            if is_trainer and marker in (entry / "environ").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
                return
        except OSError:
            continue
    raise AssertionError(f"{task} of {job} does not run")


def readme_block(heading: str) -> str:
    """The README's shell block under a heading."""
    (block,) = (block for block in blocks("README.md") if block.is_shell and block.heading == heading)
    return block.code


def short_training(clone: Path, steps: int = BY_HAND_STEPS) -> None:
    config = clone / "examples/digits/pipeline.config"
    text, count = re.subn(r"num_steps: \d+", f"num_steps: {steps}", config.read_text())
    assert count == 1
    config.write_text(text)


def test_demo_trains_a_real_detector(clone: Path) -> None:
    # The worst moment of the set-up: Pulumi has made some things and not others.
    interrupted_demo(clone, "gcp:storage:Bucket bucket created")

    out = shell(clone, "make demo", **another_project(clone))
    assert "AP50" in out
    assert not any((clone.parent / "another" / name).exists() for name in ("home", "pulumi"))
    (report,) = (clone / "report").glob("*/report.html")
    assert report.stat().st_size > 100_000
    for picture in ("curves.png", "detections.png"):
        assert (report.parent / picture).read_bytes().startswith(b"\x89PNG")

    result = json.loads(shell(clone, IN_CLOUD + "odcloud report --format json 2>/dev/null"))
    assert result["metrics"]["AP50"] >= 0.7, result

    jobs = json.loads(shell(clone, IN_CLOUD + "odcloud jobs list --format json"))
    assert {job["kind"]: job["state"] for job in jobs} == {"train": "SUCCEEDED", "eval": "SUCCEEDED"}
    (training,) = (job for job in jobs if job["kind"] == "train")
    shown = json.loads(shell(clone, IN_CLOUD + f"odcloud jobs show {training['job']} --format json"))
    replicas = {replica["name"]: (replica["state"], replica["exitCode"]) for replica in shown["replicas"]}
    assert replicas == dict.fromkeys(("chief", "worker-0", "worker-1", "ps-0"), ("SUCCEEDED", 0))
    assert not [p for p in processes_of(clone) if "trainer.train" in p or "trainer.evaluate" in p]


def test_killed_replicas_come_back_and_training_goes_on(clone: Path) -> None:
    """Chief, worker and parameter server are killed and restarted; each time training goes on from the last checkpoint."""
    short_training(clone, steps=400)
    launch = "odcloud train --config examples/digits/job.yaml --run killed --detach --format json 2>/dev/null"
    shell(clone, f"make setup; .venv/bin/odcloud local start; {IN_CLOUD} odcloud data digits digits; pulumi up --yes")
    job = json.loads(shell(clone, f"{IN_CLOUD} {launch}"))["job"]
    # A checkpoint counts from when this file names it.
    wait_until(lambda: any((clone / ".odcloud/buckets").glob("*/train/killed/checkpoint")))
    kill_replica(job, "workerpool0-0")
    wait_until(lambda: len(resumptions(clone, job)) >= 1)
    kill_replica(job, "workerpool1-1")
    kill_replica(job, "workerpool2-0")
    wait_until(lambda: len(resumptions(clone, job)) >= 2)
    shell(clone, f"{IN_CLOUD} odcloud jobs wait {job}")
    shown = json.loads(shell(clone, f"{IN_CLOUD} odcloud jobs show {job} --format json"))
    restarts = {replica["name"]: replica["restarts"] for replica in shown["replicas"]}
    assert restarts == {"chief": 1, "worker-0": 0, "worker-1": 1, "ps-0": 1}
    assert {replica["exitCode"] for replica in shown["replicas"]} == {0}
    assert min(resumptions(clone, job)) > 0
    assert "step 400/400" in shell(clone, f"{IN_CLOUD} odcloud jobs logs {job}")


def test_demo_again_at_once_and_down(clone: Path) -> None:
    """The stack is there already; a demo interrupted in training goes on with the same run; `make down` leaves nothing."""
    short_training(clone)
    told = interrupted_demo(clone, "Job is running")
    assert "odcloud jobs cancel" in told and "make demo goes on where it was" in told
    run = (clone / ".odcloud/demo-run").read_text().strip()
    assert run in shell(clone, "make demo")

    out = shell(clone, "make down", **another_project(clone))
    assert "destroy" in out
    assert not (clone / ".odcloud").exists()
    wait_until(lambda: not processes_of(clone), 60)  # those that are ending just now
    assert shell(clone, "git status --porcelain examples Pulumi.local.yaml").split() == ["M", "examples/digits/pipeline.config"]
    shell(clone, "make down")


def test_readme_by_hand(clone: Path) -> None:
    short_training(clone)
    shell(clone, "make setup")
    shell(clone, readme_block("The same by hand"))


def test_readme_google_cloud(clone: Path) -> None:
    """The commands for a real project, against the local cloud: the same code path but for endpoints and credentials."""
    browser_only = "gcloud auth application-default login"
    short_training(clone)
    shell(clone, "make setup; .venv/bin/odcloud local start")
    lines = [line for line in readme_block("On Google Cloud").splitlines() if line.strip() != browser_only]
    script = "\n".join(lines).replace("MY_PROJECT", "odcloud-local")
    shell(clone, 'eval "$(.venv/bin/odcloud local env)"\n' + script)
    shell(clone, ".venv/bin/odcloud local reset --yes")
    wait_until(lambda: not processes_of(clone), 60)  # those that are ending just now


def test_smoke_script_takes_everything_with_it(clone: Path) -> None:
    """`make smoke-gcp`, against the local cloud: the same code path but for endpoints and credentials."""
    shell(clone, "make setup; .venv/bin/odcloud local start")
    on_cloud = 'eval "$(.venv/bin/odcloud local env)"\n'
    said = shell(clone, on_cloud + "make smoke-gcp PROJECT=odcloud-local")
    assert said.count("): SUCCEEDED after") == 2 and "AP50" in said
    stack = re.search(r"nothing of (smoke-\d+) is left in odcloud-local", said)
    assert stack and not list(clone.glob("Pulumi.smoke-*"))
    shell(clone, on_cloud + "odcloud doctor --orphans")

    code = subprocess.run(["make", "smoke-gcp"], cwd=clone, env=environment(clone), capture_output=True, text=True)
    assert code.returncode == 2 and "PROJECT" in code.stderr
    shell(clone, ".venv/bin/odcloud local reset --yes")
    wait_until(lambda: not processes_of(clone), 60)  # those that are ending just now
