"""launcher/image/verbs.py and launcher/image/cloudbuild.py: what an image is called, and what Cloud Build is asked."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from discovery_check import check_request, check_response
from hypothesis import given
from hypothesis import strategies as st
from test_launcher_google import Service, service  # noqa: F401  (a fixture)

from infra.outputs import StackOutputs
from launcher.errors import UserError
from launcher.google.api import Google
from launcher.image import cloudbuild, verbs
from launcher.image.verbs import File
from launcher.stack.session import Session

IMAGE = "us-central1-docker.pkg.dev/p/odcloud/trainer:0123456789abcdef"
DIGEST = f"sha256:{'a' * 64}"
CONTEXT = {"Dockerfile": File(b"FROM scratch\n"), "trainer/train.py": File(b"pass\n"), "run.sh": File(b"", True)}

files = st.builds(File, st.binary(max_size=8), st.booleans())
contexts = st.dictionaries(st.text("abc/", min_size=1, max_size=4), files, max_size=4)
arguments = st.dictionaries(st.text("AB", min_size=1, max_size=2), st.text(max_size=4), max_size=2)


@given(contexts, arguments, contexts, arguments)
def test_tags_are_equal_exactly_when_all_that_goes_in_is(
    one: dict[str, File], its: dict[str, str], other: dict[str, File], others: dict[str, str]
) -> None:
    same = one == other and its == others
    assert (verbs.fingerprint(one, its) == verbs.fingerprint(other, others)) == same
    assert verbs.fingerprint(dict(reversed(one.items())), its) == verbs.fingerprint(one, its)


def test_an_archive_holds_the_context_and_nothing_of_the_day() -> None:
    content = verbs.archive(CONTEXT)
    assert content == verbs.archive(dict(reversed(CONTEXT.items())))
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = {info.name: (info.mode, info.mtime, info.uid) for info in tar}
    assert members == {"Dockerfile": (0o644, 0, 0), "trainer/train.py": (0o644, 0, 0), "run.sh": (0o755, 0, 0)}


def test_the_context_is_what_the_dockerfile_and_dockerignore_say(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no Dockerfile in .*; run odcloud inside a checkout"):
        verbs.read_context(tmp_path)
    for name in ("Dockerfile", "README.md", "trainer/a.py", "trainer/__pycache__/a.pyc", "trainer/b/__pycache__/c.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".dockerignore").write_text((Path(__file__).parents[2] / ".dockerignore").read_text())
    assert set(verbs.read_context(tmp_path)) == {"Dockerfile", "trainer/a.py"}


def test_certificates_are_checked_and_change_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    pem = tmp_path / "ca.pem"
    with pytest.raises(UserError, match=r"ca\.pem: cannot read the certificates"):
        verbs.plan("r", None, pem)
    pem.write_text("no certificate")
    with pytest.raises(UserError, match="holds no certificate in PEM form"):
        verbs.plan("r", None, pem)
    pem.write_text("-----BEGIN CERTIFICATE-----\n")
    plans = [verbs.plan("r", base, ca) for base in (None, "gpu") for ca in (None, pem)]
    assert len({plan.image for plan in plans}) == 4
    assert plans[3].arguments == {"BASE_IMAGE": "gpu", "EXTRA_CA": "-----BEGIN CERTIFICATE-----\n"}


def test_a_push_ends_with_its_digest_or_says_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    events: list[dict[str, Any]] = [{"id": "l1", "status": "Pushed"}, {"aux": {"Tag": "t", "Digest": DIGEST, "Size": 1}}]
    assert verbs._follow_push(IMAGE, events) == DIGEST
    assert "l1: pushed" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"denied; check that the repository exists .*\(roles/artifactregistry\.writer"):
        verbs._follow_push(IMAGE, [{"error": "denied"}])
    with pytest.raises(UserError, match="no digest"):
        verbs._follow_push(IMAGE, [])


def test_a_digest_takes_the_place_of_the_tag() -> None:
    assert verbs.pinned("127.0.0.1:5000/r/trainer:tag", DIGEST) == f"127.0.0.1:5000/r/trainer@{DIGEST}"


def test_only_google_sees_the_users_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", "secret")
    login = {"username": "oauth2accesstoken", "password": "secret"}
    assert verbs._login(IMAGE) == login
    for other in ("127.0.0.1:5000/x:1", "pkg.dev.example.com/x:1", "evilgcr.io/x:1", "trainer:1"):
        assert verbs._login(other) is None


def test_the_request_to_cloud_build() -> None:
    body = cloudbuild.request(IMAGE, {"BASE_IMAGE": "base", "EXTRA_CA": "a$b"}, "b", "staging/image/x.tar.gz")
    check_request("cloudbuild", "v1", "cloudbuild.projects.builds.create", {"projectId": "p"}, {}, body)
    assert body["images"] == [IMAGE]
    assert body["source"] == {"storageSource": {"bucket": "b", "object": "staging/image/x.tar.gz"}}
    (step,) = body["steps"]
    assert step["args"] == [
        "build",
        f"--tag={IMAGE}",
        "--label=org.opencontainers.image.version=0123456789abcdef",
        "--build-arg=BASE_IMAGE=base",
        "--build-arg=EXTRA_CA=a$$b",
        ".",
    ]


@pytest.fixture
def session(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:  # noqa: F811
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDBUILD", service.url)
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE", service.url)
    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", "token")
    monkeypatch.setattr(cloudbuild, "POLL", 0.0)
    outputs = StackOutputs.model_construct(project="p", region="us-central1", bucket="b")
    yield Session(outputs, Google("us-central1"))


def build(status: str, **more: Any) -> dict[str, Any]:
    found = {"id": "42", "status": status, "logUrl": "https://log", **more}
    check_response("cloudbuild", "v1", "cloudbuild.projects.builds.get", found)
    return found


def answers(service: Service, *builds: dict[str, Any]) -> None:  # noqa: F811
    operation = {"name": "operations/build/p/x", "metadata": {"build": builds[0]}}
    check_response("cloudbuild", "v1", "cloudbuild.projects.builds.create", operation)
    service.answers += [(200, body, {}) for body in (operation, *builds[1:])]


def test_a_build_is_followed_to_its_digest(
    service: Service,  # noqa: F811
    session: Session,
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = build("SUCCESS", results={"images": [{"name": IMAGE, "digest": DIGEST}]})
    answers(service, build("QUEUED"), build("WORKING"), build("WORKING"), done)
    body = cloudbuild.request(IMAGE, {}, "b", "o")
    assert cloudbuild.run(session, body) == DIGEST
    assert [(verb, path.split("?")[0]) for verb, path, _ in service.requests] == [
        ("POST", "/v1/projects/p/builds"),
        *[("GET", "/v1/projects/p/builds/42")] * 3,
    ]
    assert json.loads(service.requests[0][2]) == body
    shown = capsys.readouterr().err
    assert shown.count("WORKING") == 1 and "https://log" in shown


def test_a_build_s_log_is_shown_as_it_grows(
    service: Service,  # noqa: F811
    session: Session,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept: dict[str, Any] = {"logsBucket": "gs://100.cloudbuild-logs.googleusercontent.com"}
    begun = build("WORKING", **kept)
    done = build("SUCCESS", results={"images": [{"name": IMAGE, "digest": DIGEST}]}, **kept)
    service.answers = [(200, {"metadata": {"build": begun}}, {}), (404, {}, {})]
    for found, log in ((begun, b"Step 1\nStep"), (begun, b"Step 1\nStep 2\n"), (done, b"Step 1\nStep 2\nDONE\n")):
        service.answers += [(200, found, {}), (200, log, {})]
    assert cloudbuild.run(session, cloudbuild.request(IMAGE, {}, "b", "o")) == DIGEST
    shown = capsys.readouterr().err
    assert [shown.count(line) for line in ("Step 1\n", "Step 2\n", "DONE\n")] == [1, 1, 1]
    assert service.requests[1][1] == "/storage/v1/b/100.cloudbuild-logs.googleusercontent.com/o/log-42.txt?alt=media"


def test_what_artifact_registry_has_is_found_without_an_engine_and_not_built_again(
    service: Service,  # noqa: F811
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_ARTIFACTREGISTRY", service.url)
    monkeypatch.chdir(Path(__file__).parents[2])
    repository = "us-central1-docker.pkg.dev/p/odcloud"
    parent = "projects/p/locations/us-central1/repositories/odcloud/packages/trainer"
    tag = {"name": f"{parent}/tags/x", "version": f"{parent}/versions/{DIGEST}"}
    check_response("artifactregistry", "v1", "artifactregistry.projects.locations.repositories.packages.tags.get", tag)
    service.answers = [(200, tag, {}), (200, tag, {}), (404, {}, {})]
    assert verbs.show_digest(repository, None, None, None, "text") == 0
    assert capsys.readouterr().out == f"{repository}/trainer@{DIGEST}\n"
    outputs = session.outputs.model_copy(update={"staging_dir": "gs://b/staging", "image_repository": repository})
    monkeypatch.setattr(verbs, "_connect", lambda _: Session(outputs, session.google))
    assert verbs.build(None, None, "cloud-build", None, None, None, False, "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["built"], told["imageUri"]) == (False, f"{repository}/trainer@{DIGEST}")
    with pytest.raises(UserError, match=r"Artifact Registry does not have .*; `odcloud image push`"):
        verbs.show_digest(None, None, None, None, "text")
    assert [path.rpartition("/")[0] for _, path, _ in service.requests] == [f"/v1/{parent}/tags"] * 3


def test_a_failed_build_says_why_and_where(service: Service, session: Session) -> None:  # noqa: F811
    answers(service, build("QUEUED"), build("FAILURE", failureInfo={"type": "USER_BUILD_STEP", "detail": "step 0 failed"}))
    with pytest.raises(UserError, match="Cloud Build 42 ended as FAILURE: step 0 failed; see https://log"):
        cloudbuild.run(session, cloudbuild.request(IMAGE, {}, "b", "o"))


def test_a_context_that_is_there_is_not_uploaded_twice(service: Service, session: Session) -> None:  # noqa: F811
    exists = {"error": {"code": 412, "message": "conditionNotMet", "errors": [{"reason": "conditionNotMet"}]}}
    service.answers += [(200, {"name": "o"}, {}), (412, exists, {})]
    for _ in range(2):
        session.put("o", b"x", "application/gzip")
    assert all("ifGenerationMatch=0" in path for _, path, _ in service.requests)
