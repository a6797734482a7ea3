"""Jobs with a service account of their own: real google-auth in a replica, and no more than the bindings give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from googleapiclient.errors import HttpError
from test_localcloud_jobs import PARENT, LocalCloud, number, pool_of, sdist, until

from infra.grants import TRAINER, Grant

EMAIL = "trainer@odcloud-local.iam.gserviceaccount.com"
MEMBER = f"serviceAccount:{EMAIL}"
REACH = "roles/storage.objectUser"
LOG = "roles/logging.logWriter"

ASK = """
import google.auth, google.auth.transport.requests, json, os, pathlib
credentials, project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
session = google.auth.transport.requests.AuthorizedSession(credentials)
url = os.environ["API_ENDPOINT_OVERRIDE"]
upload = url + "/upload/storage/v1/b/{}/o?uploadType=media&name=answer"
entry = {"logName": "projects/odcloud-local/logs/mine", "resource": {"type": "global"}, "textPayload": "by the replica"}
BATCH = "--b\\r\\nContent-Type: application/http\\r\\n\\r\\nDELETE /storage/v1/b/other/o/secret HTTP/1.1\\r\\n\\r\\n--b--\\r\\n"
answers = {
    "read": session.get(url + "/storage/v1/b/jobs-bucket/o"),
    "write": session.post(upload.format("jobs-bucket"), data=b"x"),
    "log": session.post(url + "/v2/entries:write", json={"entries": [entry]}),
    "read another": session.get(url + "/storage/v1/b/other/o/secret"),
    "write another": session.post(upload.format("other"), data=b"x"),
    "read another by its path": session.get(url + "/other/secret"),
    "copy": session.post(url + "/storage/v1/b/other/o/secret/copyTo/b/jobs-bucket/o/stolen"),
    "bucket": session.get(url + "/storage/v1/b/jobs-bucket"),
    "account": session.post(url + "/v1/projects/odcloud-local/serviceAccounts", json={"accountId": "intruder"}),
    "chaos": session.post(url + "/_chaos", json={"target": "storage", "kind": "503"}),
    "job": session.get(url + "/v1/projects/odcloud-local/locations/us-central1/customJobs"),
}
asked = {"permissions": ["storage.buckets.get", "storage.objects.create", "storage.buckets.setIamPolicy"]}
print(json.dumps({"found": {
    "held": session.get(url + "/storage/v1/b/jobs-bucket/iam/testPermissions", params=asked).json()["permissions"],
    "project": project,
    "email": credentials.service_account_email,
    "token": credentials.token,
    "buckets": sorted(path.name for path in pathlib.Path(os.environ["GCS_ROOT"]).iterdir()),
    "codes": {what: answer.status_code for what, answer in answers.items()},
    "told": {what: answer.json()["error"]["message"] for what, answer in answers.items() if not answer.ok},
    "batch": session.post(url + "/batch/storage/v1", data=BATCH, headers={"Content-Type": "multipart/mixed; boundary=b"}).text,
}}))
import time; time.sleep(600)
"""


class Account:
    """The account of the jobs, and what it may do."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {(cloud.home / 'token').read_text()}"
        self.url = f"http://127.0.0.1:{cloud.port}"

    def send(self, verb: str, path: str, body: Any) -> None:
        answer = self.session.request(verb, f"{self.url}/{path}", json=body, timeout=60)
        assert answer.ok, answer.text

    def bind(self, *, bucket: str | None = REACH, project: str | None = LOG) -> None:
        on_bucket = [{"role": bucket, "members": [MEMBER]}] if bucket else []
        on_project = [{"role": project, "members": [MEMBER]}] if project else []
        self.send("PUT", "storage/v1/b/jobs-bucket/iam", {"bindings": on_bucket})
        self.send("POST", "v1/projects/odcloud-local:setIamPolicy", {"policy": {"bindings": on_project}})

    def create(self, code: str) -> str:
        return self.cloud.create([code], serviceAccount=EMAIL)


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    cloud = LocalCloud(tmp_path_factory.mktemp("cloud") / "home")
    cloud.start()
    account = Account(cloud)
    account.send("POST", "v1/projects/odcloud-local/serviceAccounts", {"accountId": "trainer"})
    for name in ("jobs-bucket", "other"):
        account.send("POST", "storage/v1/b?project=odcloud-local", {"name": name})
    parent, _, repository = REPOSITORY.rpartition("/repositories/")
    account.send("POST", f"v1/{parent}/repositories?repositoryId={repository}", {"format": "DOCKER"})
    sdist(cloud.home / "buckets/jobs-bucket/packages/probe-0.1.tar.gz", "import sys\nexec(sys.argv[1])\n")
    (cloud.home / "buckets/other/secret").write_text("secret")
    yield account
    cloud.stop()


def found(account: Account, name: str) -> dict[str, Any]:
    """What a replica printed."""
    entry = until(lambda: account.cloud.log(name, "AND jsonPayload.found:*"))[0]
    answer: dict[str, Any] = entry["jsonPayload"]["found"]
    return answer


def test_google_auth_in_a_replica_acts_as_the_account_of_the_job(account: Account) -> None:
    account.bind()
    name = account.create(ASK)
    answer = found(account, name)
    assert (answer["project"], answer["email"]) == ("odcloud-local", EMAIL)
    assert answer["buckets"] == ["jobs-bucket"]
    allowed = {"read": 200, "write": 200, "log": 200}
    assert answer["codes"] == {**dict.fromkeys(answer["codes"], 403), **allowed}
    told = answer["told"]
    assert told["read another"] == (
        f"{EMAIL} does not have storage.objects.get access to gs://other. Permission 'storage.objects.get' denied on resource"
        " (or it may not exist): bind roles/storage.objectViewer or roles/storage.objectUser or roles/storage.objectAdmin"
        f" on gs://other to {MEMBER}."
    )
    assert "storage.objects.create" in told["write another"] and "gs://other" in told["write another"]
    assert "iam.serviceAccounts.create" in told["account"]
    assert (account.cloud.home / "buckets/jobs-bucket/answer").read_bytes() == b"x"
    assert not (account.cloud.home / "buckets/other/answer").exists()
    assert "storage.objects.delete" in answer["batch"] and "403 Forbidden" in answer["batch"]
    assert answer["held"] == ["storage.objects.create"]

    bearer = {"Authorization": f"Bearer {answer['token']}"}
    objects = f"{account.url}/storage/v1/b/jobs-bucket/o"
    assert requests.get(objects, headers=bearer, timeout=60).status_code == 200
    for wrong in (answer["token"][:-1] + "0", answer["token"].replace(".", ".9", 1), "..", f"{number(name)}.."):
        if wrong != answer["token"]:
            assert requests.get(objects, headers={"Authorization": f"Bearer {wrong}"}, timeout=60).status_code == 401
    account.cloud.jobs.cancel(name=name).execute()
    account.cloud.wait(name)
    assert requests.get(objects, headers=bearer, timeout=60).status_code == 401


def test_the_metadata_server_is_for_the_replicas_of_a_running_job(account: Account) -> None:
    account.bind()
    name = account.create("import os, time; print(os.environ['GCE_METADATA_HOST'], flush=True); time.sleep(600)")
    host = until(lambda: account.cloud.texts(name, "workerpool0-0"))[0]
    flavor = {"Metadata-Flavor": "Google"}
    token = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"

    def code(url: str, **headers: str) -> int:
        return requests.get(url, headers=headers, timeout=60).status_code

    base = token.removesuffix("token")
    assert requests.get(f"{base}email", headers=flavor, timeout=60).text == EMAIL
    assert "cloud-platform" in requests.get(f"{base}scopes", headers=flavor, timeout=60).text
    assert requests.get(token, headers=flavor, timeout=60).json()["token_type"] == "Bearer"
    assert code(token) == code(token, **flavor, **{"X-Forwarded-For": "10.0.0.1"}) == 403
    assert code(token, **flavor, Host="evil.example") == 403
    assert code(f"{base}identity", **flavor) == 404
    key = host.rpartition("/")[2]
    for wrong in (key[:-1] + ("0" if key[-1] != "0" else "1"), key.replace(".", "x.", 1), "", number(name)):
        assert code(token.replace(key, wrong), **flavor) == 403
    account.cloud.jobs.cancel(name=name).execute()
    account.cloud.wait(name)
    assert code(token, **flavor) == 403


REPOSITORY = "projects/odcloud-local/locations/us-central1/repositories/images"
PATHS = {"bucket": "gs://jobs-bucket", "project": "projects/odcloud-local", "repository": REPOSITORY}
PERMISSIONS = {
    "roles/storage.objectUser": "storage.objects.get",
    "roles/logging.logWriter": "logging.logEntries.create",
    "roles/artifactregistry.reader": "artifactregistry.repositories.downloadArtifacts",
}


@pytest.mark.parametrize("taken", [None, *TRAINER], ids=lambda grant: grant.name if grant else "none")
def test_each_binding_of_the_stack_is_needed_and_missed_by_name(account: Account, taken: Grant | None) -> None:
    """A job of packages, and one of an image in the stack's repository: for that no image has to be there."""
    left = [grant for grant in TRAINER if grant is not taken]

    def bindings(scope: str) -> list[dict[str, Any]]:
        return [{"role": grant.role, "members": [MEMBER]} for grant in left if grant.scope == scope]

    account.bind(bucket=None, project=None)
    account.send("PUT", "storage/v1/b/jobs-bucket/iam", {"bindings": bindings("bucket")})
    account.send("POST", "v1/projects/odcloud-local:setIamPolicy", {"policy": {"bindings": bindings("project")}})
    account.send("POST", f"v1/{REPOSITORY}:setIamPolicy", {"policy": {"bindings": bindings("repository")}})

    pool = pool_of(["print('ran')"])
    image = {"imageUri": "us-central1-docker.pkg.dev/odcloud-local/images/none:1"}
    container = {"replicaCount": "1", "machineSpec": pool["machineSpec"], "containerSpec": image}
    ended = {}
    for kind, each in (("packages", pool), ("image", container)):
        body = {"displayName": kind, "jobSpec": {"workerPoolSpecs": [each], "serviceAccount": EMAIL}}
        ended[kind] = account.cloud.wait(account.cloud.jobs.create(parent=PARENT, body=body).execute()["name"])
    refused = {kind: job["error"]["message"] for kind, job in ended.items() if job.get("error", {}).get("code") == 7}
    if taken is None:
        assert not refused
        assert ended["packages"]["state"] == "JOB_STATE_SUCCEEDED"
        return
    assert refused
    for message in refused.values():
        assert f"Permission '{PERMISSIONS[taken.role]}' denied" in message
        assert taken.role in message and message.endswith(f"on {PATHS[taken.scope]} to {MEMBER}.")


def test_a_bucket_that_may_only_be_read_is_mounted_read_only(account: Account) -> None:
    account.bind(bucket="roles/storage.objectViewer")
    code = (
        "import os, pathlib, sys\n"
        "bucket = pathlib.Path(os.environ['GCS_ROOT']) / 'jobs-bucket'\n"
        "print(sorted(path.name for path in bucket.iterdir()), flush=True)\n"
        "(bucket / 'written').write_text('x')  # gs://jobs-bucket"
    )
    name = account.create(code)
    job = account.cloud.wait(name)
    assert "'packages'" in account.cloud.texts(name, "workerpool0-0")[0]
    assert job["state"] == "JOB_STATE_FAILED"
    message = job["error"]["message"]
    assert "Read-only file system" in message
    assert "Permission 'storage.objects.create' denied" in message and "roles/storage.objectUser" in message
    assert not (account.cloud.home / "buckets/jobs-bucket/written").exists()
    (warning,) = account.cloud.log(name, "AND severity=WARNING")
    assert "storage.objects.create" in warning["textPayload"]


def test_an_account_that_does_not_exist(account: Account) -> None:
    with pytest.raises(HttpError, match="permission to act as service_account: none@") as caught:
        account.cloud.create(["pass"], serviceAccount="none@odcloud-local.iam.gserviceaccount.com")
    assert caught.value.resp.status == 403


def test_a_job_without_an_account_sees_every_bucket(account: Account) -> None:
    name = account.cloud.create([ASK])
    answer = found(account, name)
    assert answer["email"] == "service-100000000001@gcp-sa-aiplatform-cc.iam.gserviceaccount.com"
    assert answer["buckets"] == ["jobs-bucket", "other"]
    assert {what for what, code in answer["codes"].items() if code != 200} == {"account", "chaos"}
    assert answer["held"] == ["storage.buckets.get", "storage.objects.create"]
    account.cloud.jobs.cancel(name=name).execute()
    account.cloud.wait(name)


def test_a_user_s_own_credentials_are_not_found_in_a_replica(account: Account) -> None:
    code = (
        "import google.auth, google.auth._cloud_sdk as sdk, json\n"
        "print(json.dumps({'found': {'path': sdk.get_application_default_credentials_path(),"
        " 'kind': type(google.auth.default()[0]).__module__}}))"
    )
    name = account.cloud.create([code])
    answer = found(account, name)
    assert answer["path"].startswith(str(account.cloud.home / "jobs")) and not Path(answer["path"]).exists()
    assert answer["kind"] == "google.auth.compute_engine.credentials"


def test_a_clock_that_is_set_ends_tokens_but_neither_a_client_nor_the_job(account: Account) -> None:
    account.bind()
    code = (
        "import google.auth, google.auth.transport.requests, os, time\n"
        "credentials, _ = google.auth.default()\n"
        "session = google.auth.transport.requests.AuthorizedSession(credentials)\n"
        "objects = os.environ['API_ENDPOINT_OVERRIDE'] + '/storage/v1/b/jobs-bucket/o'\n"
        "while True:\n"
        "    print(session.get(objects).status_code, hash(credentials.token), flush=True); time.sleep(0.2)"
    )
    name = account.cloud.create([code], serviceAccount=EMAIL, scheduling={"timeout": "3600s"})

    def lines() -> list[str]:
        return account.cloud.texts(name, "workerpool0-0")

    (token,) = set(until(lines))
    account.cloud.command("chaos", "skew", "--seconds", "7200")
    until(lambda: len(set(lines())) == 2)
    assert {line.split()[0] for line in lines()} == {"200"} and lines()[-1] != token
    assert account.cloud.get(name)["state"] == "JOB_STATE_RUNNING"
    account.cloud.command("chaos", "clear")
    account.cloud.jobs.cancel(name=name).execute()
    account.cloud.wait(name)


def test_google_s_libraries_in_a_replica_find_the_local_cloud_and_their_account(account: Account) -> None:
    account.bind()
    code = (
        "import gcsfs, json\n"
        "from google.cloud import storage\n"
        "bucket = storage.Client().bucket('jobs-bucket')\n"
        "bucket.blob('by/google').upload_from_string('google')\n"
        "files = gcsfs.GCSFileSystem()\n"
        "files.pipe('jobs-bucket/by/gcsfs', b'gcsfs')\n"
        "try: refused = storage.Client().bucket('other').blob('secret').download_as_bytes().decode()\n"
        "except Exception as error: refused = str(error)\n"
        "print(json.dumps({'found': {'listed': files.ls('jobs-bucket/by'),"
        " 'names': [blob.name for blob in bucket.list_blobs(prefix='by/')], 'refused': refused}}))"
    )
    name = account.create(code)
    answer = found(account, name)
    assert answer["names"] == ["by/gcsfs", "by/google"]
    assert answer["listed"] == ["jobs-bucket/by/gcsfs", "jobs-bucket/by/google"]
    assert "403" in answer["refused"] and "storage.objects.get" in answer["refused"]
    assert account.cloud.wait(name)["state"] == "JOB_STATE_SUCCEEDED"
