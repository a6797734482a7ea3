"""PASCAL VOC (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf), 2007 and 2012, one or both.

VOCdevkit/VOC2012/{ImageSets/Main/SET.txt, Annotations/NAME.xml, JPEGImages/NAME.jpg}. Coordinates count pixels from 1, and
both ends belong to the box.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

from trainer.data import images
from trainer.data.annotations import Annotation, Item, Object, Source, is_below, read_list
from trainer.errors import InputError

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
YEARS = ("2007", "2012")
MAX_XML = 4 << 20  # bytes; the largest of VOC has some 20,000
_LINE = "line"


class Reader:
    """sets: of ImageSets/Main, default: trainval and test where there is a test set, else train and val."""

    def __init__(self, folder: Path, sets: Sequence[str] | None = None, year: str | None = None) -> None:
        self.folder, self.sets, self.year = folder, sets, year

    def source(self) -> Source:
        years = self._years()
        sets = self.sets or self._default_sets(years)
        return Source(dict(enumerate(CLASSES, start=1)), {name: self._items(years, name) for name in sets})

    def annotation(self, item: Item, size: tuple[int, int]) -> Annotation:
        assert isinstance(item.details, str)
        path = self.folder / item.details
        return parse(images.read_bytes(path, MAX_XML), str(path))

    def _years(self) -> list[str]:
        """The folders of the years, relative to the source's; "" is that folder itself."""
        if (self.folder / "ImageSets" / "Main").is_dir():
            return [""]
        years = [f"VOC{year}" for year in YEARS if self.year in (None, year)]
        found = [year for year in years if (self.folder / year / "ImageSets" / "Main").is_dir()]
        if not found:
            wanted = " or ".join(f"{year}/ImageSets/Main" for year in years)
            raise InputError(f"{self.folder}: has no {wanted}; name the folder VOCdevkit, or one laid out like VOC2012")
        return found

    def _default_sets(self, years: Sequence[str]) -> Sequence[str]:
        tested = any(self._list(year, "test").is_file() for year in years)
        return ("trainval", "test") if tested else ("train", "val")

    def _list(self, year: str, name: str) -> Path:
        return self.folder / year / "ImageSets" / "Main" / f"{name}.txt"

    def _items(self, years: Sequence[str], name: str) -> list[Item]:
        # VOC 2012 has no test set in public: of several years those count that have the set.
        lists = [year for year in years if self._list(year, name).is_file()]
        if not lists and self.sets:
            places = [self.folder / year / "ImageSets" / "Main" for year in years]
            there = sorted({path.stem for place in places for path in place.glob("*.txt") if "_" not in path.stem})
            raise InputError(f"--sets {name}: {places[0]} has {', '.join(there) or 'no list of images'}")
        items: list[Item] = []
        for year in lists or years[:1]:
            prefix = f"{year}/" if year else ""
            for word in sorted({words[0] for words in read_list(self._list(year, name))}):
                if not is_below(word):
                    raise InputError(f"{self._list(year, name)}: {word!r} is not the name of an image")
                paths = f"{prefix}JPEGImages/{word}.jpg", f"{prefix}Annotations/{word}.xml"
                items.append(Item(len(items) + 1, *paths))
        return items


def parse(data: bytes, place: str) -> Annotation:
    """Reads an annotation file. Raises InputError naming `place`, line and element.

    Safe with any bytes: a document type, the only place where entities can be declared, is refused.
    """
    root = _tree(data, place)
    if root.tag != "annotation":
        raise _wrong(place, root, f"<{root.tag}> is not <annotation>")
    size = root.find("size")
    stated = (int(_number(size, "height", place)), int(_number(size, "width", place))) if size is not None else (0, 0)
    objects = [_object(element, place) for element in root.findall("object")]
    # Some tools write 0 where they don't know.
    return Annotation(objects, stated if all(stated) else None)


def _object(element: ElementTree.Element, place: str) -> Object:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise _wrong(place, element, "<object> has no <name>")
    box = element.find("bndbox")
    if box is None:
        raise _wrong(place, element, f"<object> ({name[:40]!r}) has no <bndbox>")
    ymin, xmin, ymax, xmax = (_number(box, side, place) for side in ("ymin", "xmin", "ymax", "xmax"))
    difficult, truncated = (bool(_number(element, flag, place, absent=0)) for flag in ("difficult", "truncated"))
    view = (element.findtext("pose") or "Unspecified").strip()
    return Object(name, (ymin - 1, xmin - 1, ymax, xmax), difficult, truncated, view)


def _number(parent: ElementTree.Element, tag: str, place: str, absent: float | None = None) -> float:
    element = parent.find(tag)
    text = (element.text or "").strip() if element is not None else ""
    if not text and absent is not None:
        return absent
    try:
        value = float(text)
    except ValueError as error:
        raise _wrong(
            place, element if element is not None else parent, f"<{tag}> is {text[:40]!r}, a number expected"
        ) from error
    if not abs(value) < 1e9:  # also what is no number
        raise _wrong(place, parent, f"<{tag}> is {value:g}, a number of pixels expected")
    return value


def _tree(data: bytes, place: str) -> ElementTree.Element:
    """expat with a tree builder, for what ElementTree's own parser can't: refuse a document type, keep line numbers."""
    builder = ElementTree.TreeBuilder()

    def start(tag: str, _: dict[str, str]) -> None:
        builder.start(tag, {_LINE: str(parser.CurrentLineNumber)})

    def refuse(*_: Any) -> None:
        raise InputError(f"{place}: line {parser.CurrentLineNumber}: a document type (<!DOCTYPE …>) is not allowed; remove it")

    try:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = start, builder.end
        parser.CharacterDataHandler = builder.data
        parser.StartDoctypeDeclHandler = refuse
        parser.Parse(data, True)
        return builder.close()
    except expat.ExpatError as error:
        raise InputError(f"{place}: line {error.lineno}: is not XML: {expat.ErrorString(error.code)}") from error
    except (ValueError, LookupError) as error:  # of encodings
        raise InputError(f"{place}: cannot be read: {error}") from error


def _wrong(place: str, element: ElementTree.Element, what: str) -> InputError:
    return InputError(f"{place}: line {element.get(_LINE)}: {what}")
