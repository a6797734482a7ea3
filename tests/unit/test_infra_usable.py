"""infra/usable.py: what is an answer of a service that is off, and how long it is waited for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from infra import rest, usable
from infra.rest import RestError
from infra.services import SERVICES
from localcloud.env import GCLOUD_APIS

OFF = {"error": {"message": "Not on.", "details": [{"reason": "SERVICE_DISABLED"}]}}
OLD = {"error": {"message": "Not on.", "errors": [{"reason": "accessNotConfigured"}]}}
WORDS = {"error": {"message": "Cloud Storage API has not been used in project 1 before or it is disabled."}}
DENIED = {"error": {"message": "Permission denied.", "details": [{"reason": "IAM_PERMISSION_DENIED"}]}}
PROPS = {"project": "p", "region": "us-central1", "services": ["storage", "iam"]}


@pytest.mark.parametrize(
    ("status", "body", "off"),
    [
        (403, OFF, True),
        (403, OLD, True),
        (403, WORDS, True),
        (503, {}, True),
        (403, DENIED, False),
        (403, {"error": "denied"}, False),
        (404, {}, False),
        (200, {}, False),
    ],
)
def test_only_a_service_that_is_off_is_waited_for(status: int, body: Mapping[str, Any], off: bool) -> None:
    assert usable.is_off(status, body) is off


def test_every_service_of_a_stack_can_be_asked() -> None:
    assert {*SERVICES, "billingbudgets"} == usable.QUESTIONS.keys()
    assert {name.upper() for name in usable.QUESTIONS} <= {*GCLOUD_APIS}  # else the local cloud's stack would ask Google


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[str], dict[str, list[tuple[int, Any]]]]]:
    """The services that were asked, in order, and what each answers next; then it answers 200."""
    order: list[str] = []
    answers: dict[str, list[tuple[int, Any]]] = {}

    class Api:
        def __init__(self, service: str, default: str, path: str) -> None:
            self.service = service
            self.quota_project = rest.signature().get(rest.QUOTA_PROJECT)
            assert default == f"https://{service}.googleapis.com/"

        def call(self, verb: str, path: str) -> tuple[int, Any]:
            order.append(self.service)
            assert verb == "GET" and "{" not in path
            waiting = answers.get(self.service, [])
            return waiting.pop(0) if waiting else (200, {})

    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", "given")
    monkeypatch.delenv("GOOGLE_CLOUD_QUOTA_PROJECT", raising=False)
    monkeypatch.setattr(usable, "Api", Api)
    yield order, answers


def test_services_that_are_on_are_asked_once(asked: Any) -> None:
    order, _ = asked
    usable.wait(PROPS, pytest.fail, pytest.fail)
    assert order == ["storage", "iam"]


def test_one_that_was_off_must_answer_three_times_in_a_row(asked: Any) -> None:
    order, answers = asked
    answers["storage"] = [(403, OLD), (403, OLD), (200, {}), (403, OLD)]
    said: list[str] = []
    pauses: list[float] = []
    usable.wait(PROPS, said.append, pauses.append)
    assert order == ["storage"] * 7 + ["iam"]
    assert said == ["storage.googleapis.com is switched on, but not usable yet: waiting"]
    assert len(pauses) == 6


def test_a_person_without_a_quota_project_is_told_at_once(asked: Any) -> None:
    said = "The storage.googleapis.com API requires a quota project, which is not set by default."
    asked[1]["storage"] = [(403, {"error": {**OFF["error"], "message": said}})]
    with pytest.raises(RestError, match=f"^run `gcloud auth application-default set-quota-project p`.* It says: 403 {said}"):
        usable.wait(PROPS, pytest.fail, pytest.fail)


def test_whose_quota_it_is_where_that_is_another_projects(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "balloons")
    asked[1]["iam"] = [(403, OFF)]
    said: list[str] = []
    usable.wait(PROPS, said.append, lambda seconds: None)
    assert said == [
        "iam.googleapis.com is switched on, but not usable yet (calls count against the quota of balloons; if it is off there, "
        "`gcloud auth application-default set-quota-project p`): waiting"
    ]


def test_calls_count_against_the_credentials_quota_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", "given")
    monkeypatch.delenv("GOOGLE_CLOUD_QUOTA_PROJECT", raising=False)
    assert rest.signature() == {"Authorization": "Bearer given"}
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "kites")
    assert rest.signature() == {"Authorization": "Bearer given", "X-Goog-User-Project": "kites"}
    monkeypatch.delenv("GOOGLE_OAUTH_ACCESS_TOKEN")
    monkeypatch.delenv("GOOGLE_CLOUD_QUOTA_PROJECT")
    user = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r", "token": "user's"}
    (tmp_path / "adc.json").write_text(json.dumps({**user, "expiry": "2999-01-01T00:00:00Z", "quota_project_id": "balloons"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "adc.json"))
    assert rest.signature() == {"Authorization": "Bearer user's", "X-Goog-User-Project": "balloons"}


def test_not_for_ever(asked: Any) -> None:
    _, answers = asked
    answers["iam"] = [(403, OFF)] * 1000
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with pytest.raises(RestError, match=r"iam\.googleapis\.com is switched on, but still refused after 10 minutes.*Not on\."):
        usable.wait(PROPS, lambda line: None, sleep, lambda: now[0])
