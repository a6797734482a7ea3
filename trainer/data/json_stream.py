"""A JSON object too large for memory, such as COCO's annotations: the elements of its lists, one after the other."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

from trainer.errors import InputError

_PIECE = 1 << 20  # characters read at once
MAX_VALUE = 16 << 20  # characters that one element may take


def elements(path: Path, keys: Container[str]) -> Iterator[tuple[str, Any]]:
    """Yields (key, element) of the lists under `keys` of the file's object; what else it holds is read and dropped.

    Memory: a piece of the file, or one element. Raises InputError naming file and position: unreadable, not such a JSON,
    one of `keys` not a list, an element longer than MAX_VALUE or nested too deeply.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from _elements(_Stream(file, str(path)), keys)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; name the folder that holds annotations/") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not a UTF-8 text; copy the file again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _elements(stream: _Stream, keys: Container[str]) -> Iterator[tuple[str, Any]]:
    stream.expect("{")
    more = not stream.take("}")
    while more:
        key = stream.value()
        if not isinstance(key, str):
            stream.fail("a key in quotes is missing")
        stream.expect(":")
        if stream.take("["):
            going = not stream.take("]")
            while going:
                element = stream.value()
                if key in keys:
                    yield key, element
                going = stream.take(",")
                if not going:
                    stream.expect("]")
        elif key in keys:
            stream.fail(f'"{key}" is not a list')
        else:
            stream.value()
        more = stream.take(",")
        if not more:
            stream.expect("}")
    if stream.peek():
        stream.fail("something follows the end")


class _Stream:
    """The text from `position` of `buffer` on; what lies before is forgotten as more is read."""

    def __init__(self, file: TextIO, place: str) -> None:
        self.file, self.place = file, place
        self.buffer, self.position, self.before, self.ended = "", 0, 0, False
        self.decoder = json.JSONDecoder(parse_constant=_refuse)

    def peek(self) -> str:
        """The next character that is no space, "" at the end."""
        while True:
            while self.position < len(self.buffer):
                if self.buffer[self.position] not in " \t\r\n":
                    return self.buffer[self.position]
                self.position += 1
            if self.ended:
                return ""
            self._read(_PIECE)

    def take(self, character: str) -> bool:
        found = self.peek() == character
        self.position += found
        return found

    def expect(self, character: str) -> None:
        if not self.take(character):
            self.fail(f"{character} expected" if self.peek() else "ends too early; copy the file again")

    def value(self) -> Any:
        self.peek()
        while True:
            problem = "ends too early; copy the file again"
            try:
                value, end = self.decoder.raw_decode(self.buffer, self.position)
                # A number may go on where the buffer ends, also after its point or exponent.
                if self.ended or self.buffer[end : end + 1] not in ("", ".", "e", "E"):
                    self.position = end
                    return value
            except RecursionError:
                self.fail("nested too deeply")
            except ValueError as error:
                # It may only be cut where the buffer ends: the same is tried again with twice as much.
                problem = getattr(error, "msg", "is not valid JSON")
            left = len(self.buffer) - self.position
            if self.ended:
                self.fail(problem)
            if left > MAX_VALUE:
                self.fail(f"{problem}, or a value of more than {MAX_VALUE} characters")
            self._read(max(_PIECE, left))

    def fail(self, what: str) -> NoReturn:
        raise InputError(f"{self.place}: at character {self.before + self.position + 1}: {what}")

    def _read(self, count: int) -> None:
        text = self.file.read(count)
        self.ended = not text
        self.before += self.position
        self.buffer, self.position = self.buffer[self.position :] + text, 0


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")
