"""Reads a configuration such that nothing in it can be overlooked.

A mapping asks a Section for each field that it understands. What is set in the file and nobody asked for is reported at the
end, with its line; so is every value that the asker refuses. All problems come together, in the order of the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from trainer.config.locations import Node
from trainer.errors import InputError

MAPPED, APPROXIMATED, NO_EFFECT, REFUSED = "mapped", "approximated", "no effect", "refused"
_MOST_PROBLEMS = 100  # in one error; no file that was written by hand has more


class Note(NamedTuple):
    """What became of one field. text: why it is refused, or what is done in its place."""

    line: int
    name: str
    value: str
    verdict: str
    text: str = ""

    def sentence(self) -> str:
        """The note in words, without its line."""
        if self.verdict == APPROXIMATED:
            return f"{self.name} {self.value}: {self.text}"
        return self.text or f"{self.name} {self.value}"


@dataclass
class Problems:
    """What is wrong with one file, and what is done otherwise than it says, collected."""

    path: str
    found: list[tuple[int, str]] = field(default_factory=list)
    approximations: list[Note] = field(default_factory=list)

    def add(self, line: int, text: str) -> None:
        self.found.append((line, text))

    def raise_if_any(self) -> None:
        """Raises one InputError with a line per problem."""
        if not self.found:
            return
        lines = [f"line {line}: {text}" for line, text in sorted(dict.fromkeys(self.found), key=lambda item: item[0])]
        if len(lines) == 1:
            raise InputError(f"{self.path}: {lines[0]}")
        left = len(lines) - _MOST_PROBLEMS
        shown = [*lines[:_MOST_PROBLEMS], f"and {left} more"] if left > 0 else lines
        raise InputError(f"{len(lines)} problems in {self.path}:\n" + "\n".join(f"  {line}" for line in shown))


class Section:
    """One message of the file, with the place of each of its fields."""

    def __init__(self, message: Message, node: Node, path: str, problems: Problems) -> None:
        self.message = message
        self._node = node
        self._path = path
        self._problems = problems
        self._asked: set[str] = set()
        self._said: dict[str, str] = {}  # by name, what was decided of a field otherwise than that it is mapped
        self._sections: dict[str, list[Section]] = {}

    # ------------------------------------------------------------ asking

    def has(self, name: str) -> bool:
        """Whether the file sets the field. Does not count as having read it."""
        descriptor = self.message.DESCRIPTOR.fields_by_name[name]
        return bool(getattr(self.message, name)) if descriptor.is_repeated else bool(self.message.HasField(name))

    def value(self, name: str) -> Any:
        """A scalar's value, or its default where the file does not set it; a list for a repeated one."""
        self._asked.add(name)
        value = getattr(self.message, name)
        return list(value) if self.message.DESCRIPTOR.fields_by_name[name].is_repeated else value

    def required(self, name: str, why: str = "") -> Any:
        """The same for a field without a usable default: a problem where it is missing (and the default is returned)."""
        if not self.has(name):
            self._problems.add(self._node.line, f"{self.name(name)} is missing{f': {why}' if why else ''}")
        return self.value(name)

    def positive(self, name: str) -> Any:
        """A number above zero."""
        value = self.value(name)
        if not value > 0:
            self.refuse(name, f"must be above 0, not {self.shown(name)}")
        return value

    def only(self, name: str, accepted: Any, because: str) -> None:
        """Accepts one value: for what Model Garden does in one way. `because` completes "… is not supported: "."""
        value = self.value(name)
        same = math.isclose(value, accepted, rel_tol=1e-2) if isinstance(accepted, float) else value == accepted
        if same:
            return
        if self.has(name):
            self.refuse(name, f"{self.shown(name)} is not supported: {because}")
        else:
            wanted = self.shown(name, accepted)
            self._problems.add(
                self._node.line,
                f"{self.name(name)} is not set, which means {self.shown(name)} and is not supported: {because}. Set {wanted}",
            )

    def nearly(self, name: str, accepted: Any, done: str) -> None:
        """Accepts any value; where it is another one than what Model Garden does, `done` says what that is."""
        value = self.value(name)
        same = math.isclose(value, accepted, rel_tol=1e-2) if isinstance(accepted, float) else value == accepted
        if not same:
            self.approximate(name, done)

    def approximate(self, name: str, done: str) -> None:
        """Accepts a field for which something else is done; so also its fields, if it is a message."""
        self._asked.add(name)
        self._said[name] = APPROXIMATED
        scalar = self.message.DESCRIPTOR.fields_by_name[name].message_type is None
        shown = (self.shown(name) if self.has(name) else f"(not set, which means {self.shown(name)})") if scalar else "{ … }"
        self._problems.approximations.append(Note(self.line(name), self.name(name), shown, APPROXIMATED, done))

    def without_effect(self, *names: str) -> None:
        """Fields that say how the old implementation worked, not what it computed: accepted as they are."""
        self._asked.update(names)
        self._said.update(dict.fromkeys(names, NO_EFFECT))

    def section(self, name: str) -> Section:
        """A message field. Where the file lacks it, a section of defaults, placed at its parent."""
        self._asked.add(name)
        if name not in self._sections:
            nodes = self._nodes(name)
            node = nodes[0] if nodes else Node(name, self._node.line)
            self._sections[name] = [Section(getattr(self.message, name), node, self.name(name), self._problems)]
        return self._sections[name][0]

    def required_section(self, name: str) -> Section:
        """The same, with a problem where the file lacks it."""
        if not self.has(name):
            self._problems.add(self._node.line, f"{self.name(name)} {{ … }} is missing")
        return self.section(name)

    def sections(self, name: str) -> list[Section]:
        """A repeated message field."""
        self._asked.add(name)
        if name not in self._sections:
            nodes = self._nodes(name)
            self._sections[name] = [
                Section(item, nodes[i] if i < len(nodes) else self._node, f"{self.name(name)}[{i}]", self._problems)
                for i, item in enumerate(getattr(self.message, name))
            ]
        return self._sections[name]

    def choice(self, oneof: str, supported: Iterable[str]) -> tuple[str, Section | None]:
        """Which field of a oneof is set, and its section: None, with a problem, where it is none of the supported ones."""
        supported = tuple(supported)
        wanted = " or ".join(supported)
        chosen = self.message.WhichOneof(oneof)
        if chosen is None:
            self._problems.add(self._node.line, f"{self._path} is empty: it needs {wanted}")
            return "", None
        if chosen not in supported:
            self.refuse(chosen, f"is not supported; supported: {wanted}")
            return chosen, None
        return chosen, self.section(chosen)

    # ------------------------------------------------------------ telling

    def name(self, field_name: str) -> str:
        """The field's full path."""
        return f"{self._path}.{field_name}" if self._path else field_name

    def line(self, name: str) -> int:
        """The field's line; the section's, where the file lacks it."""
        nodes = self._nodes(name)
        return nodes[0].line if nodes else self._node.line

    def shown(self, name: str, value: Any = None) -> str:
        """A field's value as one would write it in the file."""
        value = getattr(self.message, name) if value is None else value
        descriptor = self.message.DESCRIPTOR.fields_by_name[name]
        if descriptor.enum_type is not None and isinstance(value, int):
            return str(descriptor.enum_type.values_by_number[value].name)
        if isinstance(value, bool):
            return str(value).lower()
        return f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)

    def refuse(self, name: str, text: str) -> None:
        """Reports a problem with a field: `PATH TEXT`."""
        self._asked.add(name)
        self._said[name] = REFUSED
        self._problems.add(self.line(name), f"{self.name(name)} {text}")

    def report_leftovers(self) -> None:
        """Reports what the file sets, differently from its default, and nobody has asked for."""
        for descriptor, value in self.message.ListFields():
            name = descriptor.name
            if name in self._asked:
                if self._said.get(name) in (None, REFUSED):
                    for section in self._sections.get(name, []):
                        section.report_leftovers()
            elif _says_something(descriptor, value):
                for node in self._nodes(name) or [self._node]:
                    self._problems.add(node.line, f"{self.name(name)} is not supported")

    def notes(self) -> Iterator[Note]:
        """What became of each scalar and empty message that the file has and that is neither approximated nor refused."""
        for descriptor, value in self.message.ListFields():
            name = descriptor.name
            verdict = self._said.get(name, MAPPED if name in self._asked else NO_EFFECT)
            if verdict in (APPROXIMATED, REFUSED) or (name not in self._asked and _says_something(descriptor, value)):
                continue
            if descriptor.message_type is not None and verdict == MAPPED:
                for section in self._sections.get(name, []):
                    if section.message.ListFields():
                        yield from section.notes()
                    else:  # such as random_horizontal_flip { }
                        yield Note(section._node.line, section._path, "{ }", verdict)
            else:
                for i, node in enumerate(self._nodes(name)):
                    item = value[i] if descriptor.is_repeated and i < len(value) else None
                    shown = "{ … }" if descriptor.message_type is not None else self.shown(name, item)
                    yield Note(node.line, self.name(name), shown, verdict)

    def _nodes(self, name: str) -> list[Node]:
        return [child for child in self._node.children if child.name == name]


def _says_something(descriptor: FieldDescriptor, value: Any) -> bool:
    """Whether a field that is set means anything else than if it were not."""
    if descriptor.is_repeated or descriptor.message_type is not None:
        return True
    return bool(value != descriptor.default_value)
