"""Output files as lines and payloads."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localcloud.jobs import lines


@given(st.lists(st.text("aé€😀{ \r", max_size=12), max_size=8), st.lists(st.integers(1, 9), max_size=40), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_growing_file_gives_each_line_once(tmp_path: Path, texts: list[str], sizes: list[int], ended: bool) -> None:
    path = tmp_path / "log"
    data = "\n".join(texts).encode() + (b"\n" if ended and texts else b"")
    path.write_bytes(b"")
    offset, found, rest = 0, [], data
    for size in sizes:
        with path.open("ab") as file:
            file.write(rest[:size])
        rest = rest[size:]
        new, offset = lines.read_lines(path, offset)
        found += new
    with path.open("ab") as file:
        file.write(rest)
    new, offset = lines.read_lines(path, offset, final=True)
    expected = [line.removesuffix("\r") for line in data.decode().split("\n")]
    assert found + new == (expected[:-1] if not expected[-1] and not data.endswith(b"\r") else expected)
    assert offset == len(data)


def test_long_lines_come_in_pieces_that_split_no_character(tmp_path: Path) -> None:
    path = tmp_path / "log"
    text = "x" + "€" * lines.MAX_LINE
    path.write_text(text + "\nnext\n")
    found, _ = lines.read_lines(path, 0)
    assert "".join(found[:-1]) == text
    assert found[-1] == "next"
    assert max(len(piece.encode()) for piece in found) <= lines.MAX_LINE
    assert "\ufffd" not in "".join(found)


def test_a_limited_read_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("one\ntwo\nthree")
    first, offset = lines.read_lines(path, 0, final=True, limit=6)
    second, offset = lines.read_lines(path, offset, final=True)
    assert (first, second) == (["one"], ["two", "three"])
    assert lines.read_lines(tmp_path / "none", 5) == ([], 5)


def wrapped(line: str) -> dict[str, object]:
    return {"severity": "ERROR", "jsonPayload": {"message": line, "levelname": "ERROR", "attrs": {"tag": "workerpool0-0"}}}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("plain", wrapped("plain")),
        ('{"a": 1}', {"severity": "ERROR", "jsonPayload": {"a": 1}}),
        ('{"severity": "warning", "a": 1}', {"severity": "WARNING", "jsonPayload": {"a": 1}}),
        ('{"severity": "loud"}', {"severity": "ERROR", "jsonPayload": {"severity": "loud"}}),
        ('{"severity": 3}', {"severity": "ERROR", "jsonPayload": {"severity": 3}}),
        ('{"loss": NaN}', wrapped('{"loss": NaN}')),
        ("[1]", wrapped("[1]")),
        ("{", wrapped("{")),
        ("", wrapped("")),
    ],
)
def test_payloads(line: str, expected: dict[str, object]) -> None:
    assert lines.payload(line, "ERROR", "workerpool0-0") == expected


def test_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"%d\n\n" % i for i in range(50)) + b"\xff")
    assert lines.last_lines(path, 3) == ["48", "49", "\ufffd"]
    assert lines.last_lines(tmp_path / "none") == []
