"""Data sets as they are published, converted to sharded TFRecords: `odcloud data convert`.

The same source, seed and options give the same bytes, however many processes write them and however often they were
interrupted. The journal says which shards are finished, and of which source; dataset.json what all of them hold.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer import paths
from trainer.data import coco, folder, images, label_map, pets, shards, tfrecord, voc
from trainer.data.annotations import Item, Reader, Source
from trainer.data.shards import Result, Shard
from trainer.data.tally import Tally
from trainer.errors import InputError

# Part of the parameters: raise it when the same source no longer gives the same bytes.
VERSION = 1
JOURNAL = ".convert.jsonl"
_COMMAND = "odcloud data convert"
_SHARD_IMAGES, _FEWEST_SHARDS = 1000, 8  # images per shard by default; enough shards for several readers


@dataclass(frozen=True)
class Options:
    """The command's options, by their names. form: pets, voc or coco."""

    form: str
    source: str
    destination: str
    sets: tuple[str, ...] | None = None
    boxes: str | None = None
    year: str | None = None
    label_map: str | None = None
    skip_difficult: bool = False
    shards: int | None = None
    seed: int = 0
    processes: int | None = None
    max_pixels: int = images.MAX_PIXELS
    strict: bool = False

    def __post_init__(self) -> None:
        for option, value, low, high in (
            ("shards", self.shards, 1, folder.MAX_SHARDS),
            ("seed", self.seed, 0, 2**32 - 1),
            ("processes", self.processes, 1, 256),
            ("max-pixels", self.max_pixels, 1, images.HIGHEST_MAX_PIXELS),
        ):
            if value is not None and not low <= value <= high:
                raise InputError(f"--{option} {value}: must be from {low} to {high}")
        for option, form in (("boxes", "pets"), ("year", "voc")):
            if getattr(self, option) is not None and self.form != form:
                raise InputError(f"--{option}: only with --format {form}")
        for name in self.sets or ():
            if not name or name.startswith(".") or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
                raise InputError(f"--sets: {name!r} is not the name of a set")
        if self.sets and len(set(self.sets)) < len(self.sets):
            raise InputError("--sets: names a set twice")

    def identity(self) -> dict[str, Any]:
        """What determines the bytes, next to the source itself and the label map."""
        kept = ("sets", "boxes", "year", "skip_difficult", "shards", "seed", "max_pixels")
        values = {name: getattr(self, name) for name in kept}
        return {"dataset": self.form, "version": VERSION, **values, "sets": list(self.sets) if self.sets else None}


def convert(options: Options, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Converts, or goes on where an interrupted run ended. progress: called with (images done, images in all).

    Returns the content of dataset.json and "up_to_date": whether all was there.
    Raises InputError: the source is not laid out as the format says, no image is good, with `strict` at the first bad
    item, or the destination can't be used.
    """
    reader, source = _read(options)
    plan = _plan(source, options)
    place = folder.prepare(options.destination)
    try:
        with folder.lock(place, _COMMAND):
            return _convert(place, reader, source, plan, options, progress)
    except OSError as error:
        raise tfrecord.cannot_write(place, error) from error


def _convert(
    place: Path,
    reader: Reader,
    source: Source,
    plan: list[Shard],
    options: Options,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    summary = folder.read_summary(place, options.form)
    same = summary.get("parameters") == options.identity()
    journal = _Journal(place / JOURNAL, _fingerprint(reader.folder, source))
    wanted = {shard.name for shard in plan}
    found = journal.read() if same else []
    finished = {r.name: r for r in found if r.name in wanted and folder.is_intact(place / r.name, r.sha256)}
    text = label_map.render(source.names)
    bad = {split: [shards.describe(reader.folder, *entry) for entry in entries] for split, entries in source.bad.items()}
    if options.strict:
        for entry in [*_chain(bad.values()), *_chain(r.bad for r in finished.values())]:
            raise shards.strict_error(entry)
    labels = place / folder.LABEL_MAP
    if summary.get("complete") and len(finished) == len(plan) and labels.is_file() and labels.read_bytes() == text.encode():
        return {**summary, "up_to_date": True}

    folder.make_room(place, bool(summary), keep=finished)
    # Says from here on whose the shards are, also after an interruption.
    folder.write_summary(place, {"parameters": options.identity(), "complete": False})
    journal.start(finished.values())
    total = sum(len(shard.items) for shard in plan)
    before = sum(len(shard.items) for shard in plan if shard.name in finished)
    known = {name: number for number, name in source.names.items()}
    settings = shards.Settings(reader, place, known, options.max_pixels, options.skip_difficult, options.strict)
    missing = [shard for shard in plan if shard.name not in finished]
    processes = options.processes or os.cpu_count() or 1
    for result in shards.write_all(missing, settings, processes, lambda done: progress(before + done, total)):
        journal.add(result)
        finished[result.name] = result
    progress(total, total)
    try:
        summary = _summarize([finished[shard.name] for shard in plan], source, bad, options)
    except InputError:  # shards without a record, of use to no other run
        folder.make_room(place, known=True)
        raise
    folder.write_text(labels, text)
    summary["files"][folder.LABEL_MAP] = folder.sha256(labels)
    folder.write_summary(place, summary)
    return {**summary, "up_to_date": False}


def _read(options: Options) -> tuple[Reader, Source]:
    path = Path(options.source)
    if not path.is_dir():
        raise InputError(f"{options.source}: is not a local folder; name the one that the data set was unpacked to")
    reader: Reader
    if options.form == "pets":
        reader = pets.Reader(path, options.sets, "bodies" if options.boxes == "bodies" else "faces", options.seed)
    elif options.form == "voc":
        reader = voc.Reader(path, options.sets, options.year)
    else:
        reader = coco.Reader(path, options.sets)
    source = reader.source()
    if options.label_map:
        source.names = label_map.read(paths.resolve(options.label_map))
    elif 0 in source.names:
        raise InputError(
            f"{options.source}: category 0 ({source.names[0]!r}): ids start at 1, 0 being the background; "
            "name a label map with other ids with --label-map"
        )
    return reader, source


def _plan(source: Source, options: Options) -> list[Shard]:
    """Which images go to which shard: shuffled by the seed, so that each shard has some of all classes."""
    plan = []
    for split, items in source.splits.items():
        count = options.shards or min(len(items), max(_FEWEST_SHARDS, math.ceil(len(items) / _SHARD_IMAGES)), folder.MAX_SHARDS)
        if not items:
            raise InputError(f"{options.source}: its set {split} names no image; choose others with --sets")
        if count > len(items):
            raise InputError(f"--shards {count}: more shards than images in {split} ({len(items)}); give fewer")
        shuffled = random.Random(f"{options.seed} {split}").sample(items, k=len(items))
        for index in range(count):
            plan.append(Shard(folder.shard_name(split, index, count), split, shuffled[index::count]))
    return plan


def _summarize(
    results: list[Result], source: Source, bad: Mapping[str, list[tuple[str, str, str]]], options: Options
) -> dict[str, Any]:
    tallies = {split: Tally() for split in source.splits}
    entries: list[dict[str, str]] = []
    for split in tallies:
        of_split = [result for result in results if result.split == split]
        for result in of_split:
            tallies[split].merge(result.tally)
        every = sorted(tuple(entry) for entry in [*bad.get(split, ()), *_chain(result.bad for result in of_split)])
        entries += [{"split": split, "item": path, "kind": kind, "reason": reason} for path, kind, reason in every]
        if not tallies[split].counts["images"]:
            first = entries[-len(every)] if every else {"item": split, "reason": "empty"}
            hint = "; name a label map of your classes with --label-map" if first.get("kind") == "unknown class" else ""
            raise InputError(
                f"{options.source}: no image of {split} is good; the first: {first['item']}: {first['reason']}{hint}"
            )
        empty = [result.name for result in of_split if not result.tally["counts"]["images"]]
        if empty:
            raise InputError(
                f"{empty[0]}: no image is left for it, {len(every)} items of {split} being bad; give fewer --shards"
            )
    return {
        "parameters": options.identity(),
        "complete": True,
        "splits": {split: tally.summary(source.names.values()) for split, tally in tallies.items()},
        "bad_by_kind": dict(sorted(Counter(entry["kind"] for entry in entries).items())),
        "bad": entries,
        "files": {result.name: result.sha256 for result in results},
    }


def _fingerprint(place: Path, source: Source) -> str:
    """Of names, sizes and times of all files: whether the source is still what the finished shards were made of."""
    digest = hashlib.sha256(repr(sorted(source.names.items())).encode())
    for split, items in source.splits.items():
        digest.update(f"{split}\n".encode())
        for item in items:
            digest.update(f"{item.number} {item.path} {_facts(place / item.path)} {_details(place, item)}\n".encode())
    return digest.hexdigest()


def _details(place: Path, item: Item) -> str:
    return _facts(place / item.details) if isinstance(item.details, str) else repr(item.details)


def _facts(path: Path) -> str:
    try:
        facts = path.stat()
    except (OSError, ValueError):
        return "absent"
    return f"{facts.st_size} {facts.st_mtime_ns}"


def _chain(parts: Iterable[Iterable[Any]]) -> Iterator[Any]:
    for part in parts:
        yield from part


class _Journal:
    """A line for the source's fingerprint, and one for each finished shard, appended: cut short, it lacks the last at most."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint

    def read(self) -> list[Result]:
        """The finished shards, none if they are of another source."""
        results: list[Result] = []
        # A last line that is cut is no finished shard.
        with suppress(OSError, ValueError, TypeError), self.path.open(encoding="utf-8") as file:
            if json.loads(next(file, "null")) == {"source": self.fingerprint}:
                for line in file:
                    results.append(Result(**json.loads(line)))
        return results

    def start(self, results: Iterable[Result]) -> None:
        lines = [json.dumps({"source": self.fingerprint}), *(json.dumps(result._asdict()) for result in results)]
        folder.write_text(self.path, "".join(f"{line}\n" for line in lines))

    def add(self, result: Result) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result._asdict()) + "\n")
