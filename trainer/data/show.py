"""A data set for people: tables and histograms on the terminal, and a sheet of images."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from trainer import drawing, files
from trainer.data import images, inspection
from trainer.data.fitness import Finding
from trainer.data.inspection import Found, Sample, Split
from trainer.errors import InputError

_BAR = 30  # characters
_MARKS = {"ok": "✓", "warning": "!", "error": "✗"}
_MAX_SIDE = 1000  # pixels of an image on the sheet


def text(found: Found, findings: Sequence[Finding]) -> str:
    """What was found, for the terminal."""
    return "\n".join(_lines(found, findings))


def _lines(found: Found, findings: Sequence[Finding]) -> Iterator[str]:
    for split in found.splits:
        facts = split.tally.summary(found.names.values())
        size = f"{len(split.files)} files of {_size(split.bytes)}"
        yield f"{split.name}: {facts['images']} images, {facts['boxes']} boxes, {size}"
        yield from _facts(split, facts)
    yield ""
    names = [split.name for split in found.splits]
    yield from _table("class", "boxes", names, {
        name: [split.tally.per_class.get(name, 0) for split in found.splits] for name in found.names.values()
    })  # fmt: skip
    yield ""
    yield from _table("box side in pixels", "boxes", names, {
        name: [split.sides[index] for split in found.splits] for index, name in _used_sides(found)
    })  # fmt: skip
    yield ""
    if not found.duplicates:
        yield "No image is there twice."
    for (first, second), count in found.duplicates.items():
        yield (
            f"{count} images of {second} are in {first}, too"
            if first != second
            else f"{count} images of {first} are there twice"
        )
    for first, second in found.duplicate_places[:5]:
        yield f"  {second} is {first}"
    if findings:
        yield ""
    for finding in findings:
        yield f"{_MARKS[finding.state]} {finding.text}"


def _used_sides(found: Found) -> list[tuple[int, str]]:
    """The histogram's intervals from the first to the last that has a box."""
    named = [*enumerate(inspection.side_names())]
    used = [index for index, _ in named if any(split.sides[index] for split in found.splits)]
    return named[used[0] : used[-1] + 1] if used else named


def _facts(split: Split, facts: Mapping[str, Any]) -> Iterator[str]:
    sides = facts["image_sizes"]
    width, height = (f"{sides[side]['min']}–{sides[side]['max']}" for side in ("width", "height"))
    empty = facts["images_without_boxes"]
    yield f"  {width} × {height} pixels; at most {split.most_boxes} boxes in an image; {empty} without any"
    flags = ", ".join(f"{facts[flag]} {flag}" for flag in ("difficult", "truncated", "crowd") if facts[flag])
    if flags:
        yield f"  of the boxes {flags}"


def _table(title: str, unit: str, columns: Sequence[str], rows: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """A column of numbers for each split, and a bar for their sum."""
    width = max(len(title), *map(len, rows))
    widths = [max(7, len(name)) for name in columns]
    head = "  ".join(f"{name:>{w}}" for name, w in zip(columns, widths, strict=True))
    yield f"{title:{width}}  {head}  {unit}"
    most = max(map(sum, rows.values())) or 1
    for name, counts in rows.items():
        cells = "  ".join(f"{count:>{w}}" for count, w in zip(counts, widths, strict=True))
        yield f"{name:{width}}  {cells}  {'█' * max(round(sum(counts) / most * _BAR), sum(counts) > 0)}".rstrip()


def _size(amount: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.3g} {unit}"
        amount /= 1024
    return f"{amount:.3g} GiB"


def draw(found: Found, path: str) -> str:
    """Writes the sheet of samples; returns its path. Raises InputError."""
    items = [_item(sample) for sample in found.samples]
    boxes = sum(len(item["boxes"]) for item in items)
    sheet = drawing.render_boxes(
        items, found.names, f"{boxes} boxes in {len(items)} images", "Chosen at random from all splits"
    )
    try:
        files.write_bytes(path, sheet)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}; choose another with --output") from error
    return path


def _item(sample: Sample) -> dict[str, Any]:
    try:
        with images.opened(io.BytesIO(sample.encoded)) as file:
            width = file.width
            file.draft("RGB", (_MAX_SIDE, _MAX_SIDE))
            image = file.convert("RGB")
            image.thumbnail((_MAX_SIDE, _MAX_SIDE))
    except Exception as error:  # Pillow raises whatever a damaged file makes it meet
        raise InputError(f"{sample.filename}: its image cannot be decoded: {error}; make or copy the files again") from error
    boxes = sample.boxes * (image.width / width)
    return {"filename": sample.filename, "image": np.asarray(image), "boxes": boxes, "classes": sample.classes, "scores": None}
