"""Whether a data set fits a pipeline configuration: what would fail, or train badly, said before anything is started."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from trainer import files, paths
from trainer.config import experiment
from trainer.config.__main__ import summary
from trainer.config.experiment import Experiment
from trainer.config.reader import PLACEHOLDER
from trainer.data.inspection import Found, Split
from trainer.errors import InputError

_FEW = 20  # boxes of a class to learn it from
_TINY = 0.5  # of the smallest anchor's side


class Finding(NamedTuple):
    state: Literal["ok", "warning", "error"]
    text: str


def read(path: str, folder: str) -> Experiment:
    """The configuration, its placeholders standing for `folder`. Raises InputError."""
    try:
        text = files.read(paths.resolve(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if text is None:
        raise InputError(f"{path}: no such pipeline configuration; check --pipeline-config")
    return experiment.parse(text.replace(PLACEHOLDER, folder), path)


def check(found: Found, config: Experiment) -> list[Finding]:
    """All findings, errors first: with one of them training or evaluation would fail."""
    order = ("error", "warning", "ok")
    return sorted(_findings(found, config), key=lambda finding: order.index(finding.state))


def _findings(found: Found, config: Experiment) -> Iterator[Finding]:
    asked = summary(config)
    chosen = {}
    for role in ("train", "eval"):
        patterns = asked[role]["patterns"]
        chosen[role] = [split for split in found.splits if _reads(patterns, split)]
        names = ", ".join(split.name for split in chosen[role])
        if chosen[role]:
            images, boxes = _total(chosen[role], "images"), _total(chosen[role], "boxes")
            yield Finding("ok", f"{role}_input_reader reads {names}: {images} images, {boxes} boxes")
        else:
            there = ", ".join(split.name for split in found.splits)
            yield Finding("error", f"{role}_input_reader names {', '.join(patterns)}, which none of {there} matches")
    yield from _classes(found, asked, chosen)
    both = {(a, b): n for (a, b), n in found.duplicates.items() if _divides(chosen, a, b)}
    if both:
        yield Finding("error", f"{sum(both.values())} images are in training and in evaluation data: scores would be too good")
    yield from _sizes(found, config, asked, chosen)


def _reads(patterns: list[str], split: Split) -> bool:
    """Names count and not folders: the data may not be where it is going to be."""
    wanted = [pattern.rpartition("/")[2] for pattern in patterns]
    return any(fnmatch.fnmatch(path.rpartition("/")[2], pattern) for pattern in wanted for path in split.files)


def _total(splits: list[Split], count: str) -> int:
    return sum(split.tally.counts[count] for split in splits)


def _divides(chosen: Mapping[str, list[Split]], a: str, b: str) -> bool:
    train, evaluation = ({split.name for split in chosen[role]} for role in ("train", "eval"))
    return (a in train and b in evaluation) or (b in train and a in evaluation)


def _classes(found: Found, asked: Mapping[str, Any], chosen: Mapping[str, list[Split]]) -> Iterator[Finding]:
    highest, classes = max(found.names), asked["classes"]
    if highest > classes:
        yield Finding(
            "error", f"the label map's highest id is {highest}, num_classes is {classes}; raise num_classes to {highest}"
        )
    elif highest < classes:
        yield Finding("warning", f"num_classes is {classes}, the label map's highest id {highest}: outputs that nothing trains")
    else:
        yield Finding("ok", f"{len(found.names)} classes in the label map, num_classes is {classes}")
    boxes = {role: _per_class(splits) for role, splits in chosen.items()}
    if not all(chosen.values()):
        return
    never = [name for name in found.names.values() if not boxes["train"].get(name)]
    if never:
        yield Finding("warning", f"without a box to train on: {_shown(never)}")
    rare = [f"{name} ({boxes['train'][name]})" for name in found.names.values() if 0 < boxes["train"].get(name, 0) < _FEW]
    if rare:
        yield Finding("warning", f"fewer than {_FEW} boxes to train on: {_shown(rare)}")
    unscored = [name for name in found.names.values() if boxes["train"].get(name) and not boxes["eval"].get(name)]
    if unscored:
        yield Finding("warning", f"trained but never evaluated, for want of boxes there: {_shown(unscored)}")


def _per_class(splits: list[Split]) -> dict[str, int]:
    total: dict[str, int] = {}
    for split in splits:
        for name, count in split.tally.per_class.items():
            total[name] = total.get(name, 0) + count
    return total


def _shown(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _sizes(found: Found, config: Experiment, asked: Mapping[str, Any], chosen: Mapping[str, list[Split]]) -> Iterator[Finding]:
    images = _total(chosen["train"], "images")
    if images and asked["batchSize"] > images:
        yield Finding("error", f"batch_size is {asked['batchSize']}, and there are {images} images to train on; lower it")
    elif images:
        epochs = asked["steps"] * asked["batchSize"] / images
        yield Finding("ok", f"{asked['steps']} steps of batch {asked['batchSize']} see each training image {epochs:.1f} times")
    most = max((split.most_boxes for split in chosen["train"]), default=0)
    limit = config.train.max_boxes
    if most > limit:
        yield Finding("warning", f"an image has {most} boxes, max_number_of_boxes is {limit}: the rest would be dropped")
    height, width = asked["imageSize"]
    smallest = _smallest_anchor(config.task)
    if smallest is None or not len(found.shares):
        return
    sides = np.sqrt(np.prod(found.shares * [height, width], axis=1))
    tiny = float((sides < smallest * _TINY).mean())
    text = f"resized to {width}×{height}, {tiny:.0%} of the boxes are below half of the smallest anchor ({smallest:g} pixels)"
    yield Finding("warning" if tiny > 0.1 else "ok", text)


def _smallest_anchor(task: Mapping[str, Any]) -> float | None:
    """Its side in pixels of the network's input: Model Garden's is anchor_size strides of the finest level."""
    model = task.get("model", {})
    try:
        return float(model["anchor"]["anchor_size"]) * 2 ** model["min_level"]
    except (KeyError, TypeError):
        return None
