"""Shards written by several processes; each holds one image at a time, and leaves no half file however it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from trainer.data import examples, images, tfrecord
from trainer.data.annotations import BadImage, Checked, Item, Object, Problem, Reader, check
from trainer.data.tally import Tally
from trainer.errors import InputError

_POLL = 0.2  # seconds between two looks at the progress


@dataclass(frozen=True)
class Settings:
    """What all shards have in common. known: class name -> id. strict: the first bad item is an InputError."""

    reader: Reader
    destination: Path
    known: Mapping[str, int]
    max_pixels: int
    skip_difficult: bool
    strict: bool


class Shard(NamedTuple):
    name: str
    split: str
    items: Sequence[Item]


class Result(NamedTuple):
    """A finished shard: its SHA-256, its counts (`Tally.numbers`), and (path, kind, reason) of each bad item."""

    name: str
    split: str
    sha256: str
    tally: dict[str, Any]
    bad: Sequence[Sequence[str]]


class _Value(Protocol):
    value: int


class _Stopped(Exception):
    """Another process has failed, or the user has interrupted."""


class _Worker:
    """A process's part: the settings, and what it shares with the others."""

    def __init__(self, settings: Settings, done: _Value, is_stopped: Callable[[], bool]) -> None:
        self.settings, self.done, self.is_stopped = settings, done, is_stopped

    def write(self, shard: Shard) -> Result:
        tally = Tally()
        bad: list[tuple[str, str, str]] = []
        digest = tfrecord.write(self.settings.destination / shard.name, self._examples(shard.items, tally, bad))
        return Result(shard.name, shard.split, digest, tally.numbers(), bad)

    def _examples(self, items: Sequence[Item], tally: Tally, bad: list[tuple[str, str, str]]) -> Iterator[bytes]:
        for item in items:
            if self.is_stopped():
                raise _Stopped
            problems: Sequence[Problem]
            try:
                picture, checked = self._read(item)
            except BadImage as error:
                problems, example = [error.problem], None
            except InputError as error:
                problems, example = [Problem("corrupt annotation", str(error))], None
            else:
                objects, problems = checked.objects, checked.problems
                # With nothing but bad boxes it would teach that there is nothing to see.
                example = None
                if objects or not problems:
                    objects = [found for found in objects if not (found.difficult and self.settings.skip_difficult)]
                    tally.add(picture.size, objects, checked.clipped)
                    example = _example(item, picture, objects, self.settings.known)
            for problem in problems:
                bad.append(describe(self.settings.reader.folder, item.path, problem))
                if self.settings.strict:
                    raise strict_error(bad[-1])
            if example is not None:
                yield example
            self._count()

    def _read(self, item: Item) -> tuple[images.Picture, Checked]:
        settings = self.settings
        picture = images.read(settings.reader.folder / item.path, settings.max_pixels)
        annotation = settings.reader.annotation(item, picture.size)
        return picture, check(annotation, picture.size, settings.known)

    def _count(self) -> None:
        lock = getattr(self.done, "get_lock", threading.Lock)()
        with lock:
            self.done.value += 1


def describe(source: Path, path: str, problem: Problem) -> tuple[str, str, str]:
    """path, kind and reason, fit to print, and the same wherever the source is."""
    reason = problem.reason.replace(f"{source}/", "")
    return _printable(path), problem.kind, _printable(reason)


def strict_error(bad: Sequence[str]) -> InputError:
    return InputError(f"{bad[0]}: {bad[1]}: {bad[2]}; mend or remove it, or leave out --strict to skip such items")


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "�" for character in text)


def _example(item: Item, picture: images.Picture, objects: Sequence[Object], known: Mapping[str, int]) -> bytes:
    names = [found.name for found in objects]
    labels, boxes = [known[name] for name in names], [found.box for found in objects]
    filename = Path(item.path).name
    example = examples.build(picture.encoded, picture.form, picture.size, filename, item.number, boxes, labels, names)
    feature = example.features.feature
    if any(found.area is not None for found in objects):
        feature["image/object/is_crowd"].int64_list.value.extend(int(found.crowd) for found in objects)
        feature["image/object/area"].float_list.value.extend(found.area or 0.0 for found in objects)
    if any(found.view for found in objects):
        feature["image/object/difficult"].int64_list.value.extend(int(found.difficult) for found in objects)
        feature["image/object/truncated"].int64_list.value.extend(int(found.truncated) for found in objects)
        feature["image/object/view"].bytes_list.value.extend(found.view.encode() for found in objects)
    return example.SerializeToString(deterministic=True)


def write_all(shards: Sequence[Shard], settings: Settings, processes: int, progress: Callable[[int], None]) -> Iterator[Result]:
    """Writes the shards and yields each as soon as it is finished. progress: called with the images done.

    Raises InputError: the disk is full, a bad item with `strict`, a process was killed.
    """
    processes = min(processes, len(shards))
    if processes > 1:
        yield from _write_parallel(shards, settings, processes, progress)
        return
    worker = _Worker(settings, _Progress(progress), lambda: False)
    for shard in shards:
        yield worker.write(shard)


class _Progress:
    """Stands for the shared counter where there is one process only."""

    def __init__(self, progress: Callable[[int], None]) -> None:
        self._count, self._progress = 0, progress

    @property
    def value(self) -> int:
        return self._count

    @value.setter
    def value(self, count: int) -> None:
        self._count = count
        self._progress(count)


def _write_parallel(
    shards: Sequence[Shard], settings: Settings, processes: int, progress: Callable[[int], None]
) -> Iterator[Result]:
    # Started afresh rather than forked: a fork would hold the folder's lock and the pool's pipes after its parent's death.
    context = multiprocessing.get_context("spawn")
    done, stop = context.Value("q", 0), context.Event()
    pool = futures.ProcessPoolExecutor(processes, context, _start, (settings, done, stop))
    try:
        waiting = {pool.submit(_write, shard) for shard in shards}
        while waiting:
            ready, waiting = futures.wait(waiting, _POLL, futures.FIRST_COMPLETED)
            progress(done.value)
            for future in ready:
                yield future.result()
    except BrokenProcessPool as error:
        raise InputError(
            f"{settings.destination}: a process was killed, perhaps for want of memory; run the command again with fewer "
            "--processes: finished shards are kept"
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


_worker: _Worker


def _start(settings: Settings, done: Any, stop: Any) -> None:
    global _worker
    _worker = _Worker(settings, done, stop.is_set)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent can't tell; its processes would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


def _write(shard: Shard) -> Result:
    return _worker.write(shard)
