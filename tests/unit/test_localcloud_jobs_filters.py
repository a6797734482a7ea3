"""The filter language: how it is read, and what Logging's rows match."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from localcloud import filters, logentries
from localcloud.api import ApiError
from localcloud.cloud import Cloud, open_cloud
from localcloud.filters import And, Comparison, Not, Or, Text, parse
from localcloud.home import Home
from localcloud.logfilter import condition_of


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", None),
        ("  -- a comment\n", None),
        ('a="x"', Comparison("a", "=", "x")),
        ("a = 'x y'", Comparison("a", "=", "x y")),
        ('a="say \\"x\\""', Comparison("a", "=", 'say "x"')),
        ("t>=2026-01-01T00:00:00Z", Comparison("t", ">=", "2026-01-01T00:00:00Z")),
        ('labels."a.b/c":x', Comparison('labels."a.b/c"', ":", "x")),
        ("a=1 b=2", And((Comparison("a", "=", "1"), Comparison("b", "=", "2")))),
        # OR binds tighter than AND
        ("a=1 AND b=2 OR c=3", And((Comparison("a", "=", "1"), Or((Comparison("b", "=", "2"), Comparison("c", "=", "3")))))),
        ("(a=1 AND b=2) OR c=3", Or((And((Comparison("a", "=", "1"), Comparison("b", "=", "2"))), Comparison("c", "=", "3")))),
        ("NOT a=1", Not(Comparison("a", "=", "1"))),
        ("-a=1", Not(Comparison("a", "=", "1"))),
        ("a=(1 OR 2)", Or((Comparison("a", "=", "1"), Comparison("a", "=", "2")))),
        ("a=-1", Comparison("a", "=", "-1")),
        ('"lost"', Text("lost")),
        ("a=1 AND (b=2)", And((Comparison("a", "=", "1"), Comparison("b", "=", "2")))),
        ("a=1 AND(b=2)", And((Comparison("a", "=", "1"), Comparison("b", "=", "2")))),
        ("a=1 OR(b=2)", Or((Comparison("a", "=", "1"), Comparison("b", "=", "2")))),
        ("NOT(a=1)", Not(Comparison("a", "=", "1"))),
        ("-(a=1)", Not(Comparison("a", "=", "1"))),
        ("lost (a=1)", And((Text("lost"), Comparison("a", "=", "1")))),
        ("a=b,c", Comparison("a", "=", "b,c")),
    ],
)
def test_parsing(text: str, tree: filters.Node | None) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    "text",
    ["a=", "=1", "(a=1", "a=1)", "a=1 AND", "OR a=1", 'a="x', "NOT", "a=~x", "a=(1 OR", "()", "a=1 " * 1000, "a='1', b=2"],
)
def test_what_cannot_be_parsed_is_refused(text: str) -> None:
    with pytest.raises(filters.FilterError):
        parse(text)


def test_functions_are_those_that_are_given() -> None:
    functions = {"f": lambda value: Comparison("g", "=", value)}
    called = Comparison("g", "=", "x y")
    assert parse('f("x y")', functions=functions) == called
    assert parse("-f('x y') OR f( x )", functions=functions) == Or((Not(called), Comparison("g", "=", "x")))
    assert parse('NOT f("x y") a=1', functions=functions) == And((Not(called), Comparison("a", "=", "1")))
    for text, said in (
        ("h(1)", "the function 'h' at position 1"),
        ("a=1 AND -h(1)", "the function 'h'"),
        ("sample(insertId, 0.25)", "the function 'sample'"),
        ("f()", "expected a value for f, found '\\)'"),
        ("f(", "expected a value for f at the end"),
        ("f(a, b)", "after the one value of f, found ','"),
        ("f(a", "after the one value of f at the end"),
    ):
        with pytest.raises(filters.FilterError, match=said):
            parse(text, functions=functions)


ENTRIES: list[dict[str, Any]] = [
    {"textPayload": "Loss is 1", "severity": "INFO", "timestamp": "2026-01-01T00:00:01Z", "labels": {"a.b/c": "x", "n": "5"}},
    {
        "textPayload": "boom",
        "severity": "ERROR",
        "timestamp": "2026-01-01T00:00:02.5Z",
        "logName": "projects/odcloud-local/logs/a%2Fb",
        "resource": {"labels": {"job_id": "7"}},
    },
    {"jsonPayload": {"step": 10, "ok": True, "name": "it's"}, "timestamp": "2026-01-01T00:00:03+00:00", "insertId": "m"},
]


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    home = Home(tmp_path)
    home.prepare()
    cloud = open_cloud(home, "http://127.0.0.1:1")
    logentries.append(cloud, ENTRIES)
    return cloud


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [0, 1, 2]),
        ("severity>=ERROR", [1]),
        ("severity=info", [0]),
        ("NOT severity=INFO", [1, 2]),
        ('log_id("a/b")', [1]),
        ('log_id("a%2Fb")', [1]),
        ('log_id("a")', []),
        ('-log_id("a/b") AND severity>=INFO', [0]),
        ('SEARCH("loss")', [0]),
        ('SEARCH("1 loss")', [0]),
        ('SEARCH("`1 loss`")', []),
        ('NOT SEARCH("loss") AND NOT(log_id("a/b"))', [2]),
        ('textPayload="boom"', [1]),
        ("textPayload:LOSS", [0]),
        ("loss", [0]),
        ('timestamp>="2026-01-01T00:00:02Z" AND timestamp<"2026-01-01T00:00:03Z"', [1]),
        ('timestamp>"2026-01-01T01:00:02.4+01:00"', [1, 2]),
        ('timestamp>="2026-01-02"', []),
        ("jsonPayload.step>=10", [2]),
        ("textPayload =~ 'l.ss'", []),
        ("textPayload =~ 'L.ss'", [0]),
        ("textPayload !~ 'L.ss'", [1]),
        ("NOT textPayload =~ 'L.ss'", [1, 2]),
        ('labels."a.b/c"=X', [0]),
        ("jsonPayload.step>9 jsonPayload.step<10.5", [2]),
        ("jsonPayload.step:*", [2]),
        ("jsonPayload.ok=true", [2]),
        ('jsonPayload.name="it\'s"', [2]),
        ("NOT jsonPayload.step=10", [0, 1]),
        ("jsonPayload.step!=11", [2]),
        ('labels."a.b/c"=x', [0]),
        ("labels.n=5", [0]),
        ('resource.labels.job_id="7" OR insertId="m"', [1, 2]),
        ('(timestamp="2026-01-01T00:00:03Z" AND insertId>"a") OR timestamp>"2026-01-01T00:00:03Z"', [2]),
    ],
)
def test_matching(cloud: Cloud, text: str, found: list[int]) -> None:
    condition, parameters = condition_of(text)
    rows = cloud.db.query(f"SELECT id FROM log_entries WHERE {condition} ORDER BY id", parameters)
    assert [row["id"] - 1 for row in rows] == found


@pytest.mark.parametrize(
    "text",
    [
        "severity=loud",
        "timestamp>yesterday",
        "nonsense=1",
        "resource.id=1",
        "timestamp:1",
        "a.b=~c",
        "textPayload=~'('",
        "severity=~E",
        "sample(insertId, 0.25)",
        'SEARCH(textPayload, "loss")',
        'SEARCH("")',
        'ip_in_net(a, "b")',
    ],
)
def test_wrong_filters_are_named(text: str) -> None:
    with pytest.raises(ApiError, match="Unparseable filter") as raised:
        condition_of(text)
    assert raised.value.code == 400
    assert repr(text) in raised.value.message


def test_entries_of_one_job_are_found_through_the_index(cloud: Cloud) -> None:
    condition, parameters = condition_of(
        'resource.type="ml_job" AND resource.labels.job_id="7" AND timestamp>="2026-01-01T00:00:00Z"'
    )
    plan = cloud.db.query(
        f"EXPLAIN QUERY PLAN SELECT entry FROM log_entries WHERE {condition} ORDER BY micros, insert_id LIMIT 10", parameters
    )
    assert "log_entries_by_job (job_id=? AND micros>?)" in plan[0]["detail"]
    assert len(plan) == 1  # no sorting


def test_entries_written_at_once_keep_their_order(cloud: Cloud) -> None:
    logentries.append(cloud, [{"textPayload": str(i), "logName": "order"} for i in range(200)])
    rows = cloud.db.query("SELECT micros, insert_id FROM log_entries WHERE log_name = 'order' ORDER BY id")
    keys = [(row["micros"], row["insert_id"]) for row in rows]
    assert keys == sorted(set(keys))
