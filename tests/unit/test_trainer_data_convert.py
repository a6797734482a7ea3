"""Converting Pets, VOC and COCO: what the records hold, what is skipped, and that no interruption shows."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import picture, put, xml, xml_object

from trainer.data import __main__ as command
from trainer.data import convert, label_map, records, tfrecord

QUICK = ["--processes", "1"]


def run(*arguments: object) -> int:
    return command.main(["convert", *map(str, arguments)])


def converted(capsys: pytest.CaptureFixture, *arguments: object) -> dict[str, Any]:
    assert run(*arguments, *QUICK, "--json") == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    capsys.readouterr()
    assert run(*arguments, *QUICK) == 2
    error = capsys.readouterr().err
    assert error.startswith("odcloud: error: ") and error.count("\n") == 1
    return error


def examples(folder: Path, split: str) -> dict[str, Any]:
    """Features by file name, in no order."""
    found = {}
    for file in sorted(folder.glob(f"{split}-*.tfrecord")):
        for data in tfrecord.read(str(file)):
            features = records.parse(data, "test")
            found[features["image/filename"].bytes_list.value[0].decode()] = features
    return found


def boxes(features: Any) -> list[list[float]]:
    """In pixels, as xmin, ymin, xmax, ymax."""
    height, width = (features[f"image/{side}"].int64_list.value[0] for side in ("height", "width"))
    sides = [features[f"image/object/bbox/{side}"].float_list.value for side in ("xmin", "ymin", "xmax", "ymax")]
    return [
        [round(value * size, 3) for value, size in zip(box, (width, height) * 2, strict=True)]
        for box in zip(*sides, strict=True)
    ]


def texts(features: Any, key: str = "class/text") -> list[str]:
    return [value.decode() for value in features[f"image/object/{key}"].bytes_list.value]


def numbers(features: Any, key: str) -> list[int]:
    return list(features[f"image/object/{key}"].int64_list.value)


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def bad_kinds(summary: dict[str, Any]) -> dict[str, str]:
    return {Path(entry["item"]).stem: entry["kind"] for entry in summary["bad"]}


def test_voc(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = datasets.voc(tmp_path / "VOCdevkit", {"train": 5, "val": 3})
    summary = converted(capsys, "--format", "voc", source, tmp_path / "out", "--shards", 2)
    names = label_map.read(str(tmp_path / "out" / "label_map.pbtxt"))
    assert len(names) == 20 and names[1] == "aeroplane" and names[12] == "dog" and names[20] == "tvmonitor"
    assert sorted(path.name for path in (tmp_path / "out").glob("*.tfrecord")) == [
        f"{split}-0000{i}-of-00002.tfrecord" for split in ("train", "val") for i in (0, 1)
    ]
    checked = records.check(str(tmp_path / "out" / "*.tfrecord"), names)
    assert checked.records == 8 and checked.boxes == {12: 8, 8: 4}
    train = examples(tmp_path / "out", "train")
    assert sorted(int(f["image/source_id"].bytes_list.value[0]) for f in train.values()) == [1, 2, 3, 4, 5]
    first = train["2012_000001.jpg"]
    # From 1 on, both ends included, as VOC counts: the dog is the first 30 pixels.
    assert boxes(first) == [[0, 0, 30, 20], [19, 4, 60, 40]]
    assert texts(first) == ["dog", "cat"] and numbers(first, "class/label") == [12, 8]
    assert numbers(first, "difficult") == [0, 1] == numbers(first, "truncated") and texts(first, "view") == ["Left"] * 2
    encoded = (source / "VOC2012" / "JPEGImages" / "2012_000001.jpg").read_bytes()
    assert first["image/encoded"].bytes_list.value[0] == encoded
    assert first["image/key/sha256"].bytes_list.value[0].decode() == hashlib.sha256(encoded).hexdigest()
    assert first["image/format"].bytes_list.value[0] == b"jpeg"
    facts = summary["splits"]["train"]
    assert (facts["images"], facts["boxes"], facts["difficult"], facts["truncated"]) == (5, 8, 3, 3)
    assert facts["boxes_per_class"]["dog"] == 5 and facts["boxes_per_class"]["sofa"] == 0
    assert facts["box_sizes"] == {"small": 5, "medium": 3, "large": 0}
    assert facts["image_sizes"] == {"height": {"min": 40, "mean": 40, "max": 40}, "width": {"min": 60, "mean": 60, "max": 60}}
    assert summary["bad"] == []


def test_voc_years_sets_and_difficult_ones(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = datasets.voc(tmp_path / "VOCdevkit", {"trainval": 2, "test": 2}, "2007")
    datasets.voc(source, {"trainval": 3, "train": 2})
    both = converted(capsys, "--format", "voc", source, tmp_path / "a")
    assert {split: facts["images"] for split, facts in both["splits"].items()} == {"trainval": 5, "test": 2}
    ids = [int(f["image/source_id"].bytes_list.value[0]) for f in examples(tmp_path / "a", "trainval").values()]
    assert sorted(ids) == [1, 2, 3, 4, 5]
    one = converted(capsys, "--format", "voc", source, tmp_path / "b", "--year", 2012, "--sets", "train", "--skip-difficult")
    assert one["splits"]["train"]["images"] == 2 and one["splits"]["train"]["boxes_per_class"]["cat"] == 0
    # The year's own folder will do.
    own = converted(capsys, "--format", "voc", source / "VOC2007", tmp_path / "c")
    assert {split: facts["images"] for split, facts in own["splits"].items()} == {"trainval": 2, "test": 2}


def test_pets_faces(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = datasets.pets(tmp_path / "pets")
    summary = converted(capsys, "--format", "pets", source, tmp_path / "out")
    assert label_map.read(str(tmp_path / "out" / "label_map.pbtxt")) == datasets.BREEDS
    assert {split: facts["images"] for split, facts in summary["splits"].items()} == {"train": 21, "val": 9}
    train, val = examples(tmp_path / "out", "train"), examples(tmp_path / "out", "val")
    assert len(train) == 21 and len(val) == 9 and not set(train) & set(val)
    for name, features in {**train, **val}.items():
        assert boxes(features) == [[10, 5, 20, 15]] and name.startswith(texts(features)[0] + "_")
    assert summary["bad"] == [] and len({texts(features)[0] for features in train.values()}) == 3
    other = converted(capsys, "--format", "pets", source, tmp_path / "other", "--seed", 1)
    assert set(examples(tmp_path / "other", "val")) != set(val) and other["splits"]["val"]["images"] == 9


def test_pets_bodies(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = datasets.pets(tmp_path / "pets")
    summary = converted(capsys, "--format", "pets", source, tmp_path / "out", "--boxes", "bodies")
    assert {split: facts["images"] for split, facts in summary["splits"].items()} == {"trainval": 30, "test": 12}
    for features in examples(tmp_path / "out", "test").values():
        assert boxes(features) == [[5, 3, 40, 30]]


def test_pets_that_are_bad(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = datasets.pets(tmp_path / "pets")
    trimaps = source / "annotations" / "trimaps"
    put(trimaps / "Abyssinian_1.png", picture("PNG", (30, 40), "L"))
    put(trimaps / "Abyssinian_2.png", picture("PNG", (60, 40), "RGB"))
    put(trimaps / "Abyssinian_3.png", b"nothing")
    (trimaps / "Abyssinian_4.png").unlink()
    datasets.Image.new("L", (60, 40), 2).save(trimaps / "Abyssinian_5.png")
    (source / "annotations" / "xmls" / "Abyssinian_6.xml").unlink()
    summary = converted(capsys, "--format", "pets", source, tmp_path / "bodies", "--boxes", "bodies", "--sets", "trainval")
    assert bad_kinds(summary) == {
        "Abyssinian_1": "size mismatch",
        "Abyssinian_2": "corrupt annotation",
        "Abyssinian_3": "corrupt annotation",
        "Abyssinian_4": "missing file",
        "Abyssinian_5": "corrupt annotation",
    }
    assert bad_kinds(converted(capsys, "--format", "pets", source, tmp_path / "faces")) == {"Abyssinian_6": "missing file"}


def test_coco(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = datasets.coco(tmp_path / "coco", {"train2017": 3, "val2017": 2})
    summary = converted(capsys, "--format", "coco", source, tmp_path / "out")
    assert label_map.read(str(tmp_path / "out" / "label_map.pbtxt")) == {1: "person", 90: "toothbrush"}
    first = examples(tmp_path / "out", "train2017")["000000000001.jpg"]
    assert boxes(first) == [[1.5, 2.5, 20.25, 12.5], [0, 0, 60, 40]] and numbers(first, "class/label") == [1, 90]
    assert numbers(first, "is_crowd") == [0, 1] and list(first["image/object/area"].float_list.value) == [93.75, 1000]
    assert first["image/source_id"].bytes_list.value == [b"10"]
    assert summary["splits"]["train2017"]["crowd"] == 2 and summary["splits"]["val2017"]["images"] == 2
    assert "image/object/view" not in first
    (source / "images").mkdir()
    shutil.move(source / "val2017", source / "images" / "val2017")
    assert (
        converted(capsys, "--format", "coco", source, tmp_path / "val", "--sets", "val2017")["splits"]["val2017"]["boxes"] == 3
    )


def test_coco_that_is_bad(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    good = [1, 1, 5, 5]
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 40, "width": 60} for i in range(1, 11)]
    images += [{"id": 11, "file_name": "../secret.jpg"}, {"id": 12, "file_name": "12.jpg", "height": 60, "width": 40}]
    boxed = {1: good, 2: [50, 1, 20, 5], 3: [1, 1, 0, 5], 4: [1, 1, -5, 5], 5: [1, 1, 5], 6: ["1", 1, 5, 5], 7: good, 8: good}
    found = [datasets.coco_object(i, i, 1, box) for i, box in boxed.items()]
    found += [
        datasets.coco_object(20, 9, 7, good),
        datasets.coco_object(21, 10, None, good),
        datasets.coco_object(22, 99, 1, good),
    ]
    # A rounding beyond the border is cut, and one good box saves an image.
    found += [datasets.coco_object(23, 7, 1, [40, 20, 20.5, 20.5]), datasets.coco_object(24, 8, 1, [-9, 0, 20, 20])]
    found += [datasets.coco_object(25, 1, 1, [1e14, 1, 1, 1]), datasets.coco_object(26, 12, 1, good)]
    source = datasets.coco(tmp_path / "coco", {"val": 1}, images=images, annotations=found)
    for i in (*range(1, 11), 12):
        put(source / "val" / f"{i}.jpg", picture(seed=i))
    put(source / "secret.jpg", picture())
    summary = converted(capsys, "--format", "coco", source, tmp_path / "out", "--shards", 1)
    assert bad_kinds(summary) == {
        "1": "box outside",
        "2": "box outside",
        "3": "box inverted",
        "4": "box inverted",
        "5": "corrupt annotation",
        "6": "corrupt annotation",
        "8": "box outside",
        "9": "unknown class",
        "10": "corrupt annotation",
        "12": "size mismatch",
        "secret": "missing file",
        "val: image 99": "missing image",
    }
    written = examples(tmp_path / "out", "val")
    assert set(written) == {"1.jpg", "7.jpg", "8.jpg"}
    assert boxes(written["7.jpg"]) == [[1, 1, 6, 6], [40, 20, 60, 40]] and len(boxes(written["8.jpg"])) == 1
    assert summary["splits"]["val"]["clipped"] == 1
    assert str(tmp_path) not in json.dumps(summary["bad"])


BAD_IMAGES = {
    "corrupt image": [b"no image", picture()[:-200], picture("PNG")[:-40], picture() + b"\xff\xda" * 101, picture("BMP")],
    "huge image": [picture(size=(400, 300))],
    "EXIF rotation": [picture(exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")],
    "CMYK image": [picture(mode="CMYK")],
    "GIF image": [picture("GIF")],
}


def animated(kind: str) -> bytes:
    frames = [datasets.Image.new("RGB", (60, 40), colour) for colour in ("red", "blue")]
    buffer = datasets.io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def deep_png(colour_type: int) -> bytes:
    """Sixteen bits per channel: 0 grey, 2 colour."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = (b"\0" + bytes(60 * 2 * (3 if colour_type else 1))) * 40
    head = struct.pack(">IIBBBBB", 60, 40, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


BAD_IMAGES["16-bit image"] = [deep_png(0), deep_png(2)]
BAD_IMAGES["animated GIF"] = [animated("GIF")]
BAD_IMAGES["animated PNG"] = [animated("PNG")]
CASES = [(kind, content) for kind, contents in BAD_IMAGES.items() for content in contents]


def test_bad_images_are_named_and_skipped_or_stop_the_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = datasets.voc(tmp_path / "VOCdevkit", {"train": len(CASES) + 5})
    expected = {}
    for number, (kind, content) in enumerate(CASES, start=1):
        put(source / "VOC2012" / "JPEGImages" / f"2012_{number:06d}.jpg", content)
        expected[f"2012_{number:06d}"] = kind
    fifo = source / "VOC2012" / "JPEGImages" / f"2012_{len(CASES) + 1:06d}.jpg"
    fifo.unlink()
    os.mkfifo(fifo)  # reading it would wait forever
    expected[fifo.stem] = "missing file"
    options = ["--format", "voc", source, tmp_path / "out", "--sets", "train", "--shards", 1, "--max-pixels", 100_000]
    summary = converted(capsys, *options)
    assert bad_kinds(summary) == expected
    assert summary["splits"]["train"]["images"] == 4 and summary["bad_by_kind"]["16-bit image"] == 2
    assert run(*options, *QUICK) == 0
    assert "is up to date" in (text := capsys.readouterr().out) and "2 × 16-bit image, such as VOC2012/JPEGImages/" in text
    # What was skipped before stops a strict run too, done or not.
    for folder in ("out", "new"):
        options[3] = tmp_path / folder
        assert "; mend or remove it" in refused(capsys, *options, "--strict")
    assert not list((tmp_path / "new").glob("*.tfrecord")) and not list((tmp_path / "new").glob(".*.partial"))


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("jpeg", picture(mode="L")),
        ("jpeg", picture(progressive=True)),
        ("jpeg", picture(exif=b"Exif\0\0broken")),
        ("png", picture("PNG")),
        *(("png", picture("PNG", mode=mode)) for mode in ("1", "L", "LA", "P", "RGBA")),
    ],
)
def test_unusual_images_that_are_good(kind: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The extension doesn't count: some of Pets' .jpg are PNG."""
    source = datasets.voc(tmp_path / "VOCdevkit", {"train": 1})
    put(source / "VOC2012" / "JPEGImages" / "2012_000001.jpg", content)
    assert converted(capsys, "--format", "voc", source, tmp_path / "out", "--sets", "train")["bad"] == []
    (features,) = examples(tmp_path / "out", "train").values()
    assert features["image/format"].bytes_list.value == [kind.encode()]


def test_bad_annotations_of_voc(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY a "aaaa">' + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdef", "bcdefg", strict=True)
    )
    contents = {
        "unknown class": xml(xml_object("unicorn", 1, 1, 5, 5)),
        "box outside": xml(xml_object("dog", 1, 1, 65, 5)),
        "box inverted": xml(xml_object("dog", 9, 1, 5, 5)),
        "size mismatch": xml(xml_object("dog", 1, 1, 5, 5), size=(40, 60)),
        "corrupt annotation": bomb + "]><annotation>&g;</annotation>",
        "huge file": " " * (5 << 20),
    }
    source = datasets.voc(tmp_path / "VOCdevkit", {"train": len(contents) + 1})
    for number, text in enumerate(contents.values(), start=1):
        put(source / "VOC2012" / "Annotations" / f"2012_{number:06d}.xml", text)
    summary = converted(capsys, "--format", "voc", source, tmp_path / "out", "--sets", "train", "--shards", 1)
    assert list(bad_kinds(summary).values()) == list(contents)
    assert "line 1: a document type (<!DOCTYPE …>) is not allowed" in json.dumps(summary["bad"], ensure_ascii=False)
    assert summary["splits"]["train"]["images"] == 1


def test_other_classes_by_a_label_map(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = datasets.voc(tmp_path / "VOCdevkit", {"train": 2})
    names = put(tmp_path / "map.pbtxt", "item { id: 3 name: 'dog' }")
    options = ["--format", "voc", source, tmp_path / "out", "--sets", "train", "--label-map", names]
    assert converted(capsys, *options)["bad_by_kind"] == {"unknown class": 1}
    assert numbers(examples(tmp_path / "out", "train")["2012_000002.jpg"], "class/label") == [3]
    names.write_text("item { id: 3 name: 'unicorn' }")
    error = refused(capsys, *options)
    assert "no image of train is good; the first: VOC2012/JPEGImages/2012_000001.jpg: " in error and "--label-map" in error
    assert not list((tmp_path / "out").glob("*.tfrecord"))


def test_a_coco_class_of_the_number_0_gets_another_from_a_label_map(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    categories = [{"id": 0, "name": "things"}, {"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]
    source = datasets.coco(tmp_path / "coco", {"train": 2}, categories=categories)
    options = ["--format", "coco", source, tmp_path / "out"]
    assert "category 0 ('things'): ids start at 1" in refused(capsys, *options)
    names = put(tmp_path / "map.pbtxt", "item { id: 1 name: 'toothbrush' } item { id: 2 name: 'person' }")
    assert converted(capsys, *options, "--label-map", names)["bad"] == []
    assert numbers(examples(tmp_path / "out", "train")["000000000001.jpg"], "class/label") == [2, 1]


def test_same_bytes_from_any_number_of_processes_and_no_tensorflow(tmp_path: Path) -> None:
    source = datasets.coco(tmp_path / "coco", {"train": 24, "val": 5})
    for processes in (1, 3):
        code = (
            "import sys; from trainer.data.__main__ import main\n"
            f"assert main(['convert', '--format', 'coco', {str(source)!r}, {str(tmp_path / str(processes))!r}, "
            f"'--processes', '{processes}']) == 0\n"
            "assert 'tensorflow' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    one, three = hashes(tmp_path / "1"), hashes(tmp_path / "3")
    one.pop(convert.JOURNAL), three.pop(convert.JOURNAL)
    assert one == three and len(one) == 8 + 5 + 2


def test_a_second_run_writes_nothing_a_changed_source_all(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = datasets.voc(tmp_path / "VOCdevkit", {"train": 8, "val": 2})
    options = ["--format", "voc", source, tmp_path / "out", "--shards", 2]
    assert converted(capsys, *options)["up_to_date"] is False
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert converted(capsys, *options)["up_to_date"] is True
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    good = hashes(tmp_path / "out")
    damaged = tmp_path / "out" / "train-00001-of-00002.tfrecord"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert converted(capsys, *options)["up_to_date"] is False
    after = hashes(tmp_path / "out")
    good.pop(convert.JOURNAL), after.pop(convert.JOURNAL)
    assert good == after
    kept = tmp_path / "out" / "train-00000-of-00002.tfrecord"
    assert kept.stat().st_mtime_ns == before[kept]
    # The same length, another box.
    annotation = source / "VOC2012" / "Annotations" / "2012_000001.xml"
    put(annotation, annotation.read_text().replace(">30<", ">29<"))
    assert converted(capsys, *options)["up_to_date"] is False
    assert boxes(examples(tmp_path / "out", "train")["2012_000001.jpg"])[0] == [0, 0, 29, 20]
    assert converted(capsys, *options[:-1], 1)["up_to_date"] is False
    assert [path.name for path in sorted((tmp_path / "out").glob("train*"))] == ["train-00000-of-00001.tfrecord"]


def processes_below(process: int) -> list[int]:
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in children]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_stopped_at_any_moment_it_goes_on_and_the_bytes_are_the_same(how: signal.Signals, tmp_path: Path) -> None:
    """The whole run is stopped as soon as a few shards are there: the rest is written later, those few are kept."""
    source = datasets.voc(tmp_path / "VOCdevkit", {"train": 1200})
    out = tmp_path / "out"
    line = [sys.executable, "-m", "trainer.data", "convert", "--format", "voc", str(source), "--sets", "train"]
    line += ["--shards", "40", "--processes", "2"]
    with subprocess.Popen([*line, str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while len(list(out.glob("train-*"))) < 3:
            assert process.poll() is None
            time.sleep(0.01)
        children = processes_below(process.pid)
        process.send_signal(how)
        _, error = process.communicate(timeout=60)
    assert len(children) >= 2
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{child}/exe").exists() for child in children):
        assert time.monotonic() < deadline, "its processes outlive it"
        time.sleep(0.05)
    if how == signal.SIGINT:
        assert (process.returncode, error) == (130, "odcloud: interrupted\n")
        assert not list(out.glob(".*.partial"))
    early = {path: path.stat().st_mtime_ns for path in out.glob("train-*")}
    assert 3 <= len(early) < 40, "it was stopped before or after: proves nothing"
    for path in early:
        assert len(list(tfrecord.read(str(path)))) == 30
    journalled = len((out / convert.JOURNAL).read_text().splitlines()) - 1
    for folder in (out, tmp_path / "undisturbed"):
        subprocess.run([*line, str(folder)], check=True, capture_output=True)
    assert sum(path.stat().st_mtime_ns == changed for path, changed in early.items()) >= journalled > 0
    whole, undisturbed = hashes(out), hashes(tmp_path / "undisturbed")
    whole.pop(convert.JOURNAL), undisturbed.pop(convert.JOURNAL)
    assert whole == undisturbed


def test_strict_in_several_processes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = datasets.voc(tmp_path / "VOCdevkit", {"train": 20})
    put(source / "VOC2012" / "JPEGImages" / "2012_000007.jpg", b"")
    assert run("--format", "voc", source, tmp_path / "out", "--sets", "train", "--strict", "--processes", 2) == 2
    expected = "odcloud: error: VOC2012/JPEGImages/2012_000007.jpg: corrupt image: neither JPEG nor PNG; mend"
    assert capsys.readouterr().err.startswith(expected)
    assert not list((tmp_path / "out").glob(".*.partial"))


def test_wrong_sources_destinations_and_options(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = datasets.voc(tmp_path / "VOCdevkit", {"train": 2, "val": 2})
    out = tmp_path / "out"
    voc = ["--format", "voc", source, out]
    assert "is not a local folder" in refused(capsys, "--format", "voc", tmp_path / "absent", out)
    assert "has no VOC2007/ImageSets/Main or VOC2012/ImageSets/Main" in refused(capsys, "--format", "voc", tmp_path, out)
    assert "--sets test: " in (error := refused(capsys, *voc, "--sets", "test")) and "has train, val\n" in error
    some = datasets.coco(tmp_path / "coco", {"train": 2})
    assert "annotations has instances of train\n" in refused(capsys, "--format", "coco", some, out, "--sets", "val")
    assert "annotations/trainval.txt: no such file" in refused(capsys, "--format", "pets", source, out)
    assert "has no annotations/instances_SET.json" in refused(capsys, "--format", "coco", source, out)
    assert "--boxes: only with --format pets" in refused(capsys, *voc, "--boxes", "faces")
    assert "--shards 0" in refused(capsys, *voc, "--shards", 0)
    assert "--shards 3: more shards than images in train (2)" in refused(capsys, *voc, "--shards", 3)
    assert "--sets: '../x' is not the name of a set" in refused(capsys, *voc, "--sets", "../x")
    assert "names a set twice" in refused(capsys, *voc, "--sets", "train,train")
    assert not out.exists()
    put(out / "train-00000-of-00001.tfrecord", b"somebody's")
    assert "already holds TFRecords" in refused(capsys, *voc)
    put(out / "dataset.json", json.dumps({"parameters": {"dataset": "digits"}}))
    assert "a data set of another kind (digits)" in refused(capsys, *voc)
    assert (out / "train-00000-of-00001.tfrecord").read_bytes() == b"somebody's"
    put(source / "VOC2012" / "ImageSets" / "Main" / "train.txt", "")
    assert "its set train names no image" in refused(capsys, *voc)
    put(source / "VOC2012" / "ImageSets" / "Main" / "train.txt", "../../secret\n")
    assert "'../../secret' is not the name of an image" in refused(capsys, *voc)


def test_lists_with_a_byte_order_mark(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = datasets.pets(tmp_path / "pets", 3)
    for path in (source / "annotations").glob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    summary = converted(capsys, "--format", "pets", source, tmp_path / "out", "--sets", "trainval")
    assert summary["splits"]["trainval"]["images"] == 9


def test_a_shard_of_bad_images_only(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = datasets.voc(tmp_path / "VOCdevkit", {"train": 2})
    put(source / "VOC2012" / "JPEGImages" / "2012_000001.jpg", b"")
    options = ["--format", "voc", source, tmp_path / "out", "--sets", "train"]
    assert "no image is left for it, 1 items of train being bad; give fewer --shards" in refused(capsys, *options)
    assert converted(capsys, *options, "--shards", 1)["splits"]["train"]["images"] == 1


@pytest.mark.slow
def test_model_garden_reads_all_three(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """In a process of its own, with its own decoder."""
    converted(capsys, "--format", "voc", datasets.voc(tmp_path / "v", {"train": 2}), tmp_path / "voc", "--sets", "train")
    converted(capsys, "--format", "pets", datasets.pets(tmp_path / "p", 1), tmp_path / "pets")
    converted(capsys, "--format", "coco", datasets.coco(tmp_path / "c", {"train": 2}), tmp_path / "coco")
    code = f"""
import tensorflow as tf
from official.vision.dataloaders import tf_example_decoder
decoder = tf_example_decoder.TfExampleDecoder()
for form, crowds in (("voc", 0), ("pets", 0), ("coco", 1)):
    files = tf.io.gfile.glob({str(tmp_path)!r} + f"/{{form}}/train-*.tfrecord")
    found = [decoder.decode(data) for data in tf.data.TFRecordDataset(files)]
    assert len(found) == 2, (form, len(found))
    assert sum(int(tf.reduce_sum(tf.cast(item["groundtruth_is_crowd"], tf.int32))) for item in found) == crowds
    for item in found:
        assert item["image"].shape == (40, 60, 3) and int(tf.strings.to_number(item["source_id"], tf.int64)) > 0
        assert item["groundtruth_boxes"].shape[0] == item["groundtruth_classes"].shape[0] >= 1
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
