"""Field masks: partial answers, and patches."""

from typing import Any

import pytest

from localcloud.api import ApiError
from localcloud.masks import merge, select

ANSWER = {
    "jobs": [{"name": "a", "spec": {"count": 1, "kind": "x"}, "labels": {"a.b": "1"}}, {"name": "b"}],
    "nextPageToken": "t",
}


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ("*", ANSWER),
        ("nextPageToken", {"nextPageToken": "t"}),
        ("jobs/name,nextPageToken", {"jobs": [{"name": "a"}, {"name": "b"}], "nextPageToken": "t"}),
        ("jobs(name, spec/count)", {"jobs": [{"name": "a", "spec": {"count": 1}}, {"name": "b"}]}),
        ("jobs/spec(kind),jobs/name", {"jobs": [{"name": "a", "spec": {"kind": "x"}}, {"name": "b"}]}),
        ("*/labels", {"jobs": [{"labels": {"a.b": "1"}}, {}], "nextPageToken": "t"}),
        ("absent", {}),
    ],
)
def test_a_part_of_an_answer(fields: str, kept: dict[str, Any]) -> None:
    assert select(ANSWER, fields) == kept


@pytest.mark.parametrize("fields", ["a,", ",a", "a(b", "a)", "a//b", "a/", "()", "a b"])
def test_what_is_no_mask(fields: str) -> None:
    with pytest.raises(ApiError, match="Invalid field selection"):
        select(ANSWER, fields)


def test_a_patch_takes_what_its_mask_names() -> None:
    old = {"name": "n", "title": "old", "spec": {"a": 1, "b": 2}, "gone": True}
    new = {"title": "new", "spec": {"a": 3}}
    allowed = ("title", "spec", "gone")
    assert merge(old, new, "title,gone", allowed) == {"name": "n", "title": "new", "spec": {"a": 1, "b": 2}}
    assert merge(old, new, "spec.a,spec.b", allowed)["spec"] == {"a": 3}
    assert merge(old, new, "*", allowed) == {**old, **new}
    with pytest.raises(ApiError, match="name cannot be changed"):
        merge(old, new, "name", allowed)
