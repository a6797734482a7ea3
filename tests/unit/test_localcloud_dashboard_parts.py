"""The pure parts of the dashboard: codes and cookies, numbers as people read them, curves, progress, prices."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from launcher.cost import prices
from launcher.cost import pricing as launcher_cost
from localcloud.dashboard import access, again, cost, curves, text
from localcloud.dashboard.series import Progress, Watched


def test_a_code_works_once_and_in_time() -> None:
    now = [0.0]
    codes = access.Codes(lambda: now[0])
    first, second = codes.give("/"), codes.give("/ui/jobs/1")
    assert first != second and len(first) >= 40
    assert (codes.take(second), codes.take(second), codes.take("")) == ("/ui/jobs/1", None, None)
    now[0] = access.CODE_SECONDS - 1
    assert codes.take(first) == "/"
    late = codes.give("/")
    now[0] += access.CODE_SECONDS
    assert codes.take(late) is None


def test_a_session_is_this_keys_and_ends() -> None:
    session = access.new_session("key", 1000)
    assert access.session_is_valid("key", session, 1000 + access.SESSION_SECONDS - 1)
    assert not access.session_is_valid("key", session, 1000 + access.SESSION_SECONDS)
    assert not access.session_is_valid("other", session, 1000)
    until, nonce, signature = session.split(".")
    for forged in ("", "..", f"{int(until) + 1}.{nonce}.{signature}", f"{until}.{nonce}.", f"{until}.{nonce}.ü", signature):
        assert not access.session_is_valid("key", forged, 1000), forged
    mark = access.form_mark("key", session)
    assert access.form_is_genuine("key", session, mark)
    assert mark != signature, "a form's mark is no cookie"
    for other in (access.new_session("key", 1000), ""):
        assert not access.form_is_genuine("key", other, mark)
    assert not access.form_is_genuine("key", session, "ü")


@pytest.mark.parametrize(
    ("function", "value", "shown"),
    [
        (text.duration, None, "–"),
        (text.duration, 59.4, "59 s"),
        (text.duration, 171, "2 min 51 s"),
        (text.duration, 7500, "2 h 5 min"),
        (text.size, 0, "0 B"),
        (text.size, 999, "999 B"),
        (text.size, 1000, "1.0 kB"),
        (text.size, 999_600, "1.0 MB"),
        (text.size, 23_400_000, "23 MB"),
        (text.size, 10**18, "1000000 TB"),
        (text.number, 0.01234, "0.0123"),
        (text.number, 12345.6, "12,346"),
        (text.number, math.inf, "not finite"),
        (text.dollars, 0, "$0.00"),
        (text.dollars, 0.0001, "<$0.001"),
        (text.dollars, 0.0082, "$0.008"),
        (text.dollars, 1234.5, "$1,234.50"),
        (text.plain, "\x1b[1;31mred\x1b[0m\ttab\x07", "red\ttab\ufffd"),
        (text.clock, "2026-01-31T12:00:05.123456Z", "2026-01-31 12:00:05"),
    ],
)
def test_values_as_people_read_them(function: Any, value: Any, shown: str) -> None:
    assert function(value) == shown


def test_seconds_between() -> None:
    now = datetime(2026, 1, 1, 0, 1, tzinfo=timezone.utc)
    start, end = "2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:02.500000Z"
    assert [text.seconds_between(*times, now) for times in ((None, None), (start, None), (start, end))] == [None, 60, 2.5]


numbers = some.one_of(some.floats(), some.integers(-(10**6), 10**6).map(float))
points = some.lists(some.tuples(some.integers(0, 10**7).map(float), numbers), max_size=700)


@given(points, some.one_of(some.none(), some.integers(0, 10**7)))
def test_a_curve_of_anything_is_a_picture(line: list[curves.Point], last: int | None) -> None:
    drawn = curves.chart("x", "A <title>", [("a", curves.smooth(line)), ("<b>", line)], last=last)
    if not any(curves.drawable(value) for _, value in line):
        assert drawn == ""
        return
    root = ElementTree.fromstring(drawn)
    lines = [element for element in root.iter() if element.tag == "polyline"]
    assert len(lines) == 2
    for element in lines:
        places = [tuple(map(float, place.split(","))) for place in element.attrib["points"].split()]
        assert len(places) <= 302
        assert all(0 <= x <= curves.WIDTH and 0 <= y <= curves.HEIGHT for x, y in places)


def test_what_a_curve_says() -> None:
    drawn = str(curves.chart("loss", "Loss", [("loss", [(10, 2.0), (20, math.nan), (30, 0.5)])], last=100))
    assert "loss: from 2 at step 10 to 0.5 at step 30." in drawn
    assert [element.text for element in ElementTree.fromstring(drawn).iter("text")] == ["0", "1", "2", "10", "100"]
    assert re.search(r'points="44\.0,10\.0 ', drawn), "the highest value at the first step is at the left top"


def test_thin_keeps_extremes_and_the_end() -> None:
    line = [(float(step), 1.0) for step in range(10_000)]
    line[5001] = (5001.0, 9.0)
    line[7003] = (7003.0, -9.0)
    thinned = curves.thin(line)
    assert len(thinned) <= 302 and {line[5001], line[7003], line[-1]} <= set(thinned)
    assert thinned == sorted(thinned)


def entry(place: int, **payload: Any) -> dict[str, Any]:
    return {"timestamp": f"2026-01-01T00:00:{place:02d}.000000Z", "jsonPayload": payload}


def test_progress_is_read_on_from_where_it_was() -> None:
    log = [entry(1, step=10, steps=40, loss=4), entry(2, step=20, steps=40, loss=3, steps_per_second=2, seconds_left=10)]
    asked: list[str] = []

    def entries(number: str, after: str) -> list[dict[str, Any]]:
        asked.append(after)
        return [one for one in log if one["timestamp"] > after]

    watched = Watched(entries)
    found = watched.progress("1")
    assert (found.step, found.steps, found.share, found.seconds_left) == (20, 40, 0.5, 10)
    # restarted from a checkpoint: what it tells again takes the place of what it told
    log += [
        entry(3, step=15, steps=40, loss=3.5),
        entry(4, step=40, metrics={"AP": 0.5, "odd": "x"}),
        entry(5, step=True, loss=1),
    ]
    assert watched.progress("1") is found
    assert (found.loss, found.speed, found.step) == ([(10, 4), (15, 3.5)], [], 15)
    assert found.metrics == {40: {"AP": 0.5}}
    assert asked == ["", log[1]["timestamp"]]
    assert Progress().share is None


def pool(machine: dict[str, Any], count: int = 1, **more: Any) -> dict[str, Any]:
    return {"machineSpec": machine, "replicaCount": str(count), **more}


@pytest.mark.parametrize(
    "pools",
    [
        [
            pool({"machineType": "n1-standard-4"}),
            pool({"machineType": "n1-standard-4"}, 2),
            pool({"machineType": "n1-highmem-2"}),
        ],
        [pool({"machineType": "n1-standard-8", "acceleratorType": "NVIDIA_TESLA_T4", "acceleratorCount": 2}), {}],
        [pool({"machineType": "g2-standard-12", "acceleratorType": "NVIDIA_L4", "acceleratorCount": 1})],
        [pool({"machineType": "a2-highgpu-1g", "acceleratorType": "NVIDIA_TESLA_A100", "acceleratorCount": 1})],
        [pool({"machineType": "e2-highcpu-16"}, diskSpec={"bootDiskType": "pd-standard", "bootDiskSizeGb": 300})],
    ],
)
def test_an_hour_costs_what_the_launcher_says(pools: list[dict[str, Any]]) -> None:
    """Two readers of one table, which know nothing of each other, agree."""
    spec = {"workerPoolSpecs": pools}
    said = launcher_cost.estimate({"jobSpec": spec}, prices.listed()).hourly
    assert cost.hourly(spec) == pytest.approx(said, rel=1e-9)
    assert said > 0


@pytest.mark.parametrize("machine", ["n9-standard-4", "n1-standard-8x", "standard_gpu"])
def test_a_machine_without_a_price(machine: str) -> None:
    assert cost.hourly({"workerPoolSpecs": [pool({"machineType": machine})]}) is None
    k80 = {"machineType": "n1-standard-8", "acceleratorType": "NVIDIA_TESLA_K80", "acceleratorCount": 1}
    assert cost.hourly({"workerPoolSpecs": [pool(k80)]}) is None


def _request(name: str, labels: dict[str, str], *args: str) -> dict[str, Any]:
    package = {"packageUris": ["gs://b/packages/p-1.tar.gz"], "pythonModule": "a.b", "args": list(args)}
    spec = {"workerPoolSpecs": [{"replicaCount": "1", "pythonPackageSpec": package}]}
    return {"displayName": name, "jobSpec": spec, **({"labels": labels} if labels else {})}


def test_a_run_once_more_is_a_run_of_its_own() -> None:
    old, new = "object_detection_1511212800", "object_detection_1763930000"
    labels = {"odcloud-run": old, "odcloud-kind": "train", "odcloud-launch": "abc", "odcloud-stack": "dev"}
    args = [f"--train_dir=gs://b/train/{old}", "--data", f"gs://b/{old}x/d", f"gs://b/train/{old}/sub", f"/{old}/"]
    given = _request(old, labels, *args)
    before = repr(given)
    made = again.copied(given, 1763930000)
    assert repr(given) == before
    assert made["displayName"] == new
    assert made["labels"] == {"odcloud-run": new, "odcloud-kind": "train", "odcloud-stack": "dev"}
    moved = [f"--train_dir=gs://b/train/{new}", "--data", f"gs://b/{old}x/d", f"gs://b/train/{new}/sub", f"/{old}/"]
    assert made == _request(new, made["labels"], *moved)
    assert again.copied(made, 1763930001)["displayName"] == "object_detection_1763930001"  # it does not grow


def test_an_evaluation_once_more_is_of_the_same_run() -> None:
    run = "object_detection_1511212800"
    labels = {"odcloud-run": run, "odcloud-kind": "eval", "odcloud-launch": "abc"}
    args = f"--checkpoint_dir=gs://b/train/{run}"
    made = again.copied(_request("object_detection_eval_1511212800", labels, args), 1763930000)
    kept = {"odcloud-run": run, "odcloud-kind": "eval"}
    assert made == _request("object_detection_eval_1511212800_1763930000", kept, args)
    assert again.copied(made, 1763930001) == _request("object_detection_eval_1511212800_1763930001", kept, args)


def test_any_job_once_more() -> None:
    assert again.copied(_request("pets", {}, "x"), 1763930000) == _request("pets_1763930000", {}, "x")
    old = {"jobId": "A" * 128, "trainingInput": {"args": ["gs://b/x"]}}
    assert again.copied(old, 1763930000) == {**old, "jobId": "A" * 117 + "_1763930000"}
    long = {"odcloud-run": "r" * 63}
    made = again.copied(_request("pets", long, "--d", "gs://b/" + "r" * 63), 1763930000)
    run = "r" * 52 + "_1763930000"
    assert made == _request("pets_1763930000", {"odcloud-run": run}, "--d", f"gs://b/{run}")
