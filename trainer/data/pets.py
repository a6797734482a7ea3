"""Oxford-IIIT Pet (https://www.robots.ox.ac.uk/~vgg/data/pets/): 37 breeds, the class being in the image's name.

images/NAME.jpg and annotations/{list,trainval,test}.txt, annotations/xmls/NAME.xml (a face, for most of trainval only) and
annotations/trimaps/NAME.png (1 the animal, 2 what is behind it, 3 its edge).
"""

from __future__ import annotations

import io
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from PIL import Image

from trainer.data import images, voc
from trainer.data.annotations import Annotation, BadImage, Item, Object, Source, is_below, read_list
from trainer.errors import InputError

SETS = ("train", "val", "trainval", "test")
_TRAIN_SHARE = 0.7  # as the Object Detection API divides trainval, since test has no faces
_BACKGROUND = 2
_NAME = re.compile(r"^(?P<breed>.+)_\d+$")


class Reader:
    """boxes: around faces, or around bodies as the trimaps have them.

    sets: default train and val, which are parts of trainval drawn by the seed, for faces; trainval and test for bodies.
    """

    def __init__(
        self, folder: Path, sets: Sequence[str] | None = None, boxes: Literal["faces", "bodies"] = "faces", seed: int = 0
    ) -> None:
        self.folder, self.boxes, self.seed = folder, boxes, seed
        self.sets = sets or (("train", "val") if boxes == "faces" else ("trainval", "test"))
        for name in self.sets:
            if name not in SETS:
                raise InputError(f"--sets {name}: Pets has {', '.join(SETS)}")

    def source(self) -> Source:
        lists = {"test": self._names("test")} if "test" in self.sets else {}
        if set(self.sets) - {"test"}:
            lists["trainval"] = trainval = self._names("trainval")
            drawn = random.Random(self.seed).sample(trainval, k=int(_TRAIN_SHARE * len(trainval)))
            lists["train"] = sorted(drawn)
            lists["val"] = sorted(set(trainval) - set(drawn))
        return Source(
            self._classes(), {name: [self._item(*numbered) for numbered in enumerate(lists[name], 1)] for name in self.sets}
        )

    def annotation(self, item: Item, size: tuple[int, int]) -> Annotation:
        assert isinstance(item.details, str)
        path = self.folder / item.details
        breed = _breed(Path(item.path).stem)
        if self.boxes == "bodies":
            return Annotation([Object(breed, _body(path, size))])
        found = voc.parse(images.read_bytes(path, voc.MAX_XML), str(path))
        return Annotation([item._replace(name=breed) for item in found.objects], found.size)

    def _item(self, number: int, name: str) -> Item:
        details = f"xmls/{name}.xml" if self.boxes == "faces" else f"trimaps/{name}.png"
        return Item(number, f"images/{name}.jpg", f"annotations/{details}")

    def _names(self, name: str) -> list[str]:
        return sorted({words[0] for words in self._lines(name)})

    def _classes(self) -> dict[int, str]:
        """From list.txt, whose numbers are those of the Object Detection API's label map."""
        classes: dict[int, str] = {}
        path = self.folder / "annotations" / "list.txt"
        for words in self._lines("list"):
            breed = _breed(words[0])
            if len(words) < 2 or not words[1].isascii() or not words[1].isdigit() or not 0 < int(words[1][:9]) < 10_000:
                raise InputError(f"{path}: {' '.join(words)[:80]!r} is not a line of NAME CLASS-ID SPECIES BREED-ID")
            if classes.setdefault(int(words[1]), breed) != breed:
                raise InputError(f"{path}: class {words[1]} is {classes[int(words[1])]} and {breed}")
        return dict(sorted(classes.items()))

    def _lines(self, name: str) -> list[list[str]]:
        path = self.folder / "annotations" / f"{name}.txt"
        lines = read_list(path)
        for words in lines:
            if not is_below(words[0]) or not _NAME.match(words[0]):
                raise InputError(f"{path}: {words[0]!r} is not the name of an image, as Abyssinian_1 is")
        if not lines:
            raise InputError(f"{path}: names no image; unpack the data set again")
        return lines


def _breed(name: str) -> str:
    match = _NAME.match(name)
    return match["breed"] if match else name


def _body(path: Path, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The box around what is not background. Raises BadImage."""
    import numpy as np  # a tenth of a second, which the other data sets need not take

    try:
        trimap = images.read(path, size[0] * size[1])
    except BadImage as error:
        kind = "missing file" if error.problem.kind == "missing file" else "corrupt annotation"
        raise BadImage(kind, f"trimap {path}: {error}") from error
    if trimap.size != size:
        stated = f"{trimap.size[1]}×{trimap.size[0]}"
        raise BadImage("size mismatch", f"the trimap has {stated} pixels, the image {size[1]}×{size[0]}")
    with Image.open(io.BytesIO(trimap.encoded)) as image:
        if image.mode not in ("L", "P"):
            raise BadImage("corrupt annotation", f"trimap {path}: pixels of kind {image.mode}, numbers from 1 to 3 expected")
        animal = np.asarray(image) != _BACKGROUND
    rows, columns = np.flatnonzero(animal.any(axis=1)), np.flatnonzero(animal.any(axis=0))
    if not len(rows):
        raise BadImage("corrupt annotation", f"trimap {path}: there is nothing but background")
    return float(rows[0]), float(columns[0]), float(rows[-1] + 1), float(columns[-1] + 1)
