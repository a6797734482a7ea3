"""The digits data set on disk: TFRecord shards with the Object Detection API's keys, a label map, and dataset.json."""

from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.data import examples, folder, label_map, tfrecord
from trainer.data.folder import LABEL_MAP, MAX_SHARDS
from trainer.errors import InputError

if TYPE_CHECKING:  # what is up to date is said without loading numpy and Pillow
    from numpy.random import RandomState

    from trainer.data.scenes import Scan, Scene

# Part of the parameters: raise it when the same seed no longer gives the same bytes.
VERSION = 1
_COMMAND = "odcloud data digits"

# JPEG rather than PNG: the noise would make PNG four times as large, and its bytes depend on the zlib in use, while
# libjpeg's integer transform is exact. Colour at full resolution, since the digits' edges are often edges of colour only.
_JPEG = {"quality": 90, "subsampling": 0, "optimize": False}


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
    place = folder.prepare(destination)
    try:
        with folder.lock(place, _COMMAND):
            summary = folder.read_summary(place, "digits")
            if summary.get("complete") and summary.get("parameters") == _identity(parameters) and _intact(place, summary):
                return {**summary, "up_to_date": True}
            folder.make_room(place, known=bool(summary))
            # Says from here on whose the shards are, also after an interruption.
            folder.write_summary(place, {"parameters": _identity(parameters), "complete": False})
            summary = _write_all(place, parameters, progress)
            return {**summary, "up_to_date": False}
    except OSError as error:
        raise tfrecord.cannot_write(place, error) from error


def _write_all(place: Path, parameters: Parameters, progress: Callable[[int, int], None]) -> dict[str, Any]:
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
            name = folder.shard_name(split, shard, shards)
            tfrecord.write(place / name, (_example(scene, split, index) for index, scene in drawn))
            files[name] = folder.sha256(place / name)
        splits[split] = {"images": images, "scans": len(scans), "boxes": boxes.total(), "boxes_per_class": boxes}
    numbers = range(1, len(scenes.CLASSES) + 1)
    text = label_map.render(dict(zip(numbers, scenes.CLASSES, strict=True)), {number: str(number - 1) for number in numbers})
    folder.write_text(place / LABEL_MAP, text)
    files[LABEL_MAP] = folder.sha256(place / LABEL_MAP)
    summary = {"parameters": _identity(parameters), "complete": True, "splits": splits, "files": files}
    folder.write_summary(place, summary)
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
    names = [CLASSES[digit] for digit in scene.digits]
    labels = [digit + 1 for digit in scene.digits]
    size = (scene.image.shape[0], scene.image.shape[1])
    filename = f"{split}-{index:05d}.jpg"
    example = examples.build(encoded, "jpeg", size, filename, index + 1, scene.boxes, labels, names)
    # Which scan each object is, so that the files themselves prove that training and test share none.
    example.features.feature["image/object/scan"].int64_list.value.extend(scene.scans)
    return example.SerializeToString(deterministic=True)


def _identity(parameters: Parameters) -> dict[str, Any]:
    return {"dataset": "digits", "version": VERSION, **asdict(parameters)}


def _intact(place: Path, summary: dict[str, Any]) -> bool:
    return all(folder.is_intact(place / name, digest) for name, digest in summary["files"].items())
