"""`odcloud data push` and `inspect gs://…`: the command in a process of its own against a local cloud's storage."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import LocalCloud

from trainer.data.__main__ import main as data_command

ROOT = Path(__file__).parents[2]
BUCKET = "pushed"
MiB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def bucket(local_cloud: LocalCloud) -> Path:
    local_cloud.call("storage.buckets.insert", {"name": BUCKET}, project="odcloud-local")
    return local_cloud.home / "buckets" / BUCKET


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Twelve small shards and one that takes several parts."""
    folder = tmp_path / "made"
    folder.mkdir()
    noise = random.Random(0)
    for number in range(12):
        (folder / f"train-{number:05d}-of-00012.tfrecord").write_bytes(noise.randbytes(300_000 + number))
    (folder / "test-00000-of-00001.tfrecord").write_bytes(noise.randbytes(25 * MiB))
    (folder / "label_map.pbtxt").write_text("item { id: 1 name: 'dog' }\n")
    (folder / ".convert.jsonl").write_text("not for the bucket\n")
    return folder


def start(
    cloud: LocalCloud, *words: object, group: str = "data", cwd: Path | None = None, **more: str
) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CLOUDSDK_", "GOOGLE_"))}
    env = {
        **kept,
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{cloud.url}/",
        "GOOGLE_OAUTH_ACCESS_TOKEN": (cloud.home / "token").read_text(),
    }
    command = [sys.executable, "-m", "launcher.cli", group, *map(str, words)]
    return subprocess.Popen(command, cwd=cwd, env={**env, **more}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(cloud: LocalCloud, *words: object, code: int = 0) -> tuple[str, str]:
    process = start(cloud, *words)
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, (process.returncode, out, err)
    return out, err


def push(cloud: LocalCloud, *words: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(cloud, "push", *words, "--format", "json")[0])
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def told(folder: Path, module: str) -> Path:
    """A folder for PYTHONPATH where the trainer's module is a program that prints its arguments and the fetched files."""
    stub = folder / "stub/trainer"
    stub.mkdir(parents=True)
    (stub / "__init__.py").write_text("")
    (stub / f"{module}.py").write_text(
        "import json, os, pathlib, sys\n"
        "root = pathlib.Path(os.environ['GCS_ROOT'])\n"
        "print(json.dumps([sys.argv[1:], sorted(str(p.relative_to(root)) for p in root.rglob('*') if p.is_file())]))\n"
    )
    return stub.parent


def test_only_what_is_missing_is_sent(local_cloud: LocalCloud, bucket: Path, dataset: Path) -> None:
    place = f"gs://{BUCKET}/one/data"
    first = push(local_cloud, dataset, place)
    assert (first["files"], len(first["sent"]), first["alreadyThere"]) == (14, 14, 0)
    assert contents(bucket / "one/data") == contents(dataset)
    assert push(local_cloud, dataset, f"{place}/")["sent"] == []
    (dataset / "label_map.pbtxt").write_text("item { id: 1 name: 'cat' }\n")
    assert push(local_cloud, dataset, place)["sent"] == [f"{place}/label_map.pbtxt"]
    assert contents(bucket / "one/data") == contents(dataset)
    (dataset / "train-00003-of-00012.tfrecord").unlink()
    out, err = run(local_cloud, "push", dataset, place)
    assert "13 files of" in out and "0 sent, 13 already there" in out
    assert "also has one/data/train-00003-of-00012.tfrecord" in err


def test_killed_and_repeated_it_goes_on(local_cloud: LocalCloud, bucket: Path, dataset: Path) -> None:
    place = f"gs://{BUCKET}/two"
    process = start(local_cloud, "push", dataset, place)
    deadline = time.monotonic() + 120
    while not list((bucket / "two").glob("train-*")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    arrived = contents(bucket / "two")
    assert arrived
    whole = contents(dataset)
    assert all(whole[name] == content for name, content in arrived.items())  # and none is half
    again = push(local_cloud, dataset, place)
    assert again["alreadyThere"] >= len(arrived)
    assert len(again["sent"]) == 14 - again["alreadyThere"]
    assert contents(bucket / "two") == whole


def test_broken_connections_and_busy_servers_are_outlasted(local_cloud: LocalCloud, bucket: Path, dataset: Path) -> None:
    for kind in ("503", "lost", "reset"):
        set_ = local_cloud.run("chaos", "fail", "storage.objects.insert", "--with", kind, "--calls", "2")
        assert set_.returncode == 0, set_.stderr
    push(local_cloud, dataset, f"gs://{BUCKET}/three")
    assert contents(bucket / "three") == contents(dataset)
    assert local_cloud.run("chaos", "list").stdout == "No faults are set.\n"  # they did happen


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none", "gs://pushed/x"), "none: no such folder"),
        (("{dataset}", "gs://not-there/x"), "the bucket gs://not-there does not exist"),
        (("{dataset}", "pushed/x"), "pushed/x: must be gs://BUCKET or gs://BUCKET/FOLDER"),
        (("{empty}", "gs://pushed/x"), "is empty; make the dataset first"),
        (("{unfinished}", "gs://pushed/x"), "the dataset is not finished"),
    ],
)
def test_wrong_words_are_told(
    local_cloud: LocalCloud, dataset: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished/dataset.json").write_text('{\n  "parameters": {},\n  "complete": false\n}\n')
    places = {"dataset": dataset, "empty": tmp_path / "empty", "unfinished": tmp_path / "unfinished"}
    _, err = run(local_cloud, "push", *(word.format(**places) for word in words), code=2)
    assert err.startswith("odcloud: error: ") and message in err and len(err.splitlines()) == 1


def test_what_was_pushed_can_be_inspected_and_checked(local_cloud: LocalCloud, tmp_path: Path) -> None:
    assert data_command(["digits", str(tmp_path / "digits"), "--train-images=8", "--test-images=4", "--shards=2"]) == 0
    place = f"gs://{BUCKET}/digits"
    push(local_cloud, tmp_path / "digits", place)
    out, _ = run(local_cloud, "inspect", place, "--samples=0", "--format=json")
    found = json.loads(out)
    assert {name: split["images"] for name, split in found["splits"].items()} == {"train": 8, "test": 4}
    out, _ = run(local_cloud, "check", f"{place}/train-*", f"--label-map={place}/label_map.pbtxt", "--format=json")
    assert json.loads(out)["records"] == 8
    _, err = run(local_cloud, "inspect", f"gs://{BUCKET}/nothing", code=2)
    assert f"gs://{BUCKET}/nothing: nothing is there" in err


def test_export_fetches_the_last_checkpoint_and_what_belongs_to_it(local_cloud: LocalCloud, tmp_path: Path) -> None:
    """What the trainer's export is given, seen by a program in its place; the real one runs in tests/e2e."""
    label_map = f"gs://{BUCKET}/exported/data/label_map.pbtxt"
    files = {
        "train/r/checkpoint": b'model_checkpoint_path: "ckpt-20"\nall_model_checkpoint_paths: "ckpt-10"\n',
        "train/r/pipeline.config": f"train_input_reader {{ label_map_path: '{label_map}' }}".encode(),
        "train/r/events.out.tfevents.1.host": b"events",
        "data/label_map.pbtxt": b"item { id: 1 name: 'dog' }",
        **{f"train/r/ckpt-{step}.{part}": b"x" for step in (10, 20) for part in ("index", "data-00000-of-00001")},
    }
    for name, content in files.items():
        local_cloud.upload(BUCKET, f"exported/{name}", content)
    stub = told(tmp_path, "export")
    uri = f"gs://{BUCKET}/exported/train/r"
    process = start(local_cloud, uri, tmp_path / "model", group="export", cwd=tmp_path, PYTHONPATH=str(stub))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    given, fetched = json.loads(out)
    assert given == [f"--checkpoint_dir={uri}", f"--output={tmp_path / 'model'}", "--format=text"]
    kept = ("checkpoint", "ckpt-20.data-00000-of-00001", "ckpt-20.index", "pipeline.config")
    assert fetched == [f"{BUCKET}/exported/data/label_map.pbtxt", *(f"{BUCKET}/exported/train/r/{name}" for name in kept)]
    process = start(local_cloud, f"gs://{BUCKET}/exported/train/none", tmp_path / "model", group="export")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2 and "train/none/checkpoint: is not there; has the run been trained?" in err


def test_predict_fetches_a_model_with_its_folders_and_images(local_cloud: LocalCloud, tmp_path: Path) -> None:
    """What the trainer's predict is given, seen by a program in its place; the real one runs in tests/e2e."""
    model = f"gs://{BUCKET}/served/model"
    for name in ("saved_model.pb", "assets/label_map.pbtxt", "variables/variables.index"):
        local_cloud.upload(BUCKET, f"served/model/{name}", b"x")
    local_cloud.upload(BUCKET, "served/one.jpg", b"x")
    stub = told(tmp_path, "predict")
    image = f"gs://{BUCKET}/served/one.jpg"
    process = start(local_cloud, model, image, group="predict", cwd=tmp_path, PYTHONPATH=str(stub))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    served = [f"{BUCKET}/served/{name}" for name in ("model/assets/label_map.pbtxt", "model/saved_model.pb")]
    wanted = [*served, f"{BUCKET}/served/model/variables/variables.index", f"{BUCKET}/served/one.jpg"]
    assert json.loads(out) == [[model, image], wanted]
