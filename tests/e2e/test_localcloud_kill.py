"""kill -9 of the local cloud while clients write to all its services: what was acknowledged is there afterwards."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from test_localcloud_jobs import LocalCloud, pool_of, sdist, until

ROUNDS = 3
PROJECT = "projects/odcloud-local"
COUNT = (
    "import os, time; i = 0\nwhile not os.path.exists({path!r}): print(i, flush=True); i += 1; time.sleep(0.02)\nprint('end')"
)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[LocalCloud]:
    cloud = LocalCloud(tmp_path / "home")
    cloud.start()
    yield cloud
    cloud.stop()


class Writer:
    """A client that writes until the server dies; `kept` is what it was told is done, by what was written."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.url = f"http://127.0.0.1:{cloud.port}"
        self.headers = {"Authorization": f"Bearer {(cloud.home / 'token').read_text()}"}
        kinds = ("object", "deleted", "generation", "entry", "account", "label", "job")
        self.kept: dict[str, dict[str, Any]] = {kind: {} for kind in kinds}

    def send(self, session: requests.Session, verb: str, path: str, **options: Any) -> Any:
        answer = session.request(verb, f"{self.url}/{path}", headers=self.headers, timeout=60, **options)
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def object(self, session: requests.Session, name: str) -> None:
        content = random.randbytes(random.choice((10, 300_000)))
        made = self.send(session, "POST", f"upload/storage/v1/b/kept/o?uploadType=media&name={name}", data=content)
        self.kept["object"][name] = (content, made["generation"])
        if random.random() < 0.2:
            gone = self.kept["object"].pop(name)  # unacknowledged, it may be there or not
            self.send(session, "DELETE", f"storage/v1/b/kept/o/{name}")
            self.kept["deleted"][name] = gone

    def generation(self, session: requests.Session, name: str) -> None:
        """Overwrites one object again and again, and sometimes deletes it."""
        content = random.randbytes(1000)
        made = self.send(session, "POST", "upload/storage/v1/b/versions/o?uploadType=media&name=x", data=content)
        self.kept["generation"][made["generation"]] = content
        if random.random() < 0.2:
            self.send(session, "DELETE", "storage/v1/b/versions/o/x")

    def entry(self, session: requests.Session, name: str) -> None:
        entries = [{"logName": f"{PROJECT}/logs/kept", "resource": {"type": "global"}, "textPayload": name}]
        self.send(session, "POST", "v2/entries:write", json={"entries": entries})
        self.kept["entry"][name] = True

    def account(self, session: requests.Session, name: str) -> None:
        self.kept["account"][name] = self.send(session, "POST", f"v1/{PROJECT}/serviceAccounts", json={"accountId": name})

    def label(self, session: requests.Session, name: str) -> None:
        self.send(session, "PATCH", "storage/v1/b/kept", json={"labels": {name: "set"}})
        self.kept["label"][name] = "set"

    def job(self, session: requests.Session, name: str) -> None:
        body = {"displayName": name, "jobSpec": {"workerPoolSpecs": [pool_of(["pass"])]}}
        made = self.send(session, "POST", f"v1/{PROJECT}/locations/us-central1/customJobs", json=body)
        self.kept["job"][name] = made["name"]
        self.send(session, "POST", f"v1/{made['name']}:cancel")

    def until_the_server_dies(self, write: Callable[[requests.Session, str], None], prefix: str) -> None:
        with requests.Session() as session:
            for turn in range(100_000):
                try:
                    write(session, f"{prefix}-{turn}")
                except requests.RequestException:
                    return
                time.sleep(random.random() * 0.02)


def test_no_acknowledged_write_is_lost(cloud: LocalCloud) -> None:
    sdist(cloud.home / "buckets/jobs-bucket/packages/probe-0.1.tar.gz", "import sys\nexec(sys.argv[1])\n")
    writer = Writer(cloud)
    with requests.Session() as session:
        writer.send(session, "POST", "storage/v1/b?project=odcloud-local", json={"name": "kept"})
        versions = {"name": "versions", "versioning": {"enabled": True}}
        writer.send(session, "POST", "storage/v1/b?project=odcloud-local", json=versions)
    release = cloud.home / "release"
    running = cloud.create([COUNT.format(path=str(release))])
    until(lambda: cloud.texts(running, "workerpool0-0"))
    before = {process.pid for process in cloud.processes(running)}
    kinds = (writer.object, writer.object, writer.generation, writer.entry, writer.account, writer.label, writer.job)
    for turn in range(ROUNDS):
        threads = [
            threading.Thread(target=writer.until_the_server_dies, args=(write, f"w{turn}-{place}"))
            for place, write in enumerate(kinds)
        ]
        for thread in threads:
            thread.start()
        acknowledged = sum(map(len, writer.kept.values()))
        until(lambda before=acknowledged: sum(map(len, writer.kept.values())) > before + 20 and all(writer.kept.values()))
        time.sleep(random.random())
        cloud.kill()
        for thread in threads:
            thread.join()
        cloud.start()
        check(cloud, writer)
    assert all(writer.kept.values()), {kind: len(kept) for kind, kept in writer.kept.items()}
    assert {process.pid for process in cloud.processes(running)} == before
    release.touch()
    assert cloud.wait(running)["state"] == "JOB_STATE_SUCCEEDED"
    lines = cloud.texts(running, "workerpool0-0")
    assert lines == [*map(str, range(len(lines) - 1)), "end"]


def check(cloud: LocalCloud, writer: Writer) -> None:
    """Compare what is there with what was acknowledged; of what was not, each may be there or not, but whole."""
    kept = writer.kept
    with requests.Session() as session:

        def pages(path: str, field: str) -> Iterator[dict[str, Any]]:
            token = ""
            while True:
                answer = writer.send(session, "GET", f"{path}{'&' if '?' in path else '?'}pageToken={token}")
                yield from answer.get(field, [])
                if not (token := answer.get("nextPageToken", "")):
                    return

        objects = {item["name"]: item for item in pages("storage/v1/b/kept/o", "items")}
        assert not kept["object"].keys() - objects.keys()
        assert not kept["deleted"].keys() & objects.keys()
        for name, (content, generation) in kept["object"].items():
            assert objects[name]["generation"] == generation
            assert (cloud.home / "buckets/kept" / name).read_bytes() == content
        versions = {item["generation"] for item in pages("storage/v1/b/versions/o?versions=true", "items")}
        assert kept["generation"].keys() <= versions
        for generation, content in kept["generation"].items():
            path = f"{writer.url}/storage/v1/b/versions/o/x?alt=media&generation={generation}"
            assert session.get(path, headers=writer.headers, timeout=60).content == content
        accounts = {each["uniqueId"] for each in pages(f"v1/{PROJECT}/serviceAccounts", "accounts")}
        assert {made["uniqueId"] for made in kept["account"].values()} <= accounts
        assert kept["label"].items() <= writer.send(session, "GET", "storage/v1/b/kept").get("labels", {}).items()
        jobs = {each["name"] for each in pages(f"v1/{PROJECT}/locations/us-central1/customJobs", "customJobs")}
        assert set(kept["job"].values()) <= jobs
    wanted = {"resourceNames": [PROJECT], "filter": f'logName="{PROJECT}/logs/kept"', "pageSize": 1000}
    found: set[str] = set()
    while True:
        answer = cloud.entries.list(body=wanted).execute()
        found |= {entry["textPayload"] for entry in answer.get("entries", [])}
        if "nextPageToken" not in answer:
            break
        wanted["pageToken"] = answer["nextPageToken"]
    assert kept["entry"].keys() <= found
    assert not list((cloud.home / "uploads").glob("part-*"))
