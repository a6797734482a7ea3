"""Every method of every document is found by its own path, with the parameters that stand in it."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest

from localcloud.api import ApiError
from localcloud.discovery import DOCUMENTS, Method, Router

ROUTER = Router(DOCUMENTS, lambda _: True)


def own_path(method: Method) -> str:
    path = method.document["servicePath"] + method.description.get("flatPath", method.description["path"])
    return re.sub(r"\{([^}]+)\}", lambda match: quote(f"v-{match[1].lower()}.x@y z/ü", safe="@"), path)


def test_every_method_is_found() -> None:
    assert len(ROUTER.methods) > 1800
    for method in ROUTER.methods:
        path = own_path(method)
        found = ROUTER.find(method.http_method, path)
        assert found is not None, method.id
        if found.id != method.id or found.version != method.version:
            # another API has the same path: the one that is preferred must be had
            assert found.http_method == method.http_method
            same = re.sub(r"\{[^}]+\}", "{}", found.description.get("flatPath", found.description["path"]))
            assert same == re.sub(r"\{[^}]+\}", "{}", method.description.get("flatPath", method.description["path"]))
        parameters = method.path_parameters(path)
        wanted = {name for name, item in method.description.get("parameters", {}).items() if item["location"] == "path"}
        assert set(parameters) == wanted
        assert all("%" not in value for value in parameters.values())


def test_preferred_api_wins_a_shared_path() -> None:
    path = "v1/projects/p/locations/l/operations/1"
    for api in ("aiplatform", "artifactregistry", "ml"):
        found = Router(DOCUMENTS, lambda method, api=api: method.api == api).find("GET", path)  # type: ignore[misc]
        assert found is not None and found.api == api


@pytest.mark.parametrize(
    ("http_method", "path", "method_id"),
    [
        ("GET", "storage/v1/b/bucket/o/a%2Fb%3Ac", "storage.objects.get"),
        ("GET", "storage/v1/b/bucket/o/a:b", "storage.objects.get"),
        ("POST", "v1/projects/p:getIamPolicy", "cloudresourcemanager.projects.getIamPolicy"),
        ("POST", "v1/projects/p/locations/l/customJobs/1:cancel", "aiplatform.projects.locations.customJobs.cancel"),
        ("POST", "v1/projects/p/jobs/j:cancel", "ml.projects.jobs.cancel"),
        ("POST", "v2/entries:list", "logging.entries.list"),
        ("GET", "v3/projects/p", "cloudresourcemanager.projects.get"),
    ],
)
def test_paths_that_clients_send(http_method: str, path: str, method_id: str) -> None:
    found = ROUTER.find(http_method, path)
    assert found is not None and found.id == method_id


@pytest.mark.parametrize(
    "path", ["", "v1", "v1/nothing", "storage/v1/b//o/x", "v1/projects/p/jobs/j:explode", "storage/v1/b/x/y"]
)
def test_unknown_paths(path: str) -> None:
    assert ROUTER.find("GET", path) is None


def test_object_name_is_decoded_once() -> None:
    found = ROUTER.find("GET", "storage/v1/b/bucket/o/a%252Fb")
    assert found is not None
    assert found.path_parameters("storage/v1/b/bucket/o/a%252Fb") == {"bucket": "bucket", "object": "a%2Fb"}


def test_query_parameters_are_typed() -> None:
    listing = ROUTER.find("GET", "storage/v1/b/bucket/o")
    assert listing is not None
    asked = [("maxResults", "5"), ("versions", "true"), ("alt", "json"), ("upload_id", "x")]
    assert listing.query_parameters(asked) == {"maxResults": 5, "versions": True, "alt": "json", "upload_id": "x"}
    policy = ROUTER.find("GET", "v1/projects/p/locations/l/repositories/r:getIamPolicy")
    assert policy is not None
    assert policy.query_parameters([("options.requestedPolicyVersion", "3")]) == {"options.requestedPolicyVersion": 3}
    with pytest.raises(ApiError, match="Unknown name"):
        policy.query_parameters([("colour", "red")])
    tested = ROUTER.find("GET", "storage/v1/b/bucket/iam/testPermissions")
    assert tested is not None
    assert tested.query_parameters([("permissions", "a"), ("permissions", "b")]) == {"permissions": ["a", "b"]}
    with pytest.raises(ApiError, match="Required parameter: permissions"):
        tested.query_parameters([])
