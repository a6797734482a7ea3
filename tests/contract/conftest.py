"""A local cloud for the contract tests: the real server in a process of its own, every exchange checked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from discovery_check import check_request, check_response, document, methods

ROOT = Path(__file__).parents[2]


class LocalCloud:
    """A running local cloud. `call` speaks to it as the documents say, and fails when either side does not keep to them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        environment = {**os.environ, "ODCLOUD_HOME": str(home), "PYTHONPATH": str(ROOT)}
        self.run = lambda *words: subprocess.run(
            [sys.executable, "-m", "localcloud", *words], env=environment, cwd=home.parent, capture_output=True, text=True
        )
        started = self.run("start", "--format", "json")
        assert started.returncode == 0, started.stderr
        self.url: str = json.loads(started.stdout)["url"]
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {(home / 'token').read_text()}"

    def stop(self) -> None:
        self.session.close()
        stopped = self.run("stop")
        assert stopped.returncode == 0, stopped.stderr

    def request(self, http_method: str, path: str, **options: Any) -> requests.Response:
        """A raw request; `path` begins with a slash."""
        return self.session.request(http_method, self.url + path, timeout=60, **options)

    def answer(self, method_id: str, body: Any = None, *, version: str = "v1", **params: Any) -> requests.Response:
        """Calls a method by its discovery id; the request is checked, the answer is not."""
        api = method_id.partition(".")[0]
        method = methods(api, version)[method_id]
        places = {name: parameter["location"] for name, parameter in method.get("parameters", {}).items()}
        in_path = {name: value for name, value in params.items() if places.get(name) == "path"}
        query = {name: value for name, value in params.items() if name not in in_path}
        check_request(api, version, method_id, in_path, query, body)

        def expand(match: re.Match[str]) -> str:
            return quote(in_path[match[2]], safe="/:@" if match[1] else "@")

        path = document(api, version)["servicePath"] + re.sub(r"\{(\+?)([^}]+)\}", expand, method["path"])
        text = {name: str(value).lower() if isinstance(value, bool) else value for name, value in query.items()}
        return self.request(method["httpMethod"], f"/{path}", params=text, json=body)

    def call(self, method_id: str, body: Any = None, *, version: str = "v1", **params: Any) -> Any:
        """As `answer`, and the answer must be a success and what the document says. Returns its JSON, or None."""
        answer = self.answer(method_id, body, version=version, **params)
        assert answer.ok, f"{method_id}: {answer.status_code} {answer.text}"
        parsed = answer.json() if answer.content else None
        check_response(method_id.partition(".")[0], version, method_id, parsed)
        return parsed

    def refusal(self, code: int, method_id: str, body: Any = None, *, version: str = "v1", **params: Any) -> str:
        """As `answer`, and it must be an error with this code in Google's shape. Returns its message."""
        answer = self.answer(method_id, body, version=version, **params)
        return error_message(answer, code)

    def upload(self, bucket: str, name: str, content: bytes, **params: Any) -> dict[str, Any]:
        """A simple upload; returns the object, checked."""
        answer = self.request(
            "POST", f"/upload/storage/v1/b/{bucket}/o", params={"uploadType": "media", "name": name, **params}, data=content
        )
        assert answer.ok, answer.text
        check_response("storage", "v1", "storage.objects.insert", answer.json())
        found: dict[str, Any] = answer.json()
        return found

    def download(self, bucket: str, name: str, **headers: str) -> requests.Response:
        return self.request("GET", f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media", headers=headers)


def error_message(answer: requests.Response, code: int) -> str:
    """The message of an error answer, whose form is checked."""
    assert answer.status_code == code, f"{answer.status_code} {answer.text}"
    error = answer.json()["error"]
    assert error["code"] == code
    assert "status" in error or error["errors"][0]["reason"]
    return str(error["message"])


@pytest.fixture(scope="module")
def local_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """One for each file: what the tests of another one leave behind is not in it."""
    cloud = LocalCloud(tmp_path_factory.mktemp("local-cloud") / "home")
    try:
        yield cloud
    finally:
        cloud.stop()


@pytest.fixture
def bucket(local_cloud: LocalCloud, request: pytest.FixtureRequest) -> str:
    """A bucket of the test's own."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:60].strip("-")
    local_cloud.call("storage.buckets.insert", {"name": name}, project="odcloud-local")
    return name
