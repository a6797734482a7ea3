"""The page on pipeline.config: what becomes of each field, found out by asking the trainer's own reader.

Configurations of `examples/` are changed one field at a time and read; what the reader asks of each section, and says of it,
is written down. So a field is here as it is treated, and in the trainer's own words.
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from tools.docs import markdown
from trainer.config import experiment, reader
from trainer.config.locations import Node
from trainer.config.section import Problems, Section
from trainer.errors import InputError
from trainer.protos import pipeline_pb2

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {
    "examples/digits/pipeline.config": "",
    "examples/configs/ssd_mobilenet_v1_pets.config": "",
    # A field that counts only together with another one needs that one here.
    "examples/configs/faster_rcnn_resnet101_pets.config": (
        "train_config { optimizer { use_moving_average: true } } eval_config { use_moving_averages: true }"
    ),
}
"""What is read, and what is changed beforehand."""

Said = dict[str, dict[tuple[str, str], None]]
"""By a field's path: the ways in which it was asked for, each with what was said of it, in order."""

_INTRODUCTION = """\
# Fields of pipeline.config

What becomes of each field of the Object Detection API's `pipeline.config` when the trainer reads it. The same of a file of
yours, line by line: `odcloud config explain FILE`. [Training](training.md#configuration) has it in short.

- **mapped**: Model Garden does what it says.
- **no effect**: it said how the old implementation worked.
- **approximated**: something near it is done; the job's log says so, too. (A size in a text is that of an example.)
- **refused**: reading ends with an error that names its line. One that is refused may stand there with its default value.

"""
_TITLES = ("model.ssd", "model.faster_rcnn", "train_config", "train_input_reader", "eval_input_reader", "eval_config", "")


def page() -> str:
    """The whole page."""
    rows = list(fields().items())
    parts = [_INTRODUCTION]
    for title in _TITLES:
        here = [(path, text) for path, text in rows if path.startswith(f"{title}." if title else "")]
        rows = [row for row in rows if row not in here]
        named = ((markdown.code(path.removeprefix(f"{title}.")), text) for path, text in here)
        parts.append(f"## {title or 'Elsewhere'}\n\n" + markdown.table(("field", "what becomes of it"), named) + "\n")
    return "".join(parts)


def fields() -> dict[str, str]:
    """What becomes of each field, as Markdown, by its path."""
    return dict(_rows(pipeline_pb2.TrainEvalPipelineConfig.DESCRIPTOR, "", observed()))


@functools.cache
def observed() -> Said:
    """What the reader asks and says of every field that it comes to, with any one field of an example changed."""
    said: Said = defaultdict(dict)
    once: Said = defaultdict(dict)  # of one reading

    def read(message: Message) -> None:
        once.clear()
        problems = Problems("example")
        with suppress(InputError):  # what is refused is written down
            experiment.build(reader.Pipeline("example", "", Section(message, Node("", 1), "", problems), problems))
        for path, found in once.items():
            otherwise = any(kind in ("approximated", "no effect") for kind, _ in found)
            said[path].update({note: None for note in found if not (otherwise and note[0] == "mapped")})

    with _recording(once):
        for example, more in EXAMPLES.items():
            base = pipeline_pb2.TrainEvalPipelineConfig()
            text_format.Parse((ROOT / example).read_text(encoding="utf-8"), base)
            base.MergeFrom(text_format.Parse(more, pipeline_pb2.TrainEvalPipelineConfig()))
            read(base)
            tried: set[str] = set()
            while new := [steps for steps in _fields(base.DESCRIPTOR, (), said) if _path(steps) not in tried]:
                for steps in new:
                    tried.add(_path(steps))
                    changed = pipeline_pb2.TrainEvalPipelineConfig()
                    changed.CopyFrom(base)
                    _change(changed, steps)
                    read(changed)
    return said


def _fields(descriptor: Descriptor, above: tuple[FieldDescriptor, ...], said: Said) -> Iterator[tuple[FieldDescriptor, ...]]:
    """Every field of the sections that the reader has come to."""
    for field in descriptor.fields:
        steps = (*above, field)
        yield steps
        if field.message_type is not None and any(kind == "section" for kind, _ in said.get(_path(steps), ())):
            yield from _fields(field.message_type, steps, said)


def _path(steps: tuple[FieldDescriptor, ...]) -> str:
    return ".".join(field.name for field in steps)


def _change(message: Any, steps: tuple[FieldDescriptor, ...]) -> None:
    """Sets a field, and what it is in, to something that it is not by default."""
    *above, last = steps
    for field in above:
        inner = getattr(message, field.name)
        message = (inner[0] if len(inner) else inner.add()) if field.is_repeated else inner
    if last.message_type is not None:
        message = getattr(message, last.name)
        message.add() if last.is_repeated else message.SetInParent()
        return
    value: Any = {
        FieldDescriptor.CPPTYPE_BOOL: not last.default_value,
        FieldDescriptor.CPPTYPE_STRING: "other",
        FieldDescriptor.CPPTYPE_ENUM: last.enum_type and last.enum_type.values[-1].number,
        FieldDescriptor.CPPTYPE_FLOAT: 0.7,
        FieldDescriptor.CPPTYPE_DOUBLE: 0.7,
    }.get(last.cpp_type, 77)
    if last.is_repeated:
        getattr(message, last.name).append(value)
    else:
        setattr(message, last.name, value)


@contextmanager
def _recording(said: Said) -> Iterator[None]:
    """Writes down how the reader asks its sections; what an answer itself asks for is not written down."""
    inside = 0

    def watched(method: str, note: Callable[..., Iterator[tuple[str, str, str]]]) -> Any:
        original = getattr(Section, method)

        @functools.wraps(original)
        def asked(section: Section, *given: Any, **named: Any) -> Any:
            nonlocal inside
            if not inside:
                for name, kind, text in note(section, *given, **named):
                    if kind in ("mapped", "no effect") and not section.has(name):
                        continue  # a default that is asked for says nothing of the field
                    said[re.sub(r"\[\d+\]", "", section.name(name))][kind, text] = None
            inside += 1
            try:
                return original(section, *given, **named)
            finally:
                inside -= 1

        return mock.patch.object(Section, method, asked)

    def mapped(_: Section, name: str, *__: Any) -> Iterator[tuple[str, str, str]]:
        yield name, "mapped", ""

    def visited(_: Section, name: str, *__: Any) -> Iterator[tuple[str, str, str]]:
        yield name, "section", ""

    def only(section: Section, name: str, accepted: Any, because: str) -> Iterator[tuple[str, str, str]]:
        yield name, "only", f"`{section.shown(name, accepted)}` is mapped, anything else refused: {because}"

    def nearly(section: Section, name: str, accepted: Any, done: str) -> Iterator[tuple[str, str, str]]:
        yield name, "nearly", f"`{section.shown(name, accepted)}` is mapped, anything else approximated: {done}"

    def approximate(_: Section, name: str, done: str) -> Iterator[tuple[str, str, str]]:
        yield name, "approximated", f"approximated: {done}"

    def without_effect(_: Section, *names: str) -> Iterator[tuple[str, str, str]]:
        yield from ((name, "no effect", "no effect") for name in names)

    def refuse(_: Section, name: str, text: str) -> Iterator[tuple[str, str, str]]:
        yield name, "refused", text.partition("; supported: ")[2]

    def choice(section: Section, oneof: str, supported: Any) -> Iterator[tuple[str, str, str]]:
        members = (field.name for field in section.message.DESCRIPTOR.oneofs_by_name[oneof].fields)
        yield from ((name, "section" if name in tuple(supported) else "refused", "") for name in members)

    notes = {
        **dict.fromkeys(("value", "required", "positive"), mapped),
        **dict.fromkeys(("section", "required_section", "sections"), visited),
        "only": only,
        "nearly": nearly,
        "approximate": approximate,
        "without_effect": without_effect,
        "refuse": refuse,
        "choice": choice,
    }
    patches = [watched(method, note) for method, note in notes.items()]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def _rows(descriptor: Descriptor, above: str, said: Said, covered: bool = False) -> Iterator[tuple[str, str]]:
    """(path, what becomes of it) of each field; of a section that is gone into, of its fields instead.

    covered: what is above is approximated as a whole, so that fields of which nothing is said are, too.
    """
    for field in descriptor.fields:
        path = f"{above}{field.name}"
        found = said.get(path, {})
        words = _words(found)
        if ("section", "") in found:
            if words or not field.message_type.fields:
                yield path, words or "mapped"
            yield from _rows(field.message_type, f"{path}.", said, covered or any(kind == "approximated" for kind, _ in found))
        elif found or not covered:
            yield path, words or "**refused**"


def _words(found: Iterable[tuple[str, str]]) -> str:
    """One cell of what was observed of a field; empty if it was not asked for, or is refused without a word."""
    by_kind: dict[str, str] = {}
    for kind, text in found:
        by_kind.setdefault(kind, text)  # the same with another example's sizes is not said again
    verdicts = [by_kind[kind] for kind in ("only", "nearly", "approximated") if kind in by_kind]
    if "mapped" in by_kind and verdicts:
        verdicts = ["mapped", *(f"in other cases {words}" for words in verdicts)]
    elif "mapped" in by_kind:
        verdicts = ["mapped"]
    if "no effect" in by_kind:
        verdicts.append("in other cases no effect" if verdicts else "no effect")
    supported = next((text for kind, text in found if kind == "refused" and text), "")
    if supported:
        verdicts.append(f"supported: {supported}" if verdicts else f"refused; supported: {supported}")
    return markdown.text("; ".join(verdicts))
