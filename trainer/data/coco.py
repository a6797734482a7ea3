"""COCO (https://cocodataset.org/#format-data): annotations/instances_SET.json, and the images in SET/ or images/SET/.

Boxes are [x, y, width, height] in pixels from the image's corner. Class ids are the categories' own, with COCO's gaps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trainer.data import json_stream
from trainer.data.annotations import Annotation, Item, Object, Problem, Source, is_below
from trainer.errors import InputError

if TYPE_CHECKING:
    from typing_extensions import TypeIs

_PREFIX, _SUFFIX = "instances_", ".json"
_KEYS = ("images", "annotations", "categories")
_MAX_ID = 2**31 - 1  # a label map's ids have 32 bits
_MAX_IMAGE_ID = 2**63 - 1


class Reader:
    """sets: default all that annotations/ has instances of."""

    def __init__(self, folder: Path, sets: Sequence[str] | None = None) -> None:
        self.folder, self.sets = folder, sets

    def source(self) -> Source:
        source = Source({}, {})
        present = self._present_sets()
        for name in self.sets or present:
            if name not in present:
                raise InputError(f"--sets {name}: {self.folder}/annotations has instances of {', '.join(present)}")
            path = self.folder / "annotations" / f"{_PREFIX}{name}{_SUFFIX}"
            content = read(path)
            if source.names and source.names != content.names:
                raise InputError(f"{path}: has other categories than the set before; convert the sets apart")
            source.names = content.names
            source.splits[name], source.bad[name] = _items(content, self._images(name))
        return source

    def annotation(self, item: Item, size: tuple[int, int]) -> Annotation:
        assert isinstance(item.details, Annotation)
        return item.details

    def _present_sets(self) -> list[str]:
        found = sorted((self.folder / "annotations").glob(f"{_PREFIX}*{_SUFFIX}"))
        if not found:
            raise InputError(
                f"{self.folder}: has no annotations/{_PREFIX}SET{_SUFFIX}; name the folder that holds annotations/"
            )
        return [path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX) for path in found]

    def _images(self, name: str) -> str:
        for candidate in (name, f"images/{name}"):
            if (self.folder / candidate).is_dir():
                return candidate
        raise InputError(
            f"{self.folder}: has neither {name}/ nor images/{name}/ with the images; unpack them, or choose --sets"
        )


class Image(NamedTuple):
    file_name: str
    size: tuple[int, int] | None


class Content(NamedTuple):
    """What an annotation file says: images by id, per image its objects with their class's id, problems likewise."""

    names: Mapping[int, str]
    images: Mapping[int, Image]
    objects: Mapping[int, Sequence[tuple[int, Object]]]
    problems: Mapping[int, Sequence[Problem]]


def read(path: Path) -> Content:
    """Reads an annotation file; of masks nothing is kept.

    Raises InputError naming file and field: no such JSON; a category or an image without what identifies it.
    An annotation that can't be used is a problem of its image.
    """
    names: dict[int, str] = {}
    images: dict[int, Image] = {}
    objects: dict[int, list[tuple[int, Object]]] = {}
    problems: dict[int, list[Problem]] = {}
    counts = dict.fromkeys(_KEYS, 0)
    for key, element in json_stream.elements(path, _KEYS):
        place = f"{path}: {key}[{counts[key]}]"
        counts[key] += 1
        if not isinstance(element, dict):
            raise InputError(f"{place} is not an object")
        if key == "categories":
            number, name = _id(element, "id", 0, _MAX_ID, place), _text(element, "name", place)
            for field, value, taken in (("id", number, names.keys()), ("name", name, names.values())):
                if value in taken:
                    raise InputError(f"{place}.{field}: {repr(value)[:40]} is taken already; give each category its own")
            names[number] = name
        elif key == "images":
            number = _id(element, "id", 0, _MAX_IMAGE_ID, place)
            if number in images:
                raise InputError(f"{place}.id: {number} is taken already; give each image its own")
            images[number] = Image(_text(element, "file_name", place), _size(element))
        else:
            image = _id(element, "image_id", 0, _MAX_IMAGE_ID, place)
            found = _object(element)
            if isinstance(found, Problem):
                problems.setdefault(image, []).append(found)
            else:
                objects.setdefault(image, []).append(found)
    if not images or not names:
        raise InputError(f"{path}: has no {'categories' if images else 'images'}; is it a file of instances?")
    return Content(dict(sorted(names.items())), images, objects, problems)


def _items(content: Content, folder: str) -> tuple[list[Item], list[tuple[str, Problem]]]:
    items: list[Item] = []
    bad: list[tuple[str, Problem]] = []
    for number, image in sorted(content.images.items()):
        path = f"{folder}/{image.file_name}"
        if not is_below(image.file_name):
            bad.append((path, Problem("missing file", f"the name of image {number} leaves its folder")))
            continue
        named = [
            found._replace(name=content.names.get(kind, f"category {kind}")) for kind, found in content.objects.get(number, ())
        ]
        items.append(Item(number, path, Annotation(named, image.size, content.problems.get(number, ()))))
    for number in sorted((content.objects.keys() | content.problems.keys()) - content.images.keys()):
        bad.append((f"{folder}: image {number}", Problem("missing image", "has annotations and is not among the images")))
    return items, bad


def _object(element: Mapping[str, Any]) -> tuple[int, Object] | Problem:
    name = f"annotation {_shown(element.get('id'))}"
    category, box, area = element.get("category_id"), element.get("bbox"), element.get("area")
    if not _is_number(category) or not isinstance(category, int):
        return Problem("corrupt annotation", f"{name} has no category_id")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return Problem("corrupt annotation", f"{name} has no bbox of four numbers")
    x, y, width, height = map(float, box)
    area = float(area) if _is_number(area) and area >= 0 else width * height
    crowd = element.get("iscrowd") in (1, True)
    return category, Object("", (y, x, y + height, x + width), crowd=crowd, area=area)


def _is_number(value: object) -> TypeIs[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15 and math.isfinite(value)


def _id(element: Mapping[str, Any], key: str, low: int, high: int, place: str) -> int:
    value = element.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InputError(f"{place}.{key}: a whole number from {low} to {high} expected, {_shown(value)} found")
    return value


def _text(element: Mapping[str, Any], key: str, place: str) -> str:
    value = element.get(key)
    if not isinstance(value, str) or not value.strip() or any("\ud800" <= character <= "\udfff" for character in value):
        raise InputError(f"{place}.{key}: a text expected, {_shown(value)} found")
    return value


def _shown(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__ if isinstance(value, dict | list) else repr(str(value)[:40])


def _size(element: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = element.get("height"), element.get("width")
    if not _is_number(height) or not _is_number(width) or min(height, width) < 1:
        return None
    return int(height), int(width)
