"""The old page's own job, 1 master + 9 workers + 3 parameter servers, with the real trainer on digits, as its own account."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from test_localcloud_jobs import LocalCloud, until
from test_trainer_cluster import config

from infra.sources import build_package
from localcloud.jobs import limits
from trainer.data.__main__ import main as data_command

ROOT = Path(__file__).resolve().parents[2]
NAME = "object_detection_1511000000"
BUCKET = "old-page"
STEPS = 4
ACCOUNT = "trainer@odcloud-local.iam.gserviceaccount.com"
SECONDS = 900  # a machine may be busy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * SECONDS)]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[LocalCloud]:
    cloud = LocalCloud(tmp_path / "home")
    cloud.start()
    yield cloud
    cloud.stop()


def test_the_old_page_s_job_trains_to_its_end(cloud: LocalCloud, tmp_path: Path) -> None:
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {(cloud.home / 'token').read_text()}"

    def send(verb: str, path: str, body: Any = None) -> Any:
        answer = session.request(verb, f"http://127.0.0.1:{cloud.port}/{path}", json=body, timeout=60)
        assert answer.ok, answer.text
        return answer.json()

    members = [f"serviceAccount:{ACCOUNT}"]
    send("POST", "v1/projects/odcloud-local/serviceAccounts", {"accountId": "trainer"})
    send("POST", "storage/v1/b?project=odcloud-local", {"name": BUCKET})
    send("PUT", f"storage/v1/b/{BUCKET}/iam", {"bindings": [{"role": "roles/storage.objectUser", "members": members}]})
    policy = {"bindings": [{"role": "roles/logging.logWriter", "members": members}]}
    send("POST", "v1/projects/odcloud-local:setIamPolicy", {"policy": policy})
    bucket = cloud.home / "buckets" / BUCKET
    assert data_command(["digits", str(bucket / "data"), "--train-images=32", "--test-images=8", "--shards=2"]) == 0
    (bucket / "pipeline.config").write_text(config(Path("gs:/") / BUCKET / "data", STEPS).replace("gs:/", "gs://"))
    package = build_package(ROOT / "trainer", tmp_path / "build")
    (bucket / "trainer-0.1.0.tar.gz").write_bytes(Path(package.path).read_bytes())

    given = {
        "scaleTier": "CUSTOM",
        "masterType": "standard_gpu",
        "workerType": "standard_gpu",
        "workerCount": "9",
        "parameterServerType": "standard",
        "parameterServerCount": "3",
        "packageUris": [f"gs://{BUCKET}/trainer-0.1.0.tar.gz"],
        "pythonModule": "trainer.train",
        "args": [f"--train_dir=gs://{BUCKET}/train", f"--pipeline_config_path=gs://{BUCKET}/pipeline.config"],
        "region": "us-central1",
        "serviceAccount": ACCOUNT,
    }
    send("POST", "v1/projects/odcloud-local/jobs", {"jobId": NAME, "trainingInput": given})
    most = 0

    def ended() -> Any:
        nonlocal most
        with suppress(ProcessLookupError):
            sessions = {os.getsid(process.pid) for process in cloud.processes(NAME)}
            most = max(most, sum(limits.memory(sessions).values()))
        job = send("GET", f"v1/projects/odcloud-local/jobs/{NAME}")
        return job if job["state"] in ("SUCCEEDED", "FAILED", "CANCELLED") else None

    job = until(ended, SECONDS)
    print(json.dumps({"GiB": most / 2**30, "started": job["startTime"], "ended": job["endTime"]}))
    assert job["state"] == "SUCCEEDED", job
    assert (bucket / "train" / f"ckpt-{STEPS}.index").exists()
