"""Image files as they come, with limits: what training can decode is let through unchanged, the rest is named."""

from __future__ import annotations

import io
import os
import re
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from trainer.data.annotations import BadImage

MAX_PIXELS = 50_000_000  # decoded, three bytes each
HIGHEST_MAX_PIXELS = 178_956_970  # where Pillow refuses to open an image
MAX_BYTES = 100 << 20  # of an image file
_MAX_SCANS = 100  # of a progressive JPEG, which are ten or so; each costs a pass over the whole image
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
# What ends a scan's data, where FF 00 stands for a byte FF, FF D0 to FF D7 are restarts, further FFs fill (ITU-T T.81, B.1.1).
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_BEGINNING = 1024  # bytes of a scan's data
_ORIENTATION = 0x0112  # EXIF tag
_UPRIGHT = (None, 0, 1)
_JPEG_MODES, _PNG_MODES = ("L", "RGB"), ("1", "L", "LA", "P", "PA", "RGB", "RGBA")


class Picture(NamedTuple):
    """encoded: the file's bytes. form: "jpeg" or "png", by content. size: height and width in pixels."""

    encoded: bytes
    form: str
    size: tuple[int, int]


def read(path: Path, max_pixels: int = MAX_PIXELS) -> Picture:
    """Reads an image file and decodes it to see that it can be. Raises BadImage."""
    return inspect(read_bytes(path, MAX_BYTES), max_pixels)


def read_bytes(path: Path, limit: int) -> bytes:
    """A regular file's bytes. Raises BadImage when it is missing, something else (a pipe would wait forever), or too long."""
    try:
        with open(path, "rb", buffering=0, opener=_open_without_waiting) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise BadImage("missing file", f"{path} is not a regular file")
            if facts.st_size > limit:
                raise BadImage("huge file", f"{path} has {facts.st_size} bytes, {limit} are allowed")
            return file.read(facts.st_size) or b""
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise BadImage("missing file", f"{path}: {reason}") from error


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def inspect(encoded: bytes, max_pixels: int = MAX_PIXELS) -> Picture:
    """The same for an image file's bytes."""
    try:
        stream = io.BytesIO(encoded)
        with opened(stream, ("JPEG", "PNG", "GIF")) as image:
            return _inspect(image, stream, encoded, max_pixels)
    except BadImage:
        raise
    except Image.DecompressionBombError as error:
        raise BadImage("huge image", f"more than {HIGHEST_MAX_PIXELS} pixels") from error
    except Image.UnidentifiedImageError as error:
        raise BadImage("corrupt image", "neither JPEG nor PNG") from error
    # Pillow's decoders raise whatever a damaged file makes them meet (OSError, SyntaxError, ValueError, struct.error …).
    except Exception as error:
        raise BadImage("corrupt image", str(error) or type(error).__name__) from error


@contextmanager
def opened(stream: io.BytesIO, formats: tuple[str, ...] | None = None) -> Iterator[Image.Image]:
    """The image, its header read. Without Pillow's warnings, as of many pixels: who opens it looks at its size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(stream, formats=formats) as image:
            yield image


def _inspect(image: Image.Image, stream: io.BytesIO, encoded: bytes, max_pixels: int) -> Picture:
    width, height = image.size
    if width * height > max_pixels:
        raise BadImage("huge image", f"{width}×{height} pixels, {max_pixels} are allowed (--max-pixels)")
    is_png = image.format == "PNG"
    if getattr(image, "is_animated", False) and image.format != "MPO":  # a JPEG with a second view is a JPEG
        raise BadImage(f"animated {image.format}", "has several frames; export the one that was annotated as JPEG or PNG")
    if image.format == "GIF":
        raise BadImage("GIF image", "training reads JPEG and PNG; convert it")
    if is_png and encoded[24] == 16:  # the header's bit depth: Pillow hides that of colour images
        raise BadImage("16-bit image", "16 bits per channel; convert it to 8")
    if image.mode == "CMYK":
        raise BadImage("CMYK image", "four inks; convert it to RGB")
    _require(image.mode, _PNG_MODES if is_png else _JPEG_MODES)
    orientation = _orientation(image)
    if orientation not in _UPRIGHT:
        reason = (
            f"EXIF orientation {orientation}: it is unclear which way up it was annotated; turn the pixels and drop the tag"
        )
        raise BadImage("EXIF rotation", reason)
    if not is_png:
        _prepare_jpeg(image, stream, encoded)
    image.load()
    return Picture(encoded, "png" if is_png else "jpeg", (height, width))


def _prepare_jpeg(image: Image.Image, stream: io.BytesIO, encoded: bytes) -> None:
    """Lets the decoder do as little as shows whether it can decode all of the opened image; `stream` is what it reads.

    Nothing between two markers is fatal to it, where it goes on with grey: with one scan only, decoding the headers and looking
    for the end comes to the same as decoding the image, in a tenth of the time.
    """
    scan = stream.tell()  # where the first scan's data begin: until there Pillow reads to open an image
    components = len(image.getbands())
    header = _START_OF_SCAN + bytes([0, 6 + 2 * components, components])  # marker, length, number of components
    if (
        encoded.startswith(header, scan - 2 - header[3])
        and not image.info.get("progressive")
        and (end := _MARKER.search(encoded, scan))
        and end[0] == _END_OF_IMAGE
        and end.end() == len(encoded)
    ):
        stream.truncate(min(scan + _BEGINNING, end.start()))
        stream.seek(0, os.SEEK_END)
        stream.write(_END_OF_IMAGE)
    elif encoded.count(_START_OF_SCAN) > _MAX_SCANS:
        raise BadImage("corrupt image", f"more than {_MAX_SCANS} scans")
    # At an eighth of the size all of the compressed data is still read, in a third of the time.
    image.draft("L", (max(1, image.width // 8), max(1, image.height // 8)))


def _require(mode: str, modes: Sequence[str]) -> None:
    if mode not in modes:
        raise BadImage("unusual image", f"pixels of kind {mode}; convert it to RGB")


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # damaged EXIF data, which training doesn't read
        return None
