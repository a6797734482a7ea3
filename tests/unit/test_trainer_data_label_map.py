"""Label maps: what is read, and the line that each mistake is found in."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data import label_map
from trainer.errors import InputError

GOOD = """\
# pets
item {
  id: 2
  name: 'Bengal'
}
item { name: "/m/01yrx" id: 1 display_name: "cat" }
"""


def test_reads_in_order_of_id_and_prefers_display_names(tmp_path: Path) -> None:
    file = tmp_path / "map.pbtxt"
    file.write_text(GOOD)
    assert label_map.read(str(file)) == {1: "cat", 2: "Bengal"}
    assert list(label_map.read(str(file))) == [1, 2]


def test_reads_every_field_that_the_object_detection_api_has() -> None:
    text = "item { name: 'a' id: 1 keypoints { id: 3 label: 'nose' } ancestor_ids: [4, 5] frequency: COMMON instance_count: 2 }"
    assert label_map.parse(text, "map") == {1: "a"}


def test_reads_background_and_equal_display_names_as_the_object_detection_api_has_them() -> None:
    mouse = "item {{ name: '{}' id: {} display_name: 'Mouse' }}".format
    text = "item { name: 'background' id: 0 }" + mouse("/m/04rmv", 315) + mouse("/m/020lf", 347)
    assert label_map.parse(text, "map") == {315: "Mouse", 347: "Mouse (/m/020lf)"}
    with pytest.raises(InputError, match="is already taken in line 1"):
        label_map.parse(text + mouse("/m/020lf", 348), "map")


def test_reads_what_it_renders() -> None:
    assert label_map.parse(label_map.render({2: "zwei '\"", 1: "größe\n"}, {1: "eins"}), "map") == {1: "eins", 2: "zwei '\""}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "map.pbtxt: the label map is empty"),
        ("# nothing\n", "map.pbtxt: the label map is empty"),
        ("item { id: 0 name: 'background' }", "map.pbtxt: the label map is empty"),
        ("item {\n id: 1\n name: 'a'\n}\nitem {\n name: 'b'\n id: 1\n}", "map.pbtxt: line 7: id 1 is already taken in line 2"),
        ("item { id: 1 name: 'a' }\nitem { id: 2\n name: 'a' }", "map.pbtxt: line 3: name 'a' is already taken in line 1"),
        ("item {\n id: 0\n name: 'a'\n}", "map.pbtxt: line 2: id 0 is not allowed"),
        ("item {\n id: -3\n name: 'a'\n}", "map.pbtxt: line 2: id -3 is not allowed"),
        ("item {\n name: 'a'\n}", "map.pbtxt: line 1: item without an id"),
        ("item { id: 1 name: 'a' }\n\nitem {\n id: 2\n}", "map.pbtxt: line 3: item with id 2 has no name"),
        ("item {\n id: 2\n name: ' '\n}", "map.pbtxt: line 3: item with id 2 has no name"),
        ("item {\n id: 1\n nome: 'a'\n}", "map.pbtxt: line 3: not a valid label map"),
        ("item {\n id: 'x'\n}", "map.pbtxt: line 2: not a valid label map"),
        ("item {\n id: 1\n", "map.pbtxt: line 2: not a valid label map"),
        ("item: [{id: 1 name: 'a'},\n {id: 1 name: 'b'}]", "map.pbtxt: line 2: id 1 is already taken in line 1"),
        ("item < id: 1 name: '}' >\nitem < id: 2 name: '}' >", "map.pbtxt: line 2: name '}' is already taken in line 1"),
    ],
)
def test_mistakes_are_found_where_they_are(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        label_map.parse(text, "map.pbtxt")
    assert str(caught.value).startswith(message)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.pbtxt: there is no such label map"):
        label_map.read(str(tmp_path / "absent.pbtxt"))
    with pytest.raises(InputError, match="the label map cannot be read: Is a directory"):
        label_map.read(str(tmp_path))
    (tmp_path / "binary.pbtxt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a UTF-8 text"):
        label_map.read(str(tmp_path / "binary.pbtxt"))


PIECES = [
    "item",
    "{",
    "}",
    "<",
    ">",
    "[",
    "]",
    ":",
    ",",
    "id",
    "name",
    "display_name",
    "keypoints",
    "1",
    "-1",
    "'a'",
    '"b"',
    "\n",
    "#",
    "'",
]


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map(" ".join)))
def test_any_text_is_either_read_or_refused_with_its_name(text: str) -> None:
    try:
        names = label_map.parse(text, "map.pbtxt")
    except InputError as error:
        assert str(error).startswith("map.pbtxt: ")
    else:
        assert names and min(names) >= 1 and all(names.values())


@given(st.dictionaries(st.integers(1, 2**31 - 1), st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_any_names_come_back_or_are_refused(names: dict[int, str]) -> None:
    try:
        assert label_map.parse(label_map.render(names), "map") == dict(sorted(names.items()))
    except InputError:
        assert len(set(names.values())) < len(names) or not all(name.strip() for name in names.values())
