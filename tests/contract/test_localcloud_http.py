"""What holds for every call: who may call, what is refused and in which words."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING

import pytest
import requests
from conftest import error_message
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build

if TYPE_CHECKING:
    from conftest import LocalCloud

PROJECT = "/v1/projects/odcloud-local"


def test_only_health_is_open(local_cloud: LocalCloud) -> None:
    assert requests.get(f"{local_cloud.url}/healthz", timeout=60).json() == {"status": "ok"}
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic abc"},
        {"Authorization": "Bearer ü".encode()},
    ):
        for path in ("/storage/v1/b?project=odcloud-local", f"{PROJECT}/serviceAccounts", "/nothing"):
            answer = requests.get(local_cloud.url + path, headers=headers, timeout=60)
            assert answer.status_code == 401 and "odcloud local env" in answer.json()["error"]["message"]
    assert (local_cloud.home / "token").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Host": "127.0.0.1:1"}, {"Origin": "http://evil.example"}, {"Origin": "null"}]
)
def test_web_pages_are_kept_out(local_cloud: LocalCloud, headers: dict[str, str]) -> None:
    assert local_cloud.request("GET", f"{PROJECT}/serviceAccounts", headers=headers).status_code == 403
    if "Host" in headers:
        assert requests.get(f"{local_cloud.url}/healthz", headers=headers, timeout=60).status_code == 403


def test_own_origin_and_localhost_are_let_in(local_cloud: LocalCloud) -> None:
    port = local_cloud.url.rpartition(":")[2]
    for headers in ({"Origin": local_cloud.url}, {"Host": f"localhost:{port}"}):
        assert local_cloud.request("GET", f"{PROJECT}/serviceAccounts", headers=headers).ok


def test_a_long_question_comes_as_a_form(local_cloud: LocalCloud) -> None:
    credentials = Credentials(str(local_cloud.session.headers["Authorization"]).removeprefix("Bearer "))
    options = {"api_endpoint": local_cloud.url}
    with build("aiplatform", "v1", credentials=credentials, client_options=options, static_discovery=True) as service:
        jobs = service.projects().locations().customJobs()
        wanted = " OR ".join(f'displayName="{number:050}"' for number in range(100))
        asked = jobs.list(parent="projects/odcloud-local/locations/us-central1", filter=wanted)
        assert asked.execute() == {}
        assert asked.method == "POST"  # as which it was sent


def test_what_is_not_offered_is_named(local_cloud: LocalCloud) -> None:
    message = local_cloud.refusal(
        501, "aiplatform.projects.locations.endpoints.list", parent="projects/odcloud-local/locations/us-central1"
    )
    assert message.startswith("aiplatform.projects.locations.endpoints.list is not offered")
    message = local_cloud.refusal(501, "storage.projects.hmacKeys.list", projectId="odcloud-local")
    assert message.startswith("storage.projects.hmacKeys.list is not offered")
    assert local_cloud.request("GET", "/v1/nothing/of/this").status_code == 404
    for verb, path, named in (
        ("GET", "compute/v1/projects/p/zones", "GET /compute/v1/projects/p/zones"),
        ("POST", "v1beta1/projects/p/locations/l/customJobs", "POST /v1beta1/projects/p/locations/l/customJobs"),
        ("GET", "v1/projects/p/builds", "cloudbuild.projects.builds.list"),
        ("POST", "v1/projects/p/locations/global/builds", "cloudbuild.projects.locations.builds.create"),
    ):
        assert error_message(local_cloud.request(verb, f"/{path}"), 501) == f"{named} is not offered by the local cloud."


def test_unknown_and_wrong_fields_are_refused_in_googles_words(local_cloud: LocalCloud) -> None:
    path = f"{PROJECT}/serviceAccounts"
    for body, message, field in (
        ({"accountId": "abcdef", "x": 1}, 'Invalid JSON payload received. Unknown name "x": Cannot find field.', ""),
        (
            {"serviceAccount": {"colour": "red"}},
            "Invalid JSON payload received. Unknown name \"colour\" at 'serviceAccount': Cannot find field.",
            "serviceAccount",
        ),
        ({"accountId": 5}, "Invalid value at 'accountId' (TYPE_STRING), 5", "accountId"),
    ):
        error = local_cloud.request("POST", path, json=body).json()["error"]
        assert (error["code"], error["status"], error["message"]) == (400, "INVALID_ARGUMENT", message)
        assert error["details"][0]["fieldViolations"][0]["field"] == field
    answer = local_cloud.request("POST", path, data=b"{not json", headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and "Invalid JSON payload" in answer.json()["error"]["message"]
    # half of a surrogate pair could not be told again, and would break every list that it is in
    for text in (b'{"serviceAccount": {"displayName": "\\ud800"}}', b'{"x": ' * 100_000, b'{"accountId": NaN}', b"\xff"):
        answer = local_cloud.request("POST", path, data=text, headers={"Content-Type": "application/json"})
        assert "Invalid JSON payload" in error_message(answer, 400)
    answer = local_cloud.request("POST", path, json=[1])
    assert "Root element must be a message" in answer.json()["error"]["message"]
    answer = local_cloud.request("GET", path, params={"colour": "red"})
    assert answer.status_code == 400 and 'Unknown name "colour"' in answer.json()["error"]["message"]
    answer = local_cloud.request("GET", path, params={"pageSize": "many"})
    assert answer.json()["error"]["message"] == "Invalid value at 'pageSize' (TYPE_INT32), \"many\""
    # output-only fields are disregarded, names of protocol buffers are taken
    answer = local_cloud.request(
        "POST", path, json={"account_id": "written", "service_account": {"email": "mine", "display_name": "D"}}
    )
    assert (answer.json()["email"].partition("@")[0], answer.json()["displayName"]) == ("written", "D")


def test_a_refused_request_leaves_the_connection_usable(local_cloud: LocalCloud) -> None:
    host = local_cloud.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=60)
    headers = {"Authorization": local_cloud.session.headers["Authorization"]}
    path = "/upload/storage/v1/b/absent/o?uploadType=media&name=x"
    for _ in range(2):
        connection.request("POST", path, body=b"z" * 5_000_000, headers=headers)
        answer = connection.getresponse()
        assert json.loads(answer.read())["error"]["code"] == 404
    connection.close()
