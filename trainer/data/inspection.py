"""What is in a data set, read once from its files: `odcloud data inspect`.

Memory: one record, the images to draw, and 16 bytes and a place for each image to find it again in another split.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainer import paths
from trainer.data import images, label_map, records, tfrecord
from trainer.data.annotations import Object
from trainer.data.tally import Tally
from trainer.errors import InputError

PATTERNS = ("*.tfrecord*", "*.record*")
LABEL_MAPS = "*.pbtxt"
_SHARD = re.compile(r"-\d{5}-of-\d{5}")
_FLAGS = ("difficult", "truncated", "is_crowd")
_SHOWN = 20  # duplicates that are named
SIDES = (0, 8, 16, 32, 64, 128, 256, 512, math.inf)
"""Bounds of the box-size histogram: the side, in pixels, of a square of the box's area."""


@dataclass(frozen=True)
class Sample:
    """An image to draw. boxes: (n, 4) ymin, xmin, ymax, xmax in pixels; classes: (n) ids."""

    filename: str
    encoded: bytes
    boxes: np.ndarray
    classes: Sequence[int]


@dataclass
class Split:
    """What the files of one name hold. sides: boxes between each two of SIDES. most_boxes: in one image."""

    name: str
    files: list[str] = field(default_factory=list)
    records: int = 0
    bytes: int = 0
    tally: Tally = field(default_factory=Tally)
    images_per_class: Counter[str] = field(default_factory=Counter)
    sides: list[int] = field(default_factory=lambda: [0] * (len(SIDES) - 1))
    most_boxes: int = 0


@dataclass(frozen=True)
class Found:
    """samples: drawn by the seed from all images. duplicates: {(split, split): images that both have}, places of some."""

    names: Mapping[int, str]
    splits: list[Split]
    duplicates: Mapping[tuple[str, str], int]
    duplicate_places: list[tuple[str, str]]
    samples: list[Sample]
    shares: np.ndarray  # (n, 2) height and width of each box in fractions of its image


def files(paths_or_folders: Sequence[str]) -> tuple[list[str], str | None]:
    """The record files that folders, files and patterns name, and the label map beside them if there is exactly one.

    Raises InputError when one names nothing, or shards are missing.
    """
    found: list[str] = []
    folders = []
    for path in paths_or_folders:
        resolved = paths.resolve(path).rstrip("/")
        inside = [name for pattern in PATTERNS for name in records.glob_files(f"{resolved}/{pattern}")]
        if inside:
            found += records.find(inside)
            folders.append(resolved)
        elif records.glob_files(f"{resolved}/*"):
            raise InputError(
                f"{path}: holds no TFRecords ({', '.join(PATTERNS)}); name the folder that `odcloud data` wrote to"
            )
        else:
            found += records.find(path)
            folders.append(resolved.rpartition("/")[0] or ".")
    maps = {name for folder in folders for name in records.glob_files(f"{folder}/{LABEL_MAPS}")}
    return sorted(set(found)), maps.pop() if len(maps) == 1 else None


def inspect(
    paths_or_folders: Sequence[str], labels: str | None, drawn: int, seed: int, progress: Callable[[int], None]
) -> Found:
    """Reads every record, with all the checks of `records.check`.

    labels: the label map, default: the only one beside the files. drawn: how many images to keep for drawing.
    progress: called with the number of records read. Raises InputError.
    """
    found, beside = files(paths_or_folders)
    chosen = paths.resolve(labels) if labels else beside
    if chosen is None:
        raise InputError(f"{paths_or_folders[0]}: no one label map ({LABEL_MAPS}) beside it; name it with --label-map")
    names = label_map.read(chosen)
    known: dict[bytes, tuple[str, str]] = {}
    splits: dict[str, Split] = {}
    duplicates: Counter[tuple[str, str]] = Counter()
    places: list[tuple[str, str]] = []
    samples: list[Sample] = []
    shares: list[np.ndarray] = []
    chance = random.Random(seed)
    count = drawable = 0
    for path in found:
        split = splits.setdefault(_split(path), Split(_split(path)))
        split.files.append(path)
        number = 0
        for number, data in enumerate(tfrecord.read(path), start=1):
            place = f"{path}: record {number}"
            sample, size, flags = _read(data, place, names)
            count += 1
            split.bytes += len(data)
            _count(split, sample, size, flags, names)
            shares.append((sample.boxes[:, 2:] - sample.boxes[:, :2]) / size)
            digest = hashlib.blake2b(sample.encoded, digest_size=16).digest()
            first = known.setdefault(digest, (split.name, place))
            if first[1] != place:
                duplicates[first[0], split.name] += 1
                if len(places) < _SHOWN:
                    places.append((first[1], place))
            # Each image that may be decoded has the same chance (reservoir sampling).
            if math.prod(size) <= images.MAX_PIXELS:
                drawable += 1
                if len(samples) < drawn:
                    samples.append(sample)
                elif (slot := chance.randrange(drawable)) < drawn:
                    samples[slot] = sample
            progress(count)
        if not number:
            raise InputError(f"{path}: is empty (no record); make or copy the file again")
    return Found(names, list(splits.values()), dict(duplicates), places, samples, np.concatenate(shares).reshape(-1, 2))


def _split(path: str) -> str:
    """What the file is a shard of: its name without number and ending."""
    name = path.rpartition("/")[2]
    return re.sub(r"\.(tfrecords?|record)$", "", _SHARD.sub("", name)) or name


def _read(data: bytes, place: str, names: Mapping[int, str]) -> tuple[Sample, tuple[int, int], dict[str, Sequence[int]]]:
    features = records.parse(data, place)
    encoded = records.image(features, place)
    classes = records.objects(features, names, place)
    try:
        with images.opened(io.BytesIO(encoded)) as image:
            size = image.height, image.width
    except Exception as error:  # as in records: Pillow raises whatever a damaged file makes it meet
        raise InputError(f"{place}: {records.IMAGE} is no image: {error}; make or copy the file again") from error
    sides = [records.values(features, records.BOX[side], "float", place) for side in records.SIDES]
    boxes = np.asarray(sides, float).T.reshape(-1, 4) * [*size, *size]
    filenames = records.values(features, "image/filename", "bytes", place)
    filename = filenames[0].decode(errors="replace") if filenames else place.rpartition("/")[2]
    flags = {key: records.values(features, f"image/object/{key}", "int64", place) for key in _FLAGS}
    return Sample(filename, encoded, boxes, list(classes)), size, flags


def _count(
    split: Split,
    sample: Sample,
    size: tuple[int, int],
    flags: Mapping[str, Sequence[int]],
    names: Mapping[int, str],
) -> None:
    split.records += 1
    split.most_boxes = max(split.most_boxes, len(sample.classes))
    objects = []
    for index, number in enumerate(sample.classes):
        difficult, truncated, crowd = (len(flags[key]) > index and bool(flags[key][index]) for key in _FLAGS)
        ymin, xmin, ymax, xmax = sample.boxes[index].tolist()
        objects.append(Object(names[number], (ymin, xmin, ymax, xmax), difficult, truncated, "", crowd))
        side = math.sqrt((ymax - ymin) * (xmax - xmin))
        split.sides[next(i for i, bound in enumerate(SIDES[1:]) if side < bound)] += 1
    split.tally.add(size, objects, 0)
    split.images_per_class.update({item.name for item in objects})


def summary(found: Found) -> dict[str, Any]:
    """The same for programs."""
    splits = {}
    for split in found.splits:
        facts = split.tally.summary(found.names.values())
        del facts["clipped"]
        splits[split.name] = {
            "files": len(split.files),
            "bytes": split.bytes,
            **facts,
            "images_per_class": {name: split.images_per_class[name] for name in found.names.values()},
            "most_boxes": split.most_boxes,
            "box_sides": dict(zip(side_names(), split.sides, strict=True)),
        }
    return {
        "classes": len(found.names),
        "splits": splits,
        "duplicates": [{"splits": list(pair), "images": count} for pair, count in found.duplicates.items()],
        "duplicate_places": [list(pair) for pair in found.duplicate_places],
    }


def side_names() -> list[str]:
    """Of each interval of SIDES, in pixels."""
    pairs = itertools.pairwise(SIDES)
    return [f"{low:g}–{high:g}" if math.isfinite(high) else f"{low:g}+" for low, high in pairs]
