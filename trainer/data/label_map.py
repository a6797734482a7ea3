"""Label maps: which class each number in the records stands for, as a StringIntLabelMap in protobuf text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from google.protobuf import text_format

from trainer import files
from trainer.errors import InputError
from trainer.protos import label_map_pb2

_LONGEST = 200  # characters of the parser's words, which repeat what they are about


def read(path: str) -> dict[int, str]:
    """Reads {id: name}, in order of id. A `display_name`, where given, is the name: that is its purpose.

    As some of the Object Detection API's have it, id 0 may be called background, which is no class, and of two equal display
    names the second is told apart by its item's name: "Mouse (/m/020lf)".

    path: a local path, or a gs:// URI (read by TensorFlow, which is loaded for that).

    Raises InputError naming file and line: not a label map, no item, id missing or below 1, name missing, id or name twice.
    """
    return parse(_read_text(path), path)


def parse(text: str, path: str) -> dict[int, str]:
    """The same from a text; `path` only names it in errors."""
    message = label_map_pb2.StringIntLabelMap()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise InputError(f"{_place(path, error.GetLine())}: not a valid label map: {_reason(error)}") from error
    names: dict[int, str] = {}
    id_lines: dict[int, int] = {}
    name_lines: dict[str, int] = {}
    for item, lines in zip(message.item, _item_lines(text), strict=True):
        id_place = _place(path, lines.of("id"))
        if not item.HasField("id"):
            raise InputError(f"{id_place}: item without an id; give it a whole number from 1 on")
        name = item.display_name or item.name
        if item.id == 0 and name == "background":
            continue
        if item.id < 1:
            raise InputError(f"{id_place}: id {item.id} is not allowed; ids start at 1 (0 is the background)")
        if item.id in names:
            raise InputError(f"{id_place}: id {item.id} is already taken in line {id_lines[item.id]}; give each class its own")
        name_line = lines.of("display_name" if item.display_name else "name")
        if name in name_lines and item.display_name and item.name:
            name = f"{item.display_name} ({item.name})"
        if not name.strip():
            raise InputError(f"{_place(path, name_line)}: item with id {item.id} has no name; add name: '…'")
        if name in name_lines:
            raise InputError(f"{_place(path, name_line)}: name '{name}' is already taken in line {name_lines[name]}")
        names[item.id] = name
        id_lines[item.id] = lines.of("id")
        name_lines[name] = name_line
    if not names:
        raise InputError(f"{path}: the label map is empty; it needs an item {{ id: 1 name: '…' }} for each class")
    return dict(sorted(names.items()))


def render(names: Mapping[int, str], display_names: Mapping[int, str] | None = None) -> str:
    """The label map's text, one item per class in order of id."""
    message = label_map_pb2.StringIntLabelMap()
    for number, name in sorted(names.items()):
        display = display_names.get(number) if display_names else None
        message.item.add(id=number, name=name, display_name=display)
    return text_format.MessageToString(message, as_utf8=True)


def _read_text(path: str) -> str:
    try:
        text = files.read(path)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a valid label map: it is not a UTF-8 text") from error
    except OSError as error:
        raise InputError(f"{path}: the label map cannot be read: {error.strerror or error}") from error
    if text is None:
        raise InputError(f"{path}: there is no such label map; check the path, or make the data first")
    return text


def _place(path: str, line: int | None) -> str:
    return f"{path}: line {line}" if line else path


def _reason(error: text_format.ParseError) -> str:
    """The parser's words without the position, which is said already."""
    text = str(error).splitlines()[0]
    line, column = error.GetLine(), error.GetColumn()
    prefix = f"{line}:{column} : " if column else f"{line} : "
    text = text.removeprefix(prefix)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


@dataclass
class _ItemLines:
    start: int
    fields: dict[str, int] = field(default_factory=dict)

    def of(self, name: str) -> int:
        return self.fields.get(name, self.start)


def _item_lines(text: str) -> Iterator[_ItemLines]:
    """Lines (from 1) of each item and its fields, in a text that the parser has accepted.

    The parser keeps no positions, so its tokenizer is run again; where it stands, it tells only in an error. A text may
    write `item: [{…}, {…}]` too: the items are what stands between the outermost braces.
    """
    tokens = text_format.Tokenizer(text.split("\n"))
    depth, item = 0, None
    while not tokens.AtEnd():
        token, line = tokens.token, tokens.ParseError("").GetLine() or 0  # type: ignore[arg-type]  # the stub is wrong
        tokens.NextToken()
        if token in ("{", "<"):
            depth += 1
            if depth == 1:
                item = _ItemLines(line)
        elif token in ("}", ">"):
            depth -= 1
            if depth == 0 and item:
                yield item
                item = None
        elif depth == 1 and item and tokens.token not in ("}", ">"):
            item.fields.setdefault(token, line)
