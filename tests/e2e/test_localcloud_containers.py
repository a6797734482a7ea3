"""Jobs of containers on a real local cloud with a real Docker engine: they behave as jobs of processes do."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psutil
import pytest
import requests
from containers import BASE_IMAGE, container_pool, engine, gone, labelled
from test_localcloud_jobs import PARENT, LocalCloud, until

WAIT = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: exit(143)); print('ready', flush=True); time.sleep(600)"


@pytest.fixture(scope="module")
def client() -> Any:
    return engine()


@pytest.fixture(scope="module")
def cloud(client: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    if not client.images.list(name=BASE_IMAGE):
        client.images.pull(BASE_IMAGE)
    cloud = LocalCloud(tmp_path_factory.mktemp("cloud") / "home")
    (cloud.home / "buckets" / "things").mkdir(parents=True)
    cloud.start()
    yield cloud
    cloud.stop()
    assert not labelled(client, cloud.home)


def create(cloud: LocalCloud, *pools: dict[str, Any]) -> str:
    body = {"displayName": "containers", "jobSpec": {"workerPoolSpecs": list(pools)}}
    name: str = cloud.jobs.create(parent=PARENT, body=body).execute()["name"]
    return name


def python(code: str, *args: str, **more: Any) -> dict[str, Any]:
    return container_pool(BASE_IMAGE, ["-c", code, *args], command=["python3"], **more)


def test_a_cluster_of_containers_meets_on_loopback_and_sees_the_buckets(cloud: LocalCloud, client: Any) -> None:
    chief = (
        "import json, os, pathlib, socket, sys, time\n"
        "host, port = json.loads(os.environ['CLUSTER_SPEC'])['cluster']['workerpool1'][0].split(':')\n"
        "for _ in range(3000):\n"
        "    try: conversation = socket.create_connection((host, int(port))); break\n"
        "    except OSError: time.sleep(0.1)\n"
        "print(conversation.makefile().readline().strip(), *sys.argv[1:], os.environ['WHO'], os.environ.get('GCS_ROOT'))\n"
        "print('to stderr', file=sys.stderr)\n"
        "pathlib.Path('/gcs/things/found.txt').write_text(pathlib.Path('/gcs/things/given.txt').read_text() + ' and found')\n"
    )
    worker = (
        "import json, os, signal, socket, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: exit(143))\n"  # which the first process of a container ignores by default
        "port = int(json.loads(os.environ['CLUSTER_SPEC'])['cluster']['workerpool1'][0].split(':')[1])\n"
        "server = socket.create_server(('127.0.0.1', port)); peer, _ = server.accept(); peer.sendall(b'hello\\n')\n"
        "time.sleep(600)\n"
    )
    (cloud.home / "buckets/things/given.txt").write_text("given")
    name = create(cloud, python(chief, "--flag=1", env=[{"name": "WHO", "value": "job $(CLOUD_ML_JOB_ID)"}]), python(worker))
    job = cloud.wait(name)
    assert job["state"] == "JOB_STATE_SUCCEEDED", job
    lines = cloud.log(name, 'AND resource.labels.task_name="workerpool0-0" AND jsonPayload.levelname:*')
    said = {(entry["severity"], entry["jsonPayload"]["message"]) for entry in lines}
    number = name.rpartition("/")[2]
    assert said == {("INFO", f"hello --flag=1 job {number} None"), ("ERROR", "to stderr")}
    found = cloud.home / "buckets/things/found.txt"
    assert found.read_text() == "given and found"
    assert found.stat().st_uid == os.getuid()
    assert cloud.replica(name, "workerpool1-0")["state"] in ("STOPPED", "FAILED")
    assert not labelled(client, cloud.home)


def test_a_container_that_raises_fails_the_job_with_its_last_lines(cloud: LocalCloud) -> None:
    name = create(cloud, python("raise ValueError('no such thing')"))
    job = cloud.wait(name)
    assert job["state"] == "JOB_STATE_FAILED"
    assert "no such thing" in job["error"]["message"]
    assert cloud.replica(name, "workerpool0-0")["exitCode"] == 1


def test_what_cannot_be_started_or_pulled_says_so(cloud: LocalCloud) -> None:
    missing = cloud.wait(create(cloud, container_pool("127.0.0.1:1/no/image:1", [])))
    assert missing["state"] == "JOB_STATE_FAILED"
    assert "The image 127.0.0.1:1/no/image:1 is not on the Docker engine and cannot be pulled" in missing["error"]["message"]
    wrong = cloud.wait(create(cloud, container_pool(BASE_IMAGE, [], command=["/no/such/program"])))
    assert wrong["state"] == "JOB_STATE_FAILED"
    assert "/no/such/program" in wrong["error"]["message"]


@pytest.mark.parametrize("victim", ["the container", "its holder"])
def test_a_killed_container_is_restarted_and_the_old_one_goes(cloud: LocalCloud, client: Any, victim: str) -> None:
    name = create(cloud, python(WAIT))
    until(lambda: "ready" in cloud.texts(name, "workerpool0-0"))
    (container,) = labelled(client, cloud.home)
    if victim == "the container":
        container.kill()
    else:
        for process in cloud.processes(name):
            with suppress(psutil.NoSuchProcess):  # it went with another one
                process.kill()
    until(lambda: cloud.replica(name, "workerpool0-0")["restarts"] == 1)
    assert gone(client, container.id)
    until(lambda: cloud.texts(name, "workerpool0-0").count("ready") == 2)
    assert cloud.get(name)["state"] == "JOB_STATE_RUNNING"
    cloud.jobs.cancel(name=name).execute()
    assert cloud.wait(name)["state"] == "JOB_STATE_CANCELLED"
    assert cloud.replica(name, "workerpool0-0")["exitCode"] == 128 + signal.SIGTERM
    assert not labelled(client, cloud.home)


def test_a_container_that_will_not_listen_is_killed(cloud: LocalCloud, client: Any) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    name = create(cloud, python(deaf))
    until(lambda: "deaf" in cloud.texts(name, "workerpool0-0"))
    cloud.jobs.cancel(name=name).execute()
    assert cloud.wait(name)["state"] == "JOB_STATE_CANCELLED"
    assert not labelled(client, cloud.home)


def test_a_killed_server_finds_its_containers_again(cloud: LocalCloud, client: Any) -> None:
    count = (
        "import pathlib, time; p = pathlib.Path('/gcs/things/go'); i = 0\n"
        "while not p.exists(): print(i, flush=True); i += 1; time.sleep(0.05)\n"
        "print('end')"
    )
    running, orphaned = create(cloud, python(count)), create(cloud, python(WAIT))
    until(lambda: cloud.texts(running, "workerpool0-0") and cloud.texts(orphaned, "workerpool0-0"))
    holders = cloud.processes(orphaned)
    before = {container.id for container in labelled(client, cloud.home)}
    assert len(before) == 2
    cloud.kill()
    for holder in holders:
        with suppress(psutil.NoSuchProcess):
            holder.kill()
    psutil.wait_procs(holders, timeout=60)
    cloud.start()
    until(lambda: cloud.replica(orphaned, "workerpool0-0")["restarts"] == 1)
    assert cloud.get(running)["state"] == "JOB_STATE_RUNNING"
    # The one that was left goes, another one comes.
    until(lambda: len(now := {each.id for each in labelled(client, cloud.home)}) == 2 and len(before & now) == 1)
    (cloud.home / "buckets/things/go").touch()
    assert cloud.wait(running)["state"] == "JOB_STATE_SUCCEEDED"
    lines = cloud.texts(running, "workerpool0-0")
    assert lines == [*map(str, range(len(lines) - 1)), "end"]
    cloud.jobs.cancel(name=orphaned).execute()
    cloud.wait(orphaned)


def test_a_stopped_server_leaves_no_container(cloud: LocalCloud, client: Any) -> None:
    name = create(cloud, python(WAIT), python(WAIT, count=2))
    until(lambda: len(labelled(client, cloud.home)) == 3)
    cloud.stop()
    assert not labelled(client, cloud.home)
    cloud.start()
    assert cloud.get(name)["state"] == "JOB_STATE_CANCELLED"


def test_a_container_has_the_buckets_and_the_credentials_of_its_account(cloud: LocalCloud, client: Any) -> None:
    email = "trainer@odcloud-local.iam.gserviceaccount.com"
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {(cloud.home / 'token').read_text()}"
    url = f"http://127.0.0.1:{cloud.port}"
    member = [f"serviceAccount:{email}"]
    calls: list[tuple[str, str, Any]] = [
        ("POST", "v1/projects/odcloud-local/serviceAccounts", {"accountId": "trainer"}),
        *(("POST", "storage/v1/b?project=odcloud-local", {"name": name}) for name in ("its-own", "its-source", "foreign")),
        ("PUT", "storage/v1/b/its-own/iam", {"bindings": [{"role": "roles/storage.objectUser", "members": member}]}),
        ("PUT", "storage/v1/b/its-source/iam", {"bindings": [{"role": "roles/storage.objectViewer", "members": member}]}),
    ]
    logs = {"policy": {"bindings": [{"role": "roles/logging.logWriter", "members": member}]}}
    for verb, path, body in [*calls, ("POST", "v1/projects/odcloud-local:setIamPolicy", logs)]:
        answer = session.request(verb, f"{url}/{path}", json=body, timeout=60)
        assert answer.ok, answer.text
    code = (
        "import json, os, pathlib, urllib.request\n"
        "def ask(url, **headers): return urllib.request.urlopen(urllib.request.Request(url, headers=headers)).read().decode()\n"
        "account = f\"http://{os.environ['GCE_METADATA_HOST']}/computeMetadata/v1/instance/service-accounts/default/\"\n"
        "token = json.loads(ask(account + 'token', **{'Metadata-Flavor': 'Google'}))['access_token']\n"
        "ask(os.environ['API_ENDPOINT_OVERRIDE'] + '/storage/v1/b/its-own/o', Authorization='Bearer ' + token)\n"
        "pathlib.Path('/gcs/its-own/written').write_text('x')\n"
        "print(sorted(os.listdir('/gcs')), ask(account + 'email', **{'Metadata-Flavor': 'Google'}))\n"
        "pathlib.Path('/gcs/its-source/written').write_text('x')\n"
    )
    body = {"displayName": "account", "jobSpec": {"workerPoolSpecs": [python(code)], "serviceAccount": email}}
    name = cloud.jobs.create(parent=PARENT, body=body).execute()["name"]
    job = cloud.wait(name)
    assert job["state"] == "JOB_STATE_FAILED" and "Read-only file system: '/gcs/its-source/written'" in job["error"]["message"]
    assert f"['its-own', 'its-source'] {email}" in cloud.texts(name, "workerpool0-0")
    assert (cloud.home / "buckets/its-own/written").read_text() == "x"

    private = container_pool("us-central1-docker.pkg.dev/odcloud-local/stack/trainer:1", [])
    body = {"displayName": "image", "jobSpec": {"workerPoolSpecs": [private], "serviceAccount": email}}
    job = cloud.wait(cloud.jobs.create(parent=PARENT, body=body).execute()["name"])
    assert job["error"]["code"] == 7
    message = job["error"]["message"]
    assert "Permission 'artifactregistry.repositories.downloadArtifacts' denied" in message
    where = "projects/odcloud-local/locations/us-central1/repositories/stack"
    assert message.endswith(f"bind roles/artifactregistry.reader on {where} to serviceAccount:{email}.")


def test_a_container_over_its_memory_is_reported_so(cloud: LocalCloud, client: Any) -> None:
    if not client.info().get("MemoryLimit"):
        pytest.skip("this engine cannot limit a container's memory")
    pool = python("held = b'x' * (3 * 2**30)")
    pool["machineSpec"]["machineType"] = "n1-highcpu-2"  # 1.8 GiB
    job = cloud.wait(create(cloud, pool))
    assert job["state"] == "JOB_STATE_FAILED"
    assert "The replica workerpool0-0 ran out-of-memory and exited with a non-zero status of 137" in job["error"]["message"]


def test_a_container_over_its_disk_is_stopped_and_reported_so(cloud: LocalCloud, client: Any) -> None:
    """What it writes to its own files counts, what it writes to a bucket does not."""
    fill = (
        "import os, time\n"
        "def write(path): os.posix_fallocate(os.open(path, os.O_CREAT | os.O_WRONLY), 0, 3 * 2**29)\n"
        "write('/gcs/things/large'); print('written to the bucket', flush=True)\n"
        "while not os.path.exists('/gcs/things/fill'): time.sleep(0.05)\n"
        "print('writing', flush=True); write('/tmp/large'); time.sleep(600)\n"
    )
    pool = {**python(fill), "diskSpec": {"bootDiskSizeGb": 1}}
    name = create(cloud, pool)
    until(lambda: "written to the bucket" in cloud.texts(name, "workerpool0-0"))
    time.sleep(4)  # its disk is looked at meanwhile
    assert cloud.get(name)["state"] == "JOB_STATE_RUNNING"
    (cloud.home / "buckets/things/fill").touch()
    job = cloud.wait(name)
    (cloud.home / "buckets/things/large").unlink()
    assert job["state"] == "JOB_STATE_FAILED"
    message = job["error"]["message"]
    assert "The replica workerpool0-0 ran out-of-disk and exited with a non-zero status of 137" in message
    assert "Its files take 1.5 GiB, and its boot disk holds 1.0 GiB (bootDiskSizeGb)." in message
    assert "writing" in cloud.texts(name, "workerpool0-0")
    assert not labelled(client, cloud.home)
