"""The checker itself: what it must not let pass."""

from __future__ import annotations

from typing import Any

import pytest
from discovery_check import check_request, check_response

PARENT = {"parent": "projects/p/locations/l"}
CREATE = ("aiplatform", "v1", "aiplatform.projects.locations.customJobs.create")


def job(**pool: Any) -> dict[str, Any]:
    return {"displayName": "x", "jobSpec": {"workerPoolSpecs": [{"replicaCount": "1", **pool}]}}


def test_lets_good_messages_pass() -> None:
    check_request(*CREATE, PARENT, {}, job(pythonPackageSpec={"args": ["a"]}))
    check_request(
        "storage", "v1", "storage.objects.list", {"bucket": "b"}, {"prefix": "p", "maxResults": 3, "versions": "true"}
    )
    check_response(*CREATE, {**job(), "state": "JOB_STATE_RUNNING", "createTime": "2017-07-14T02:40:00.5Z"})
    check_response("storage", "v1", "storage.buckets.delete", None)


@pytest.mark.parametrize(
    "body",
    [
        job(colour="red"),
        job(replicaCount=1),
        job(replicaCount="one"),
        job(machineSpec={"acceleratorType": "NVIDIA_ABACUS"}),
        job(pythonPackageSpec={"args": "a"}),
        {"jobSpec": {"scheduling": {"timeout": "1 hour"}}},
        {"createTime": "yesterday"},
        {"labels": {"a": 1}},
        None,
        [],
    ],
)
def test_stops_bad_messages(body: Any) -> None:
    with pytest.raises(AssertionError):
        check_response(*CREATE, body)


@pytest.mark.parametrize(
    ("path_params", "query"),
    [
        ({}, {"project": "p"}),
        ({"bucket": "b"}, {"colour": "red"}),
        ({"bucket": "b"}, {"maxResults": "many"}),
        ({"bucket": "b"}, {"versions": "perhaps"}),
        ({"bucket": "b"}, {"projection": "some"}),
        ({"bucket": "b"}, {"prefix": ["a", "b"]}),
    ],
)
def test_stops_bad_parameters(path_params: dict[str, Any], query: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        check_request("storage", "v1", "storage.objects.list", path_params, query)


def test_stops_a_missing_query_parameter_and_a_body_where_none_belongs() -> None:
    with pytest.raises(AssertionError, match="lacks"):
        check_request("storage", "v1", "storage.buckets.list", {}, {})
    with pytest.raises(AssertionError, match="takes no body"):
        check_request("storage", "v1", "storage.buckets.get", {"bucket": "b"}, {}, {})
    with pytest.raises(AssertionError, match="does not match"):
        check_request(*CREATE, {"parent": "p"}, {}, job())
