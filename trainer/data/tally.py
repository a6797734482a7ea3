"""Counts of a data set while it is written: of one shard as numbers by name, to be added up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trainer.data.annotations import Object

# COCO's: an object below so many square pixels is small, or medium.
SMALL, MEDIUM = 32**2, 96**2

_FLAGS = ("difficult", "truncated", "crowd")
_COUNTS = ("images", "images_without_boxes", "boxes", *_FLAGS, "clipped")
_SIDES = ("height", "width")


class Tally:
    def __init__(self) -> None:
        self.counts = dict.fromkeys(_COUNTS, 0)
        self.per_class: dict[str, int] = {}
        self.box_sizes = {"small": 0, "medium": 0, "large": 0}
        self.sides: dict[str, list[int]] = {}  # least, largest, sum

    def add(self, size: tuple[int, int], objects: Sequence[Object], clipped: int) -> None:
        self.counts["images"] += 1
        self.counts["images_without_boxes"] += not objects
        self.counts["boxes"] += len(objects)
        self.counts["clipped"] += clipped
        for flag in _FLAGS:
            self.counts[flag] += sum(getattr(item, flag) for item in objects)
        for item in objects:
            self.per_class[item.name] = self.per_class.get(item.name, 0) + 1
            ymin, xmin, ymax, xmax = item.box
            area = (ymax - ymin) * (xmax - xmin)
            self.box_sizes["small" if area < SMALL else "medium" if area < MEDIUM else "large"] += 1
        for side, value in zip(_SIDES, size, strict=True):
            self._extend(side, value, value, value)

    def merge(self, other: Mapping[str, Any]) -> None:
        """Adds what `numbers` gave."""
        for mine, key in ((self.counts, "counts"), (self.per_class, "per_class"), (self.box_sizes, "box_sizes")):
            for name, count in other[key].items():
                mine[name] = mine.get(name, 0) + count
        for side, values in other["sides"].items():
            self._extend(side, *values)

    def numbers(self) -> dict[str, Any]:
        return {"counts": self.counts, "per_class": self.per_class, "box_sizes": self.box_sizes, "sides": self.sides}

    def summary(self, names: Iterable[str]) -> dict[str, Any]:
        """For people: boxes of each class, even if none; sides of the images in pixels; boxes by COCO's sizes."""
        images = self.counts["images"]
        sizes = {
            side: {"min": low, "mean": round(total / images, 1), "max": high} for side, (low, high, total) in self.sides.items()
        }
        per_class = {name: self.per_class.get(name, 0) for name in names}
        return {**self.counts, "boxes_per_class": per_class, "box_sizes": self.box_sizes, "image_sizes": sizes}

    def _extend(self, side: str, low: int, high: int, total: int) -> None:
        old = self.sides.get(side, [low, high, 0])
        self.sides[side] = [min(old[0], low), max(old[1], high), old[2] + total]
