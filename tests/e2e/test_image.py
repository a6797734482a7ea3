"""The project's Dockerfile built for real, its image run as a job of the local cloud that trains on the digits, and pushed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from containers import BASE_IMAGE, container_pool, engine, labelled
from free_port import free_port
from test_localcloud_jobs import PARENT, LocalCloud, until

from trainer.data.__main__ import main as data_command

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ["--base-image", BASE_IMAGE, "--format", "json"]
WAIT_SECONDS = 900  # a machine may be busy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def client() -> Any:
    return engine()


def odcloud(*arguments: str, cwd: Path = ROOT, repository: str = "localhost/odcloud") -> dict[str, Any]:
    command = [sys.executable, "-m", "launcher.cli", "image", *arguments, "--repository", repository, *OPTIONS]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def checkout(folder: Path) -> Path:
    """What of the checkout matters to the image, to be changed."""
    shutil.copytree(ROOT / "trainer", folder / "trainer")
    for name in ("Dockerfile", ".dockerignore", "Pulumi.yaml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def image(client: Any) -> Iterator[str]:
    answer = odcloud("build", "--network", "host")
    yield answer["image"]
    client.images.remove(answer["image"], force=True)


def test_the_image_is_what_vertex_ai_runs(client: Any, image: str) -> None:
    config = client.images.get(image).attrs["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["python", "-m", "trainer.train"]
    assert not config["Cmd"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == image.rpartition(":")[2]
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    arguments = ["--train_dir=/tmp/train", "--pipeline_config_path=/no/pipeline.config"]
    done = client.containers.create(image, arguments, network_mode="host")
    try:
        done.start()
        assert done.wait()["StatusCode"] == 2
        assert b"/no/pipeline.config" in done.logs()
    finally:
        done.remove(force=True)
    who = "import getpass, os, trainer; print(os.getuid(), getpass.getuser(), trainer.__path__[0])"
    output = client.containers.run(image, ["-c", who], entrypoint=["python"], network_mode="host", remove=True)
    assert output.decode().split() == ["10001", "trainer", "/opt/trainer/trainer"]


def test_new_code_changes_the_last_layer_only_and_equal_code_nothing(client: Any, image: str, tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    (folder / "README.md").write_text("no matter of the image")
    same = odcloud("build", "--network", "host", cwd=folder)
    assert (same["image"], same["built"]) == (image, False)
    with (folder / "trainer/train.py").open("a") as file:
        file.write("# changed\n")
    changed = odcloud("build", "--network", "host", cwd=folder)
    assert changed["built"] and changed["tag"] != same["tag"]
    try:
        old, new = (client.images.get(name).attrs["RootFS"]["Layers"] for name in (image, changed["image"]))
        assert len(old) == len(new)
        assert [first == second for first, second in zip(old, new, strict=True)] == [True] * (len(old) - 1) + [False]
    finally:
        client.images.remove(changed["image"], force=True)


def pools(image: str, bucket: Path, run: str, steps: int) -> list[dict[str, Any]]:
    text = (ROOT / "examples/digits/pipeline.config").read_text().replace("PATH_TO_BE_CONFIGURED", f"gs://{bucket.name}/data")
    for old, new in (("128", "64"), ("batch_size: 8", "batch_size: 2"), ("num_steps: 1200", f"num_steps: {steps}")):
        assert old in text
        text = text.replace(old, new)
    (bucket / f"{run}.config").write_text(text)
    arguments = [f"--train_dir=gs://{bucket.name}/{run}", f"--pipeline_config_path=gs://{bucket.name}/{run}.config"]
    return [container_pool(image, arguments)]


@pytest.fixture(scope="module")
def cloud(client: Any, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    cloud = LocalCloud(tmp_path_factory.mktemp("cloud") / "home")
    bucket = cloud.home / "buckets" / "digits"
    assert data_command(["digits", str(bucket / "data"), "--train-images=16", "--test-images=8", "--shards=2"]) == 0
    cloud.start()
    yield cloud
    cloud.stop()
    assert not labelled(client, cloud.home)


def launch(cloud: LocalCloud, image: str, run: str, steps: int) -> str:
    spec = {"workerPoolSpecs": pools(image, cloud.home / "buckets" / "digits", run, steps)}
    name: str = cloud.jobs.create(parent=PARENT, body={"displayName": run, "jobSpec": spec}).execute()["name"]
    return name


def steps_told(cloud: LocalCloud, name: str) -> list[int]:
    found = cloud.log(name, 'AND resource.labels.task_name="workerpool0-0" AND jsonPayload.loss:*')
    return [int(entry["jsonPayload"]["step"]) for entry in found]


def saved(cloud: LocalCloud, run: str) -> list[int]:
    found = (cloud.home / "buckets" / "digits" / run).glob("ckpt-*.index")
    return sorted(int(path.stem.removeprefix("ckpt-")) for path in found)


def test_it_trains_as_a_container_of_a_job(cloud: LocalCloud, image: str) -> None:
    name = launch(cloud, image, "short", steps=4)
    until(lambda: cloud.get(name)["state"] in ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED"), WAIT_SECONDS)
    job = cloud.get(name)
    assert job["state"] == "JOB_STATE_SUCCEEDED", job
    assert steps_told(cloud, name)[-1] == 4
    assert saved(cloud, "short")[-1] == 4


def test_asked_to_stop_it_saves_a_checkpoint(cloud: LocalCloud, image: str) -> None:
    name = launch(cloud, image, "long", steps=100_000)
    told = until(lambda: steps_told(cloud, name), WAIT_SECONDS)
    cloud.jobs.cancel(name=name).execute()
    assert cloud.wait(name)["state"] == "JOB_STATE_CANCELLED"
    assert cloud.replica(name, "workerpool0-0")["exitCode"] == 128 + signal.SIGTERM
    assert saved(cloud, "long")[-1] >= told[0]
    messages = [entry["jsonPayload"]["message"] for entry in cloud.log(name, "AND jsonPayload.message:*")]
    assert any("stopped on request" in message for message in messages)


@pytest.fixture(scope="module")
def registry(client: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry of images on this machine: its address."""
    folder = tmp_path_factory.mktemp("registry")
    program = shutil.which("docker-registry")
    if not program:
        why = "docker-registry is not installed (tools/ci/docker_engine.sh does that)"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    address = f"127.0.0.1:{free_port()}"
    config = {"version": 0.1, "storage": {"filesystem": {"rootdirectory": str(folder / "data")}}, "http": {"addr": address}}
    (folder / "config.yml").write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        until(lambda: socket.socket().connect_ex((address.split(":")[0], int(address.split(":")[1]))) == 0)
        yield address
    finally:
        process.terminate()
        process.wait()


def test_a_pushed_image_is_pinned_by_its_digest(client: Any, registry: str, tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    (folder / "Dockerfile").write_text("ARG BASE_IMAGE\nFROM scratch\nCOPY trainer /trainer\n")  # the real one takes minutes
    repository = f"{registry}/project/odcloud"
    built = odcloud("build", cwd=folder, repository=repository)
    try:
        pushed = odcloud("push", cwd=folder, repository=repository)
        assert pushed["imageUri"] == f"{repository}/trainer@{pushed['digest']}"
        assert odcloud("digest", cwd=folder, repository=repository)["digest"] == pushed["digest"]
        assert odcloud("push", cwd=folder, repository=repository)["digest"] == pushed["digest"]
        client.images.remove(built["image"], force=True)
        assert client.images.pull(pushed["imageUri"]).id
        client.images.remove(pushed["imageUri"], force=True)
    finally:
        for left in client.images.list(name=f"{repository}/trainer"):
            client.images.remove(left.id, force=True)
