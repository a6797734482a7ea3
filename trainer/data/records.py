"""Data set files as the Object Detection API writes them: TFRecords of tf.train.Example, found and checked.

Keys (object_detection/g3doc/preparing_inputs.md, using_your_own_dataset.md): image/encoded, image/object/bbox/{ymin,xmin,
ymax,xmax} in fractions of the image, image/object/class/label.
"""

from __future__ import annotations

import glob
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from trainer import paths
from trainer.data import tfrecord
from trainer.errors import InputError
from trainer.protos import example_pb2

IMAGE = "image/encoded"
LABEL = "image/object/class/label"
TEXT = "image/object/class/text"
SIDES = ("ymin", "xmin", "ymax", "xmax")
BOX = {side: f"image/object/bbox/{side}" for side in SIDES}

# Fractions are 32-bit floats computed from pixels: a box that ends at the border may be off by a rounding.
_TOLERANCE = 1e-5
_SHARD = re.compile(r"^(?P<stem>.*)-(?P<index>\d{5})-of-(?P<count>\d{5})(?P<suffix>[^/]*)$")
# What tf.io.decode_image reads.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP")


@dataclass
class Statistics:
    """What a check has seen. `records` and `boxes` ({class id: count}) are of the records read, see `check`."""

    files: list[str] = field(default_factory=list)
    records: int = 0
    boxes: Counter[int] = field(default_factory=Counter)


def find(patterns: str | Iterable[str]) -> list[str]:
    """The files that the patterns (paths or gs:// URIs, `*`, `?` and `[…]` allowed) name, resolved and sorted, each once.

    Raises InputError when a pattern matches nothing, or when a set of shards ("…-00001-of-00004") is incomplete.
    """
    found: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        resolved = paths.resolve(pattern)
        matches = glob_files(resolved)
        if not matches:
            where = "" if resolved == pattern else f" (looked for {resolved})"
            raise InputError(f"{pattern}: no file matches{where}; check the path, or make the data first")
        found.update(matches)
    _require_all_shards(found)
    return sorted(found)


def check(
    patterns: str | Iterable[str],
    label_map: Mapping[int, str],
    limit: int | None = None,
    *,
    most_bytes: float = math.inf,
    decode: bool = False,
) -> Statistics:
    """Reads data files as training would and says what is wrong with them before anything is started.

    limit: read at most so many records of each file; beyond, only the framing is followed, to find truncated files.
    most_bytes: where the files are larger together, read about so much, the same share of each file's beginning, and its end.
    decode: decode all images but huge ones; else of each file the first, for to decode all takes as long as an epoch.

    Raises InputError naming file, record (from 1) and key at the first thing wrong: no file, no record, truncated or
    corrupt, not an Example, image missing or not decodable, boxes incomplete, outside the image or inverted, class id
    that the label map lacks.
    """
    statistics = Statistics(files=find(patterns))
    sizes = {path: tfrecord.size(path) for path in statistics.files}
    share = min(1.0, most_bytes / max(1, sum(sizes.values())))
    for path in statistics.files:
        number, seen = 0, 0
        for number, data in enumerate(tfrecord.read(path, limit), start=1):
            place = f"{path}: record {number}"
            features = parse(data, place)
            encoded = image(features, place)
            if number == 1 or decode:
                _decode(encoded, place)
            statistics.boxes.update(objects(features, label_map, place))
            seen += len(data)
            if share < 1 and seen >= share * sizes[path]:
                tfrecord.check_end(path)
                break
        if not number:
            raise InputError(f"{path}: is empty (no record); make or copy the file again")
        statistics.records += number
    return statistics


def parse(data: bytes, place: str) -> Mapping[str, example_pb2.Feature]:
    """The features of one record's Example by key. Raises InputError naming `place` when it isn't an Example."""
    try:
        features = example_pb2.Example.FromString(data).features.feature
    except DecodeError as error:
        raise InputError(f"{place}: is not a tf.train.Example; write records with the Object Detection API's keys") from error
    if not features:
        raise InputError(f"{place}: holds no features; write records with the Object Detection API's keys")
    return features


def values(features: Mapping[str, example_pb2.Feature], key: str, kind: str, place: str) -> Sequence:
    """The values of a key, empty if it is absent. kind: "bytes", "float" or "int64"; raises InputError if it holds another."""
    if key not in features:
        return ()
    feature = features[key]
    actual = feature.WhichOneof("kind")
    if actual is None:
        return ()
    if actual != f"{kind}_list":
        raise InputError(f"{place}: {key} holds {actual.removesuffix('_list')} values, {kind} expected")
    return getattr(feature, actual).value


def image(features: Mapping[str, example_pb2.Feature], place: str) -> bytes:
    """The image file's bytes. Raises InputError when there is not exactly one."""
    images = values(features, IMAGE, "bytes", place)
    if len(images) != 1 or not images[0]:
        raise InputError(f"{place}: {IMAGE} is missing or empty; it must hold the image file's bytes (JPEG or PNG)")
    return images[0]


def _decode(encoded: bytes, place: str) -> None:
    from PIL import UnidentifiedImageError

    from trainer.data import images

    try:
        with images.opened(io.BytesIO(encoded), _FORMATS) as image:
            if image.width * image.height <= images.MAX_PIXELS:
                image.load()
    # Pillow's decoders raise whatever a damaged file makes them meet (OSError, SyntaxError, ValueError, struct.error …).
    except Exception as error:
        what = "it is none of them" if isinstance(error, UnidentifiedImageError) else error
        raise InputError(f"{place}: {IMAGE} cannot be decoded as {', '.join(_FORMATS)}: {what}") from error


def objects(features: Mapping[str, example_pb2.Feature], label_map: Mapping[int, str], place: str) -> Sequence[int]:
    """The class id of each object. Raises InputError when one isn't in the label map, or a box isn't one in the image."""
    labels = values(features, LABEL, "int64", place)
    if not labels and values(features, TEXT, "bytes", place):
        raise InputError(
            f"{place}: has {TEXT} but not {LABEL}, as of create_coco_tf_record.py, and training reads numbers; "
            "make the files again with `odcloud data convert`"
        )
    sides = {side: values(features, key, "float", place) for side, key in BOX.items()}
    for side, numbers in sides.items():
        if len(numbers) != len(labels):
            raise InputError(f"{place}: {BOX[side]} has {len(numbers)} values, {LABEL} {len(labels)}; each object needs both")
        for value in numbers:
            if not -_TOLERANCE <= value <= 1 + _TOLERANCE:
                wrong = "is not a number" if math.isnan(value) else f"is {value:g}"
                raise InputError(f"{place}: {BOX[side]} {wrong}; boxes are fractions of the image, from 0 to 1")
    for low, high in (("ymin", "ymax"), ("xmin", "xmax")):
        for a, b in zip(sides[low], sides[high], strict=True):
            if a > b:
                raise InputError(f"{place}: box is inverted: {BOX[low]} {a:g} is above {BOX[high]} {b:g}")
    for label in labels:
        if label not in label_map:
            known = f"{min(label_map)}–{max(label_map)}" if label_map else "nothing"
            raise InputError(f"{place}: {LABEL} {label} is not in the label map (it has {known}); add the class there")
    return labels


def _require_all_shards(files: set[str]) -> None:
    sets: dict[tuple[str, int, str], set[int]] = {}
    for path in files:
        if match := _SHARD.match(path):
            key = match["stem"], int(match["count"]), match["suffix"]
            sets.setdefault(key, set()).add(int(match["index"]))
    for (stem, count, suffix), present in sorted(sets.items()):
        missing = _first_gap(present, count)
        if missing is not None:
            name = f"{stem}-{missing:05d}-of-{count:05d}{suffix}"
            raise InputError(f"{name}: shard is missing ({len(present)} of {count} are there); make or copy it")


def _first_gap(present: set[int], count: int) -> int | None:
    return next((index for index in range(count) if index not in present), None)


def glob_files(pattern: str) -> list[str]:
    """The files that match, without an error when there are none. Raises InputError when a bucket cannot be listed."""
    if "://" not in pattern:
        return glob.glob(pattern)  # noqa: PTH207 (Path.glob takes no absolute pattern)
    import tensorflow as tf

    try:
        return tf.io.gfile.glob(pattern)
    except tf.errors.OpError as error:
        raise InputError(f"{pattern}: cannot be listed: {error.message}") from error
