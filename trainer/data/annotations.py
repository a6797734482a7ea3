"""What the readers of VOC, Pets and COCO yield: images to convert, the objects in them, and what is bad about either."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

from trainer.errors import InputError

# Annotations are rounded to pixels, or computed from masks: a box may leave the image by so much, and is cut there.
TOLERANCE = 1.0


class Object(NamedTuple):
    """box: (ymin, xmin, ymax, xmax) in pixels, measured from the image's corner. area: in square pixels, of COCO's mask."""

    name: str
    box: tuple[float, float, float, float]
    difficult: bool = False
    truncated: bool = False
    view: str = ""
    crowd: bool = False
    area: float | None = None


class Problem(NamedTuple):
    """kind: a few words, the same for all of its kind, to count by."""

    kind: str
    reason: str


class BadImage(Exception):
    """The image can't be in the data set."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.problem = Problem(kind, reason)


@dataclass(frozen=True)
class Annotation:
    """One image's objects. size: height and width that they were measured in, if said. problems: objects left out."""

    objects: Sequence[Object]
    size: tuple[int, int] | None = None
    problems: Sequence[Problem] = ()


class Item(NamedTuple):
    """One image. number: unique in its split. path, details: below the source's folder; details: a file, or read already."""

    number: int
    path: str
    details: str | Annotation


@dataclass
class Source:
    """A data set to convert. names: id -> class. bad: per split, items that the lists themselves name wrongly."""

    names: Mapping[int, str]
    splits: dict[str, list[Item]]
    bad: dict[str, list[tuple[str, Problem]]] = field(default_factory=dict)


class Reader(Protocol):
    """A data set's format. Sent to other processes, so an instance holds little."""

    folder: Path

    def source(self) -> Source:
        """Which images there are. Raises InputError."""

    def annotation(self, item: Item, size: tuple[int, int]) -> Annotation:
        """The objects in one image of that height and width. Raises InputError or BadImage."""


class Checked(NamedTuple):
    objects: list[Object]
    clipped: int
    problems: list[Problem]


def check(annotation: Annotation, size: tuple[int, int], known: Mapping[str, int]) -> Checked:
    """Leaves out objects that can't be trained on; cuts boxes at the image's border.

    known: class name -> id. Raises BadImage when the objects were measured in an image of another size.
    """
    height, width = size
    if annotation.size and annotation.size != size:
        stated = f"{annotation.size[1]}×{annotation.size[0]}"
        raise BadImage("size mismatch", f"the annotation says {stated} pixels, the image has {width}×{height}")
    result = Checked([], 0, list(annotation.problems))
    clipped = 0
    for item in annotation.objects:
        ymin, xmin, ymax, xmax = item.box
        shown = f"{item.name} at x {xmin:g}–{xmax:g}, y {ymin:g}–{ymax:g}"
        inside = (max(ymin, 0.0), max(xmin, 0.0), min(ymax, float(height)), min(xmax, float(width)))
        off = max(abs(a - b) for a, b in zip(item.box, inside, strict=True))
        if item.name not in known:
            result.problems.append(Problem("unknown class", f"{item.name} is none of the {len(known)} classes"))
        elif not all(map(math.isfinite, item.box)):
            result.problems.append(Problem("box outside", f"{shown}: not a number"))
        elif ymin >= ymax or xmin >= xmax:
            result.problems.append(Problem("box inverted", f"{shown}: inverted or empty"))
        elif off > TOLERANCE or inside[0] >= inside[2] or inside[1] >= inside[3]:
            result.problems.append(Problem("box outside", f"{shown}: the image has {width}×{height} pixels"))
        else:
            clipped += off > 0
            result.objects.append(item._replace(box=inside))
    return result._replace(clipped=clipped)


def is_below(path: str) -> bool:
    """Whether a path found in a data set stays in its folder."""
    pure = PurePosixPath(path)
    return bool(pure.parts) and not pure.is_absolute() and ".." not in pure.parts and path.isprintable()


def read_list(path: Path) -> list[list[str]]:
    """The words of each line that is neither empty nor a comment. Raises InputError."""
    return [line.split() for line in read_text(path).splitlines() if line.strip() and not line.startswith("#")]


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; name the folder that the data set was unpacked to") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not a UTF-8 text; unpack the data set again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
