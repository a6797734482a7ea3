"""The report: what it reads, what it says, what it refuses."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tensorboard.compat.proto import event_pb2

from trainer import report
from trainer.data import tfrecord
from trainer.errors import InputError
from trainer.reporting import curves, events, results

METRICS = {
    "AR1": 0.5,
    "AP": 0.7123,
    "AP50": 0.834,
    "AP75": 0.8,
    "APs": 0.6,
    "APm": 0.7,
    "APl": -1.0,
    "AR10": 0.7,
    "AR100": 0.78,
}
EVALUATED = {
    "step": 600,
    "metrics": METRICS,
    "per_class": {"cat": 0.9, "<dog & co>": -1},
    "images": 200,
    "seconds": 31.2,
    "history": [{"step": 300, "metrics": {"AP": 0.4, "AP50": 0.6}}, {"step": 600, "metrics": METRICS}],
}
FACTS = {
    "run": "r1",
    "job": "4711",
    "state": "JOB_STATE_FAILED",
    "createTime": "2026-11-23T19:00:00.123456789Z",
    "startTime": "2026-11-23T19:00:02Z",
    "endTime": "2026-11-23T20:05:03+01:00",
    "error": {"code": 3, "message": "Replica workerpool1-0 exited with 1"},
    "replicas": [
        {
            "name": "workerpool0-0",
            "task": "chief",
            "state": "STOPPED",
            "exitCode": None,
            "restarts": 0,
            "startTime": None,
            "endTime": None,
        },
        {
            "name": "workerpool1-0",
            "task": "worker",
            "state": "FAILED",
            "exitCode": 1,
            "restarts": 2,
            "startTime": "2026-11-23T19:00:02Z",
        },
    ],
}


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


def write_events(path: Path, *points: tuple[str, int, float]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [event_pb2.Event(file_version="brain.Event:2")]
    for tag, step, value in points:
        event = event_pb2.Event(step=step)
        event.summary.value.add(tag=tag, simple_value=value)
        made.append(event)
    tfrecord.write(path, [event.SerializeToString() for event in made])
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    steps = range(10, 610, 10)
    write_events(
        tmp_path / "train" / "events.out.tfevents.1.host",
        *(("loss", step, 600 / step) for step in steps),
        *(("learning_rate", step, 0.001) for step in steps),
        *(("steps_per_second", step, 2.5) for step in steps),
    )
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "metrics.json").write_text(json.dumps(EVALUATED))
    (tmp_path / "eval" / "detections.png").write_bytes(png())
    (tmp_path / "facts.json").write_text(json.dumps(FACTS))
    return tmp_path


def options(folder: Path, *more: str) -> list[str]:
    return [f"--train_dir={folder / 'train'}", f"--eval_dir={folder / 'eval'}", f"--output={folder / 'out'}", *more]


def refused(capsys: pytest.CaptureFixture, folder: Path, *more: str) -> str:
    assert report.main(options(folder, *more)) == 2
    error = capsys.readouterr().err
    assert error.startswith("odcloud: error: ") and error.count("\n") == 1
    return error


class Page(HTMLParser):
    """Collects what the page shows, and checks that what is opened is closed."""

    void = ("meta", "img", "source", "link", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += f" {data.strip()}" if data.strip() else ""


def test_the_table_on_the_terminal(run: Path, capsys: pytest.CaptureFixture) -> None:
    assert report.main(options(run, "--run=r1")) == 0
    out = capsys.readouterr().out
    assert out.startswith("r1 · step 600 · 200 held-out images\n")
    assert re.findall(r"^  (A\S+) +(\S+)", out, re.M) == [
        ("AP", "0.712"),
        ("AP50", "0.834"),
        ("AP75", "0.800"),
        ("APs", "0.600"),
        ("APm", "0.700"),
        ("APl", "–"),
        ("AR1", "0.500"),
        ("AR10", "0.700"),
        ("AR100", "0.780"),
    ]
    assert re.search(r"^  cat +0\.900  █{22}$", out, re.M) and re.search(r"^  <dog & co> +–$", out, re.M)
    assert f"{run}/out/report.html" in out


def test_the_result_for_programs(run: Path, capsys: pytest.CaptureFixture) -> None:
    assert report.main(options(run, "--format=json")) == 0
    out = json.loads(capsys.readouterr().out)
    assert (out["run"], out["step"], out["images"]) == ("train", 600, 200)
    assert out["metrics"]["AP"] == 0.7123 and out["metrics"]["APl"] is None
    assert out["per_class"] == {"cat": 0.9, "<dog & co>": None}
    assert sorted(out["files"]) == ["curves", "detections", "report"]
    assert sorted(path.name for path in (run / "out").iterdir()) == ["curves.png", "detections.png", "report.html"]
    assert Path(out["files"]["detections"]).read_bytes() == png()


def test_the_page_is_complete_in_itself_and_accessible(run: Path) -> None:
    assert report.main(options(run, "--run=r1", f"--facts={run / 'facts.json'}")) == 0
    text = (run / "out" / "report.html").read_text()
    page = Page(text)
    for tag, attributes in page.tags:
        for name in ("src", "srcset", "href"):
            assert attributes.get(name, "data:").startswith("data:")
        assert tag != "img" or len(attributes["alt"]) > 20
        assert tag != "th" or attributes["scope"] in ("row", "col")
    assert "url(" not in text and "@import" not in text
    assert "prefers-color-scheme: dark" in text
    headings = [tag for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert headings == ["h1"] + 6 * ["h2"]
    assert [tag for tag, _ in page.tags].count("caption") == [tag for tag, _ in page.tags].count("table") == 3
    assert "AP 0.712" in page.text and "<dog & co> –" in page.text
    assert "Training loss goes from 60 at step 10" in dict(next(a for t, a in page.tags if t == "img"))["alt"]
    assert "FAILED Error Replica workerpool1-0 exited with 1 Created 2026-11-23 19:00:00 UTC" in page.text
    assert "Ended 2026-11-23 19:05:03 UTC Took 5 min 1 s" in page.text
    assert "workerpool1-0 worker FAILED 1 2 2026-11-23 19:00:02 UTC –" in page.text
    assert "workerpool0-0 chief STOPPED – 0" in page.text


ANALYSIS = {
    "min_score": 0.3,
    "precision_recall": {"cat": [[0.5, 0.5, 1.0], [1.0, 0.5, 0.6667]], "<dog & co>": [[], []]},
    "confusion": {"names": ["cat", "<dog & co>", "nothing"], "matrix": [[7, 3, 1], [0, 2, 0], [5, 0, 0]]},
}


def test_analysis_voc_speed_and_cost_are_shown(run: Path, capsys: pytest.CaptureFixture) -> None:
    voc = {"VOC10": {"cat": 0.81, "<dog & co>": None}, "VOC07": {"cat": 0.79, "<dog & co>": None}}
    metrics = {**EVALUATED["metrics"], "VOC10": 0.81, "VOC07": 0.79}
    evaluated = {**EVALUATED, "metrics": metrics, "per_class_voc": voc, "seconds": 100.0}
    (run / "eval/metrics.json").write_text(json.dumps(evaluated))
    (run / "eval/analysis.json").write_text(json.dumps(ANALYSIS))
    for name in ("best.png", "worst.png"):
        (run / "eval" / name).write_bytes(png())
    (run / "facts.json").write_text(json.dumps({**FACTS, "cost": "$0.04 at list prices"}))
    assert report.main(options(run, f"--facts={run / 'facts.json'}")) == 0
    assert "cat          0.900   0.810   0.790  █" in capsys.readouterr().out
    page = Page((run / "out/report.html").read_text())
    assert "2.5 steps per second (median)" in page.text and "1 min 40 s with its start, 2 images per second" in page.text
    assert "Cost of training $0.04 at list prices" in page.text
    assert "nothing cat 5 cat <dog & co> 3 cat nothing 1" in page.text
    assert [tag for tag, _ in page.tags].count("img") == 6
    pictures = {"best.png", "confusion.png", "curves.png", "detections.png", "precision_recall.png", "worst.png"}
    assert {path.name for path in (run / "out").iterdir()} == {*pictures, "report.html"}
    pixels = np.array(Image.open(run / "out/confusion.png").convert("RGB")).reshape(-1, 3)
    assert (pixels == [0x0B, 0x62, 0xD6]).all(axis=1).any()  # all dogs are dogs: a cell in the full colour
    assert report.main(options(run, "--format=json")) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["per_class_voc"] == voc and out["speed"] == {"stepsPerSecond": 2.5, "evaluationSeconds": 100.0}
    assert out["confusions"][0] == {"there": "nothing", "detected": "cat", "count": 5}


@pytest.mark.parametrize(
    "wrong",
    [
        {"precision_recall": {"cat": [[0.5], [1.0, 0.5]]}},
        {"precision_recall": {"cat": [[0.5], ["x"]]}},
        {"precision_recall": []},
        {"confusion": {"names": ["cat"], "matrix": [[1, 2]]}},
        {"confusion": {"names": ["cat"]}},
        {"confusion": {"names": [1], "matrix": [[1]]}},
    ],
)
def test_a_broken_analysis_is_refused(wrong: dict, run: Path, capsys: pytest.CaptureFixture) -> None:
    (run / "eval/analysis.json").write_text(json.dumps({**ANALYSIS, **wrong}))
    assert "analysis.json: is not what an evaluation writes" in refused(capsys, run)


def test_curves_are_drawn_for_light_and_dark(run: Path) -> None:
    found = results.load(str(run / "train"), str(run / "eval"))
    assert len(found.loss) == 60 and found.history == {"AP": [(300, 0.4), (600, 0.7123)], "AP50": [(300, 0.6), (600, 0.834)]}
    for theme in (curves.LIGHT, curves.DARK):
        pixels = np.array(Image.open(io.BytesIO(curves.render(found, theme))).convert("RGB"))
        assert tuple(pixels[0, 0]) == tuple(bytes.fromhex(theme.ground[1:]))
        for colour in (theme.first, theme.second):
            assert (pixels == tuple(bytes.fromhex(colour[1:]))).all(axis=2).sum() > 500


def test_smoothing() -> None:
    assert curves.smooth([(1, 4.0), (2, 4.0), (5, 4.0)], 0.5) == [(1, 4.0), (2, 4.0), (5, 4.0)]
    assert curves.smooth([(1, 1.0), (2, 0.0)], 0.5)[1] == pytest.approx((2, 1 / 3))


def test_without_training_events_sheet_and_history(run: Path, capsys: pytest.CaptureFixture) -> None:
    (run / "eval" / "detections.png").unlink()
    (run / "eval" / "metrics.json").write_text(json.dumps({"step": 5, "metrics": {"AP": 0.1}}))
    assert (
        report.main([f"--train_dir={run / 'none'}", f"--eval_dir={run / 'eval'}", f"--output={run / 'out'}", "--format=json"])
        == 0
    )
    assert sorted(json.loads(capsys.readouterr().out)["files"]) == ["curves", "report"]
    assert "Detections" not in Page((run / "out" / "report.html").read_text()).text


def test_the_history_comes_from_events_where_metrics_has_none(run: Path) -> None:
    (run / "eval" / "metrics.json").write_text(json.dumps({"step": 20, "metrics": {"AP": 0.5}}))
    write_events(run / "eval" / "sub" / "events.out.tfevents.2", ("AP", 10, 0.25), ("val/AP50", 10, 0.5), ("AP", 20, 0.4))
    assert results.load(str(run / "train"), str(run / "eval")).history == {"AP": [(10, 0.25), (20, 0.5)], "AP50": [(10, 0.5)]}


def test_not_evaluated_yet(run: Path, capsys: pytest.CaptureFixture) -> None:
    (run / "eval" / "metrics.json").unlink()
    assert "run r1 has not been evaluated yet; `odcloud eval --run r1` does that" in refused(capsys, run, "--run=r1")
    assert not (run / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "must hold a JSON object"),
        ("{}", "metrics is missing or empty"),
        ('{"metrics": {"AP": "high"}, "step": 1}', "metrics.AP must be a number"),
        ('{"metrics": [1], "step": 1}', "metrics must be an object"),
        ('{"metrics": {"AP": 1}}', "step must be a whole number"),
        ('{"metrics": {"AP": 1}, "step": 1, "history": [1]}', "history must be a list"),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_broken_metrics(content: str, message: str, run: Path, capsys: pytest.CaptureFixture) -> None:
    (run / "eval" / "metrics.json").write_text(content)
    error = refused(capsys, run)
    assert f"{run}/eval/metrics.json: " in error and message in error


def test_other_broken_input(run: Path, capsys: pytest.CaptureFixture) -> None:
    (run / "eval" / "detections.png").write_bytes(b"GIF89a")
    assert "detections.png: is not a PNG" in refused(capsys, run)
    (run / "eval" / "detections.png").unlink()
    assert "absent.json: there is no such file" in refused(capsys, run, f"--facts={run / 'absent.json'}")
    (run / "facts.json").write_text('{"replicas": [1]}')
    assert "replicas must be a list" in refused(capsys, run, f"--facts={run / 'facts.json'}")
    assert "must be a local folder" in refused(capsys, run, "--eval_dir=gs://no-such-mount/x")
    assert "--colour" in refused(capsys, run, "--colour")
    (run / "out").touch()
    assert f"{run}/out/report.html: cannot be written: " in refused(capsys, run)
    (run / "train" / "events.out.tfevents.9").write_bytes(b"no events, but long enough")
    assert "events.out.tfevents.9: is not a TFRecord file" in refused(capsys, run)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_no_space_left(run: Path, capsys: pytest.CaptureFixture) -> None:
    (run / "out").mkdir()
    (run / "out" / ".report.html.partial").symlink_to("/dev/full")
    assert "No space left on device; free some disk space" in refused(capsys, run)
    assert not list((run / "out").iterdir())


def test_events_of_a_run_that_was_resumed(tmp_path: Path) -> None:
    write_events(
        tmp_path / "events.out.tfevents.100.a", ("loss", 10, 3.0), ("loss", 20, 2.0), ("loss", 30, 1.9), ("lr", 10, 1.0)
    )
    write_events(tmp_path / "events.out.tfevents.200.b", ("loss", 20, 2.1), ("loss", 40, 1.0), ("loss", 50, float("nan")))
    assert events.scalars(str(tmp_path)) == {
        "loss": [(10, 3.0), (20, pytest.approx(2.1)), (40, 1.0)],
        "lr": [(10, 1.0)],
    }


def test_events_of_training_and_validation_in_subfolders_are_kept_apart(tmp_path: Path) -> None:
    write_events(tmp_path / "train" / "events.out.tfevents.1", ("total_loss", 10, 2.0))
    write_events(tmp_path / "validation" / "events.out.tfevents.2", ("total_loss", 10, 3.0))
    found = events.scalars(str(tmp_path))
    assert found == {"train/total_loss": [(10, 2.0)], "validation/total_loss": [(10, 3.0)]}
    assert events.find(found, "loss", "total_loss") == [(10, 2.0)]


def test_events_still_being_written(tmp_path: Path) -> None:
    path = write_events(tmp_path / "events.out.tfevents.1", ("loss", 1, 3.0), ("loss", 2, 2.0))
    os.truncate(path, path.stat().st_size - 3)
    assert events.scalars(str(tmp_path)) == {"loss": [(1, 3.0)]}


def test_tags_are_found_liberally() -> None:
    series = {"cls_loss": [(1, 1.0)], "train/loss": [(1, 2.0)], "epoch_learning_rate": [(1, 3.0)]}
    assert events.find(series, "loss", "total_loss") == [(1, 2.0)]
    assert events.find({"cls_loss": [(1, 1.0)], "total_loss": [(1, 2.0)]}, "loss", "total_loss") == [(1, 2.0)]
    assert events.find(series, "learning_rate") == [(1, 3.0)]
    assert events.find(series, "speed") == []


def test_events_as_tensorflow_writes_them_are_read_without_it(tmp_path: Path) -> None:
    writer = f"""
import tensorflow as tf
with tf.summary.create_file_writer({str(tmp_path)!r}).as_default():
    for step in (1, 2):
        tf.summary.scalar("loss", 1.5 * step, step=step)
    tf.summary.text("config", "text", step=0)
    tf.summary.histogram("weights", [1.0, 2.0], step=0)
    tf.summary.image("image", tf.zeros((1, 2, 2, 3)), step=0)
"""
    subprocess.run([sys.executable, "-c", writer], check=True, capture_output=True)
    reader = f"""
import sys
from trainer import report
from trainer.reporting import events
assert events.scalars({str(tmp_path)!r}) == {{"loss": [(1, 1.5), (2, 3.0)]}}
assert "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", reader], check=True)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_events_are_read_as_far_as_they_go_or_refused_by_name(data: st.DataObject, tmp_path: Path) -> None:
    path = write_events(tmp_path / "events.out.tfevents.1", ("loss", 1, 3.0), ("loss", 2, 2.0))
    content = bytearray(path.read_bytes()[: data.draw(st.integers(0, path.stat().st_size))])
    for position, byte in data.draw(st.dictionaries(st.integers(0, 300), st.integers(0, 255), max_size=3)).items():
        if position < len(content):
            content[position] = byte
    path.write_bytes(content)
    try:
        found = events.scalars(str(tmp_path))
    except InputError as error:
        assert str(error).startswith(str(path))
    else:
        assert found.get("loss", []) in ([], [(1, 3.0)], [(1, 3.0), (2, 2.0)])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["AP", "step", "metrics", "per_class", "history", "images", "name", "exitCode"]), inner
        )
    ),
)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(metrics=JSON, per_class=JSON, history=JSON, replicas=JSON, state=JSON, run=st.text(min_size=1))
def test_any_json_makes_a_page_or_is_refused_by_name(
    metrics: object, per_class: object, history: object, replicas: object, state: object, run: str, tmp_path: Path
) -> None:
    content = {"step": 1, "metrics": metrics, "per_class": per_class, "history": history}
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    (tmp_path / "facts.json").write_text(json.dumps({"state": state, "startTime": state, "replicas": replicas}))
    try:
        found = results.load(str(tmp_path), str(tmp_path), run, str(tmp_path / "facts.json"))
    except InputError as error:
        assert str(error).startswith(str(tmp_path))
    else:
        Page(report.page(found, b"", b""))
        report.table(found)
        json.dumps(report.summary(found, {}), allow_nan=False)
