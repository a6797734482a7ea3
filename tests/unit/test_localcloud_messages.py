"""Reading JSON by a document's schema."""

from __future__ import annotations

from typing import Any

import pytest

from localcloud.discovery import load_document
from localcloud.messages import MessageError, read_message

VERTEX = load_document("aiplatform.v1")["schemas"]
STORAGE = load_document("storage.v1")["schemas"]


def read(body: dict[str, Any]) -> dict[str, Any]:
    return read_message(VERTEX, "GoogleCloudAiplatformV1CustomJob", body)


def test_canonical_form() -> None:
    given = {
        "display_name": "x",
        "state": "JOB_STATE_FAILED",  # output only
        "error": None,
        "labels": {"snake_case_key": "kept"},
        "jobSpec": {"worker_pool_specs": [{"replicaCount": 3, "machine_spec": {"acceleratorCount": "2"}}, {}]},
    }
    assert read(given) == {
        "displayName": "x",
        "labels": {"snake_case_key": "kept"},
        "jobSpec": {"workerPoolSpecs": [{"replicaCount": "3", "machineSpec": {"acceleratorCount": 2}}, {}]},
    }


def test_storage_keeps_null() -> None:
    given = {"labels": {"a": None}, "lifecycle": None}
    assert read_message(STORAGE, "Bucket", given, proto=False) == given


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"x": 1}, 'Invalid JSON payload received. Unknown name "x": Cannot find field.'),
        (
            {"jobSpec": {"workerPoolSpecs": [{}, {"replicas": 1}]}},
            "Invalid JSON payload received. Unknown name \"replicas\" at 'jobSpec.workerPoolSpecs[1]': Cannot find field.",
        ),
        ({"displayName": 1}, "Invalid value at 'displayName' (TYPE_STRING), 1"),
        ({"jobSpec": []}, "Invalid value at 'jobSpec' (GoogleCloudAiplatformV1CustomJobSpec), []"),
        ({"jobSpec": {"enableWebAccess": "yes"}}, "Invalid value at 'jobSpec.enableWebAccess' (TYPE_BOOL), \"yes\""),
        (
            {"jobSpec": {"workerPoolSpecs": [{"replicaCount": "many"}]}},
            "Invalid value at 'jobSpec.workerPoolSpecs[0].replicaCount' (TYPE_INT64), \"many\"",
        ),
        (
            {"jobSpec": {"workerPoolSpecs": [{"machineSpec": {"acceleratorType": "ABACUS"}}]}},
            "Invalid value at 'jobSpec.workerPoolSpecs[0].machineSpec.acceleratorType' (TYPE_ENUM), \"ABACUS\"",
        ),
        (
            {"jobSpec": {"scheduling": {"timeout": "1h"}}},
            "Invalid value at 'jobSpec.scheduling.timeout' (type.googleapis.com/google.protobuf.Duration), \"1h\"",
        ),
        ({"labels": {"a": {}}}, "Invalid value at 'labels.a' (TYPE_STRING), {}"),
    ],
)
def test_what_is_refused(body: dict[str, Any], message: str) -> None:
    with pytest.raises(MessageError) as caught:
        read(body)
    assert str(caught.value) == message


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 1.5, True, "1.5"])
def test_integers_have_limits(number: Any) -> None:
    with pytest.raises(MessageError, match="TYPE_INT32"):
        read({"jobSpec": {"workerPoolSpecs": [{"machineSpec": {"acceleratorCount": number}}]}})


@pytest.mark.parametrize(
    ("given", "fine"), [("AAAA", True), ("AA==", True), ("AA", True), ("-_-_", True), ("A", False), ("ä", False)]
)
def test_bytes(given: str, fine: bool) -> None:
    body = {"etag": given, "bindings": []}
    if fine:
        assert read_message(STORAGE, "Policy", body, proto=False) == body
    else:
        with pytest.raises(MessageError, match="TYPE_BYTES"):
            read_message(STORAGE, "Policy", body, proto=False)
