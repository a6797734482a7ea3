"""Files made to hurt whoever reads them: each is refused in one line, within seconds of processor time and little memory."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import pytest

from trainer.data import examples

MEMORY = 700 << 20  # bytes of address space, libraries included
SECONDS = 20  # of processor time
READ = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, ({seconds}, {seconds}))
from trainer.data import coco, fitness, images, inspection, label_map, records, voc
from trainer.data.annotations import BadImage
from trainer.errors import InputError
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
path = sys.argv[2]
readers = dict(
    xml=lambda: voc.parse(images.read_bytes(Path(path), voc.MAX_XML), path),
    json=lambda: coco.read(Path(path)),
    pbtxt=lambda: label_map.read(path),
    tfrecord=lambda: records.check(path, {{1: "dog"}}),
    inspect=lambda: inspection.inspect([path], str(Path(path).with_name("label_map.pbtxt")), 2, 0, lambda done: None),
)
try:
    readers[sys.argv[1]]()
except (InputError, BadImage) as error:
    print(error)
    sys.exit(3)
"""

LAUGHS = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
XML = {
    "a billion laughs": f'<!DOCTYPE x [<!ENTITY a0 "ha">{LAUGHS}]><annotation>&a11;</annotation>',
    "quadratic blow-up": f'<!DOCTYPE x [<!ENTITY a "{"a" * 100_000}">]><annotation>{"&a;" * 30_000}</annotation>',
    "an external entity": '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation>&a;</annotation>',
    "an external document type": '<!DOCTYPE annotation SYSTEM "http://127.0.0.1:1/x.dtd"><annotation/>',
    "a parameter entity": '<!DOCTYPE x [<!ENTITY % a SYSTEM "file:///dev/zero"> %a;]><annotation/>',
    "deep nesting": "<annotation>" + "<object>" * 400_000,
    "more bytes than any annotation has": "<annotation>" + " " * (5 << 20) + "</annotation>",
    "one huge name": f"<annotation><object><name>{'x' * 3_000_000}</name></object></annotation>",
    "a number of a million digits": f"<annotation><size><width>{'9' * 1_000_000}</width><height>1</height></size></annotation>",
}
JSON = {
    "deep nesting": '{"images": [' + "[" * 200_000,
    "deep nesting of what is dropped": '{"other": ' + '{"a":' * 200_000,
    "a number of ten million digits": '{"images": [{"id": ' + "9" * 10_000_000 + ', "file_name": "a"}]}',
    "a text without an end": '{"images": [{"file_name": "' + "x" * (40 << 20),
    "an exponent beyond all numbers": '{"images": [{"id": 1e999999999, "file_name": "a"}]}',
    "many escapes": '{"images": [{"id": 1, "file_name": "' + "\\ud800" * 500_000 + '"}]}',
}
PBTXT = {
    "deep nesting": "item {" * 100_000,
    "deep nesting of what is unknown": "other {" * 100_000,
    "a number of a million digits": f"item {{ id: {'9' * 1_000_000} name: 'a' }}",
    "a text without an end": "item { id: 1 name: '" + "x" * (8 << 20),
}


def framed(payload: bytes, length: int | None = None) -> bytes:
    """A TFRecord, its length's checksum right whatever the length."""

    def checksum(data: bytes) -> bytes:
        crc = google_crc32c.value(data)
        return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    head = struct.pack("<Q", len(payload) if length is None else length)
    return head + checksum(head) + payload + checksum(payload)


def png(width: int, height: int) -> bytes:
    """A few bytes that say they are so large an image, black."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = io.BytesIO()
    packer = zlib.compressobj(9)
    for _ in range(min(height, 3000)):
        pixels.write(packer.compress(bytes(1 + width * 3)))
    pixels.write(packer.flush())
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels.getvalue()) + chunk(b"IEND", b"")


def example(encoded: bytes, boxes: int = 1) -> bytes:
    made = examples.build(encoded, "png", (10, 10), "a.png", 1, [(0, 0, 5, 5)] * boxes, [1] * boxes, ["dog"] * boxes)
    return made.SerializeToString()


# Protobuf: field 1, length-delimited, again and again within itself.
def nested(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        length = len(data)
        size = b""
        while length > 0x7F:
            size += bytes([length & 0x7F | 0x80])
            length >>= 7
        data = b"\x0a" + size + bytes([length]) + data
    return data


TFRECORD: dict[str, Callable[[], bytes]] = {
    "a length beyond the file": lambda: framed(b"x", 1 << 60),
    "a length beyond all": lambda: framed(b"x", (1 << 64) - 1),
    "deep nesting": lambda: framed(nested(5_000)),
    "a length beyond the message": lambda: framed(b"\x0a\xff\xff\xff\xff\x0f"),
    "a decompression bomb": lambda: framed(example(png(17_000, 17_000))),
    "no image": lambda: framed(example(b"GIF89a")),
}


def refusal(kind: str, path: Path) -> str:
    code = READ.format(seconds=SECONDS, memory=MEMORY)
    done = subprocess.run([sys.executable, "-c", code, kind, str(path)], capture_output=True, text=True)
    assert done.returncode == 3, (done.returncode, done.stdout[-500:], done.stderr[-2000:])
    assert not done.stderr
    (line,) = done.stdout.splitlines()
    assert str(path) in line and len(line) < 600
    return line


@pytest.mark.parametrize("kind", ["tfrecord", "inspect"])
def test_an_image_that_is_barely_allowed_is_not_decoded(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "train-00000-of-00001.tfrecord"
    path.write_bytes(framed(example(png(13_000, 13_000))))
    (tmp_path / "label_map.pbtxt").write_text("item { id: 1 name: 'dog' }")
    code = READ.format(seconds=SECONDS, memory=MEMORY)
    done = subprocess.run([sys.executable, "-c", code, kind, str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", XML)
def test_xml(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(XML[name])
    line = refusal("xml", path)
    assert ("a document type" in line) == ("<!DOCTYPE" in XML[name])


@pytest.mark.parametrize("name", JSON)
def test_json(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(JSON[name])
    refusal("json", path)


@pytest.mark.parametrize("name", PBTXT)
def test_label_map(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pbtxt"
    path.write_text(PBTXT[name])
    refusal("pbtxt", path)


@pytest.mark.parametrize("kind", ["tfrecord", "inspect"])
@pytest.mark.parametrize("name", TFRECORD)
def test_tfrecord(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "train-00000-of-00001.tfrecord"
    path.write_bytes(TFRECORD[name]())
    (tmp_path / "label_map.pbtxt").write_text("item { id: 1 name: 'dog' }")
    refusal(kind, path)


def test_the_limits_would_show(tmp_path: Path) -> None:
    """What is read here in earnest fits easily: the limits themselves are what the others are measured by."""
    path = tmp_path / "a.json"
    image = {"id": 1, "file_name": "a.jpg"}
    path.write_text(json.dumps({"images": [image], "annotations": [], "categories": [{"id": 1, "name": "dog"}]}))
    code = READ.format(seconds=SECONDS, memory=MEMORY)
    assert subprocess.run([sys.executable, "-c", code, "json", str(path)]).returncode == 0
    hog = code.replace("coco.read(Path(path))", "bytearray(1 << 30)")
    done = subprocess.run([sys.executable, "-c", hog, "json", str(path)], capture_output=True, text=True)
    assert done.returncode == 1 and "MemoryError" in done.stderr
