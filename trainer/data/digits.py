"""The digits data set on disk: TFRecord shards with the Object Detection API's keys, a label map, and dataset.json."""

from __future__ import annotations

import fcntl
import hashlib
import io
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.data import label_map, tfrecord
from trainer.errors import InputError
from trainer.protos import example_pb2

if TYPE_CHECKING:  # what is up to date is said without loading numpy and Pillow
    from numpy.random import RandomState

    from trainer.data.scenes import Scan, Scene

# Part of the parameters: raise it when the same seed no longer gives the same bytes.
VERSION = 1
SUMMARY = "dataset.json"
LABEL_MAP = "label_map.pbtxt"
MAX_SHARDS = 1000

# JPEG rather than PNG: the noise would make PNG four times as large, and its bytes depend on the zlib in use, while
# libjpeg's integer transform is exact. Colour at full resolution, since the digits' edges are often edges of colour only.
_JPEG = {"quality": 90, "subsampling": 0, "optimize": False}
_OURS = re.compile(r"^\.?(train|test)-\d{5}-of-\d{5}\.tfrecord(\.partial)?$")


@dataclass(frozen=True)
class Parameters:
    """What determines every byte of the data set. test_shards is derived: half as many as for training."""

    seed: int = 0
    train_images: int = 800
    test_images: int = 200
    shards: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed {self.seed}: must be from 0 to {2**32 - 1}")
        for option, count in (("--train-images", self.train_images), ("--test-images", self.test_images)):
            if count < 1:
                raise InputError(f"{option} {count}: must be at least 1")
        if not 1 <= self.shards <= MAX_SHARDS:
            raise InputError(f"--shards {self.shards}: must be from 1 to {MAX_SHARDS}")
        if self.train_images < self.shards or self.test_images < self.test_shards:
            raise InputError(f"--shards {self.shards}: more shards than images; give fewer shards or more images")

    @property
    def test_shards(self) -> int:
        return max(1, self.shards // 2)


def make(destination: str, parameters: Parameters, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Makes the data set in a local folder, or finds it there already.

    progress: called with (images done, images in all).
    Returns the content of dataset.json and "up_to_date": whether all was there.
    Raises InputError when the folder can't be used, holds TFRecords of other origin, or the disk is full.
    """
    folder = _folder(destination)
    try:
        with _lock(folder):
            summary = _read_summary(folder)
            if summary.get("complete") and summary.get("parameters") == _identity(parameters) and _intact(folder, summary):
                return {**summary, "up_to_date": True}
            _make_room(folder, known=bool(summary))
            # Says from here on whose the shards are, also after an interruption.
            _write_summary(folder, {"parameters": _identity(parameters), "complete": False})
            summary = _write_all(folder, parameters, progress)
            return {**summary, "up_to_date": False}
    except OSError as error:
        raise tfrecord.cannot_write(folder, error) from error


def _write_all(folder: Path, parameters: Parameters, progress: Callable[[int, int], None]) -> dict[str, Any]:
    import numpy as np

    from trainer.data import scenes

    total = parameters.train_images + parameters.test_images
    done = itertools.count(1)
    files: dict[str, str] = {}
    splits: dict[str, Any] = {}
    parts = zip(("train", "test"), scenes.load_scans(), strict=True)
    counts = ((parameters.train_images, parameters.shards), (parameters.test_images, parameters.test_shards))
    for number, ((split, scans), (images, shards)) in enumerate(zip(parts, counts, strict=True)):
        boxes: Counter[str] = Counter(dict.fromkeys(scenes.CLASSES, 0))
        for shard in range(shards):
            # Each shard has a random stream of its own: its content depends on no other shard.
            random = np.random.RandomState([parameters.seed, number, shard])
            drawn = _draw(random, scans, boxes, lambda: progress(next(done), total), range(shard, images, shards))
            name = f"{split}-{shard:05d}-of-{shards:05d}.tfrecord"
            tfrecord.write(folder / name, (_example(scene, split, index) for index, scene in drawn))
            files[name] = _sha256(folder / name)
        splits[split] = {"images": images, "scans": len(scans), "boxes": boxes.total(), "boxes_per_class": boxes}
    numbers = range(1, len(scenes.CLASSES) + 1)
    text = label_map.render(dict(zip(numbers, scenes.CLASSES, strict=True)), {number: str(number - 1) for number in numbers})
    _write_text(folder / LABEL_MAP, text)
    files[LABEL_MAP] = _sha256(folder / LABEL_MAP)
    summary = {"parameters": _identity(parameters), "complete": True, "splits": splits, "files": files}
    _write_summary(folder, summary)
    return summary


def _draw(
    random: RandomState, scans: Sequence[Scan], boxes: Counter[str], drawn: Callable[[], None], indices: Iterable[int]
) -> Iterator[tuple[int, Scene]]:
    """Yields a scene for each index, counts its digits in `boxes`, and calls `drawn` after each."""
    from trainer.data import scenes

    for index in indices:
        scene = scenes.compose(random, scans)
        boxes.update(scenes.CLASSES[digit] for digit in scene.digits)
        yield index, scene
        drawn()


def _example(scene: Scene, split: str, index: int) -> bytes:
    """tf.train.Example bytes of a scene; class ids are the digit plus 1, 0 being the background."""
    from PIL import Image

    from trainer.data.scenes import CLASSES

    buffer = io.BytesIO()
    Image.fromarray(scene.image).save(buffer, "JPEG", **_JPEG)
    encoded = buffer.getvalue()
    height, width = scene.image.shape[:2]
    example = example_pb2.Example()
    feature = example.features.feature
    filename = f"{split}-{index:05d}.jpg".encode()
    feature["image/height"].int64_list.value.append(height)
    feature["image/width"].int64_list.value.append(width)
    feature["image/filename"].bytes_list.value.append(filename)
    feature["image/source_id"].bytes_list.value.append(str(index + 1).encode())  # Model Garden reads it as a number
    feature["image/key/sha256"].bytes_list.value.append(hashlib.sha256(encoded).hexdigest().encode())
    feature["image/encoded"].bytes_list.value.append(encoded)
    feature["image/format"].bytes_list.value.append(b"jpeg")
    for position, (side, extent) in enumerate((("ymin", height), ("xmin", width), ("ymax", height), ("xmax", width))):
        feature[f"image/object/bbox/{side}"].float_list.value.extend(box[position] / extent for box in scene.boxes)
    feature["image/object/class/text"].bytes_list.value.extend(CLASSES[digit].encode() for digit in scene.digits)
    feature["image/object/class/label"].int64_list.value.extend(digit + 1 for digit in scene.digits)
    # Which scan each object is, so that the files themselves prove that training and test share none.
    feature["image/object/scan"].int64_list.value.extend(scene.scans)
    return example.SerializeToString(deterministic=True)


def _identity(parameters: Parameters) -> dict[str, Any]:
    return {"dataset": "digits", "version": VERSION, **asdict(parameters)}


def _folder(destination: str) -> Path:
    if "://" in destination:
        raise InputError(f"{destination}: must be a local folder; the data is made there and uploaded afterwards")
    folder = Path(destination)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{destination}: is a file; name a folder for the data set")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise tfrecord.cannot_write(folder, error) from error
    return folder


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Two at once would write the same temporary files. The kernel drops the lock however the process ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise InputError(f"{folder}: another `odcloud data digits` is writing there; wait for it to end") from error
    finally:
        os.close(descriptor)


def _make_room(folder: Path, known: bool) -> None:
    """Removes what an earlier or interrupted run left; never files that this command didn't write."""
    present = [path for path in folder.iterdir() if _OURS.match(path.name)]
    if present and not known:
        raise InputError(f"{folder}: already holds TFRecords without {SUMMARY}, so not from here; name another folder")
    for path in present:
        path.unlink()


def _read_summary(folder: Path) -> dict[str, Any]:
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / SUMMARY}: cannot be read ({error}); remove it, or name another folder") from error
    if not isinstance(summary, dict) or "parameters" not in summary:
        raise InputError(f"{folder / SUMMARY}: was not written by `odcloud data digits`; name another folder")
    return summary


def _write_summary(folder: Path, summary: dict[str, Any]) -> None:
    _write_text(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise tfrecord.cannot_write(path, error) from error


def _intact(folder: Path, summary: dict[str, Any]) -> bool:
    return all((folder / name).is_file() and _sha256(folder / name) == digest for name, digest in summary["files"].items())


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
