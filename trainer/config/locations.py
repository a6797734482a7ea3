"""Where each field of a protobuf text stands: the parser keeps no lines, so its tokens are read once more."""

from __future__ import annotations

from dataclasses import dataclass, field

from google.protobuf import text_format

_OPEN = {"{": "}", "<": ">"}


@dataclass
class Node:
    """A field as it was written: its name, its line (from 1) and the fields inside it, in order."""

    name: str
    line: int
    children: list[Node] = field(default_factory=list)
    text: str = ""  # the value's first token; empty for a message


def index(text: str) -> Node:
    """The tree of fields in a text that protobuf's parser has accepted, below a nameless root."""
    tokens = text_format.Tokenizer(text.split("\n"))
    root = Node("", 1)
    _read_fields(tokens, root, None)
    return root


def _read_fields(tokens: text_format.Tokenizer, parent: Node, end: str | None) -> None:
    while not tokens.AtEnd():
        if tokens.token == end:
            tokens.NextToken()
            return
        if tokens.token in (",", ";"):
            tokens.NextToken()
            continue
        line = _line(tokens)
        name = _read_name(tokens)
        if tokens.token == ":":
            tokens.NextToken()
        if tokens.token == "[":
            _read_list(tokens, parent, name)
        else:
            _read_value(tokens, parent, Node(name, line))


def _read_name(tokens: text_format.Tokenizer) -> str:
    """A field's name, or an extension's in brackets."""
    name = tokens.token
    tokens.NextToken()
    if name == "[":
        while tokens.token != "]":
            name += tokens.token
            tokens.NextToken()
        name += "]"
        tokens.NextToken()
    return name


def _read_list(tokens: text_format.Tokenizer, parent: Node, name: str) -> None:
    tokens.NextToken()
    while tokens.token != "]":
        if tokens.token == ",":
            tokens.NextToken()
        else:
            _read_value(tokens, parent, Node(name, _line(tokens)))
    tokens.NextToken()


def _read_value(tokens: text_format.Tokenizer, parent: Node, node: Node) -> None:
    parent.children.append(node)
    if tokens.token in _OPEN:
        end = _OPEN[tokens.token]
        tokens.NextToken()
        _read_fields(tokens, node, end)
        return
    node.text = tokens.token
    quoted = tokens.token[:1] in "'\""
    if tokens.token == "-":
        tokens.NextToken()
        node.text += tokens.token
    tokens.NextToken()
    while quoted and tokens.token[:1] in ("'", '"'):  # 'two strings' 'are one'
        tokens.NextToken()


def _line(tokens: text_format.Tokenizer) -> int:
    """The current token's line, which the tokenizer tells only in an error."""
    return int(tokens.ParseError("").GetLine() or 1)  # type: ignore[arg-type]  # the stub is wrong
