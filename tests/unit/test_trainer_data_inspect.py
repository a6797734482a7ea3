"""`odcloud data inspect`: what it counts, what it draws, and what it says of a pipeline configuration."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from trainer.data.__main__ import main

CONFIG = Path(__file__).parents[2] / "examples/digits/pipeline.config"


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """9 and 5 images of 60 × 40: a dog of 30 × 20 in each, and in every second a difficult, truncated cat of 41 × 36."""
    folder = tmp_path_factory.mktemp("inspected")
    datasets.voc(folder / "VOCdevkit", {"trainval": 9, "test": 5}, "2007")
    arguments = ["convert", "--format=voc", str(folder / "VOCdevkit"), str(folder / "made"), "--shards=2", "--processes=1"]
    assert main(arguments) == 0
    return folder / "made"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    text = CONFIG.read_text().replace("num_classes: 10", "num_classes: 20")
    text = text.replace("/train-?????", "/trainval-?????")
    path = tmp_path / "voc.config"
    path.write_text(text)
    return path


def inspect(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> tuple[str, str]:
    assert main(["inspect", *map(str, words)]) == code
    captured = capsys.readouterr()
    return captured.out, captured.err


def as_json(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> Any:
    return json.loads(inspect(capsys, *words, "--format=json", "--samples=0", code=code)[0])


def test_it_counts_what_is_there(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, voc)
    made = json.loads((voc / "dataset.json").read_text())
    assert found["classes"] == 20 and found["duplicates"] == []
    for split in ("trainval", "test"):
        facts, known = found["splits"][split], made["splits"][split]
        for key in ("images", "boxes", "difficult", "truncated", "boxes_per_class", "box_sizes", "image_sizes"):
            assert facts[key] == known[key], key
        assert facts["files"] == 2 and facts["most_boxes"] == 2
        assert facts["images_per_class"]["dog"] == facts["images"]
    assert found["splits"]["trainval"]["box_sides"] == {
        name: {"16–32": 9, "32–64": 5}.get(name, 0)
        for name in ("0–8", "8–16", "16–32", "32–64", "64–128", "128–256", "256–512", "512+")
    }


def test_tables_and_drawings(voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = inspect(capsys, voc / "test-*", "--output", tmp_path / "new/drawn.png", "--samples=3")
    assert "test: 5 images, " in out and "trainval" not in out
    assert re.search(r"^dog +5  █+$", out, re.M) and re.search(r"^sheep +0$", out, re.M)
    assert f"{tmp_path}/new/drawn.png: 3 images, drawn" in out
    with Image.open(tmp_path / "new/drawn.png") as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}
    assert (0xF9, 0xC7, 0x4F) in colours  # a dog's boxes


def test_an_image_in_two_splits_is_found(voc: Path, tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in voc.glob("*.tfrecord"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "label_map.pbtxt").write_bytes((voc / "label_map.pbtxt").read_bytes())
    shard = tmp_path / "test-00000-of-00002.tfrecord"
    shard.write_bytes(shard.read_bytes() + (tmp_path / "trainval-00001-of-00002.tfrecord").read_bytes())
    found = as_json(capsys, tmp_path, "--pipeline-config", config, code=1)
    assert found["duplicates"] == [{"splits": ["test", "trainval"], "images": 4}]
    assert [finding["text"] for finding in found["checks"] if finding["state"] == "error"] == [
        "4 images are in training and in evaluation data: scores would be too good"
    ]


def test_a_fitting_configuration(voc: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = inspect(capsys, voc, "--pipeline-config", config, "--samples=0")
    assert "✗" not in out
    assert "✓ train_input_reader reads trainval: 9 images, 14 boxes" in out
    assert "! without a box to train on: aeroplane, bicycle" in out
    assert "! fewer than 20 boxes to train on: cat (5), dog (9)" in out
    assert "see each training image 1066.7 times" in out


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("num_classes: 20", "num_classes: 12", "highest id is 20, num_classes is 12; raise num_classes to 20"),
        ("/trainval-?????", "/train-?????", "which none of test, trainval matches"),
        ("batch_size: 8", "batch_size: 10", "batch_size is 10, and there are 9 images to train on"),
    ],
)
def test_what_would_fail(voc: Path, config: Path, old: str, new: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))
    errors = [f["text"] for f in as_json(capsys, voc, "--pipeline-config", config, code=1)["checks"] if f["state"] == "error"]
    assert len(errors) == 1 and message in errors[0]


def test_wrong_paths_are_told(voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(*words: object) -> str:
        out, err = inspect(capsys, *words, code=2)
        assert not out and err.startswith("odcloud: error: ") and len(err.splitlines()) == 1
        return err

    assert "none: no file matches" in error(tmp_path / "none")
    (tmp_path / "a.txt").write_text("x")
    assert "holds no TFRecords" in error(tmp_path)
    (tmp_path / "a.tfrecord").write_bytes((voc / "test-00000-of-00002.tfrecord").read_bytes())
    assert "no one label map (*.pbtxt) beside it; name it with --label-map" in error(tmp_path)
    assert "no such pipeline configuration" in error(voc, "--pipeline-config", tmp_path / "none.config")
    assert "--samples 101" in error(voc, "--samples=101")
