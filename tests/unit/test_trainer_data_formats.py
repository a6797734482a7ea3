"""Annotation files of any content: read, or refused with one sentence; bombs cost nothing."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.data import coco, images, json_stream, voc
from trainer.data.annotations import BadImage
from trainer.errors import InputError

GOOD_XML = datasets.xml(datasets.xml_object("dog", 1, 1, 30, 20), datasets.xml_object("cat", 5.5, "2", 60, 40, 1, 1))
PIECES = [
    *(
        "<annotation>",
        "</annotation>",
        "<object>",
        "</object>",
        "<bndbox>",
        "</bndbox>",
        "<size>",
        "</size>",
        "<name>",
        "</name>",
    ),
    *("<xmin>1</xmin>", "<ymin>nan</ymin>", "<xmax>1e999</xmax>", "<ymax>-5</ymax>", "<width>x</width>", "<height/>", "dog"),
    *("<!DOCTYPE a [<!ENTITY b 'c'>]>", "&b;", "&#0;", "<?xml version='1.0' encoding='utf-7'?>", "\0", "é", "<![CDATA["),
]


def damaged(data: st.DataObject, good: bytes) -> bytes:
    """Some bytes of a good file replaced, removed or added."""
    text = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        text[start : start + data.draw(st.integers(0, 30))] = data.draw(
            st.binary(max_size=8) | st.sampled_from([b'"', b"<", b"}", b"9" * 20])
        )
    return bytes(text)


def is_refused_in_one_line(read: Callable[[], object], place: str) -> None:
    try:
        read()
    except InputError as error:
        assert str(error).startswith(place) and len(str(error).splitlines()) == 1


@given(st.binary() | st.text().map(str.encode) | st.lists(st.sampled_from(PIECES)).map("".join).map(str.encode))
def test_any_xml(data: bytes) -> None:
    is_refused_in_one_line(lambda: voc.parse(data, "a.xml"), "a.xml: ")
    is_refused_in_one_line(lambda: voc.parse(b"<annotation>" + data + b"</annotation>", "a.xml"), "a.xml: ")


@given(st.data())
def test_damaged_xml(data: st.DataObject) -> None:
    content = damaged(data, GOOD_XML.encode())
    is_refused_in_one_line(lambda: voc.parse(content, "a.xml"), "a.xml: ")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<xmin>1</xmin>", "", "line 12: <xmin> is '', a number expected"),
        ("<xmin>1</xmin>", "<xmin>one</xmin>", "line 12: <xmin> is 'one', a number expected"),
        ("<xmin>1</xmin>", "<xmin>inf</xmin>", "line 12: <xmin> is inf, a number of pixels expected"),
        ("<name>dog</name>", "<name> </name>", ": <object> has no <name>"),
        ("bndbox", "box", ": <object> ('dog') has no <bndbox>"),
        ("annotation>", "notation>", "line 1: <notation> is not <annotation>"),
        ("</size>", "", "is not XML: mismatched tag"),
    ],
)
def test_mistakes_in_xml_are_found_where_they_are(old: str, new: str, message: str) -> None:
    assert old in GOOD_XML
    with pytest.raises(InputError) as caught:
        voc.parse(GOOD_XML.replace(old, new).encode(), "a.xml")
    assert str(caught.value).startswith("a.xml: line ") and message in str(caught.value)


def test_xml_bombs_cost_nothing() -> None:
    entities = "".join(f"<!ENTITY e{i} '{f'&e{i - 1};' * 50 if i else 'x' * 1000}'>" for i in range(20))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="a document type"):
            voc.parse(f"<!DOCTYPE a [{entities}]><annotation>&e19;</annotation>".encode(), "a.xml")
        with pytest.raises(InputError, match="a document type"):
            voc.parse(b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "a.xml")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    with pytest.raises(InputError):
        voc.parse(b"<annotation>" * 200_000, "a.xml")
    deep = b"<a>" * 100_000 + b"</a>" * 100_000
    assert voc.parse(b"<annotation>" + deep + b"</annotation>", "a.xml").objects == []


FIELDS = st.sampled_from(
    [
        "id",
        "image_id",
        "category_id",
        "bbox",
        "area",
        "iscrowd",
        "file_name",
        "height",
        "width",
        "name",
        "images",
        "annotations",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS | st.text(), inner, max_size=6),
)
ENTRIES = st.lists(st.dictionaries(FIELDS, JSON | st.just([1, 2, 3, 4]) | st.just(1), max_size=6), max_size=4)
SECTIONS = st.fixed_dictionaries({"images": JSON | ENTRIES, "annotations": JSON | ENTRIES, "categories": JSON | ENTRIES})
fuzz = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@fuzz
@given(st.binary() | st.text().map(str.encode) | (JSON | SECTIONS).map(lambda value: json.dumps(value).encode()))
def test_any_json(tmp_path: Path, data: bytes) -> None:
    path = datasets.put(tmp_path / "a.json", data)
    is_refused_in_one_line(lambda: coco.read(path), f"{path}: ")


@pytest.fixture(scope="module")
def good_json(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = datasets.coco(tmp_path_factory.mktemp("coco"), {"val": 3})
    return (folder / "annotations" / "instances_val.json").read_bytes()


@fuzz
@given(data=st.data())
def test_damaged_json(tmp_path: Path, data: st.DataObject, good_json: bytes) -> None:
    path = datasets.put(tmp_path / "a.json", damaged(data, good_json))
    is_refused_in_one_line(lambda: coco.read(path), f"{path}: ")


@settings(fuzz, max_examples=50)
@given(value=st.dictionaries(st.text(max_size=3), st.lists(JSON) | JSON, max_size=4), piece=st.integers(1, 7))
def test_it_is_read_as_by_json_wherever_it_is_cut(tmp_path: Path, value: dict, piece: int) -> None:
    text = json.dumps(value).replace("NaN", "0").replace("Infinity", "1")
    path = datasets.put(tmp_path / "a.json", text)
    lists = {key for key, content in value.items() if isinstance(content, list)}
    expected = [(key, element) for key, content in json.loads(text).items() if key in lists for element in content]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_PIECE", piece)
        assert list(json_stream.elements(path, lists)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at character 1: ends too early"),
        ("[]", "at character 1: { expected"),
        ('{"licenses": [{"id": 1}', "at character 24: ends too early"),
        ('{"images": [{"id": 1', "at character 13: Expecting"),
        ('{"images": {}}', 'at character 12: "images" is not a list'),
        ('{"images": [NaN]}', "at character 13: is not valid JSON"),
        ('{"images": []} x', "at character 16: something follows the end"),
        ('{"images": [' + "[" * 100_000, "at character 13: nested too deeply"),
        ('{"x": ' + "1" * 5000 + "}", "at character 7: is not valid JSON"),
        ('{"images": [7]}', "images[0] is not an object"),
        ('{"images": [{"id": "7"}]}', "images[0].id: a whole number from 0"),
        ('{"images": [{"id": 7}]}', "images[0].file_name: a text expected, nothing found"),
        ('{"images": [{"id": 7, "file_name": "\\ud800"}]}', "images[0].file_name: a text expected"),
        ('{"categories": [{"id": -1, "name": "a"}]}', "categories[0].id: a whole number from 0"),
        ('{"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}', "categories[1].name: 'a' is taken already"),
        ('{"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}', "categories[1].id: 1 is taken already"),
        ('{"categories": [{"id": 1, "name": "a"}]}', "has no images"),
    ],
)
def test_mistakes_in_json_are_found_where_they_are(text: str, message: str, tmp_path: Path) -> None:
    path = datasets.put(tmp_path / "a.json", text)
    with pytest.raises(InputError) as caught:
        coco.read(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_large_json_takes_little_memory(tmp_path: Path) -> None:
    """6 MB, nearly all of it masks, as in COCO's."""
    polygon = [[round(i * 0.37, 2) for i in range(2000)]]
    found = [datasets.coco_object(i, i, 1, [1, 1, 5, 5], segmentation=polygon) for i in range(1, 500)]
    listed = [{"id": i, "file_name": f"{i}.jpg", "height": 40, "width": 60} for i in range(1, 500)]
    datasets.coco(tmp_path, {"val": 1}, images=listed, annotations=found)
    path = tmp_path / "annotations" / "instances_val.json"
    assert path.stat().st_size > 5 << 20
    tracemalloc.start()
    try:
        assert len(coco.read(path).objects) == 499
        assert tracemalloc.get_traced_memory()[1] < 8 << 20  # as objects: 40 MB
    finally:
        tracemalloc.stop()


@given(st.binary())
def test_any_image(data: bytes) -> None:
    with pytest.raises(BadImage):
        images.inspect(data)


GOOD_IMAGES = [datasets.picture(), datasets.picture("PNG"), datasets.picture("GIF"), datasets.picture(progressive=True)]


@settings(deadline=None)
@given(st.data())
def test_damaged_images(data: st.DataObject) -> None:
    content = damaged(data, data.draw(st.sampled_from(GOOD_IMAGES)))
    try:
        picture = images.inspect(content, 10_000)
    except BadImage as error:
        assert error.problem.kind
    else:
        assert picture.size[0] * picture.size[1] <= 10_000


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(buffer, "PNG")
    assert len(buffer.getvalue()) < 30_000
    tracemalloc.start()
    try:
        with pytest.raises(BadImage) as caught:
            images.inspect(buffer.getvalue())
        assert caught.value.problem.kind == "huge image"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
