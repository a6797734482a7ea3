"""Google's list filter language: parsed to a tree, and the tree turned into an SQL condition.

Grammar: AIP-160 and Cloud Logging's query language agree on the part that clients use: comparisons `field OP value` with
= != < <= > >= and : (has), in Cloud Logging also =~, !~ and functions of one value, AND (also by mere adjacency), OR, NOT and
`-`, parentheses. OR binds tighter than AND, as both say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

MAX_TOKENS = 1500  # SQLite takes expressions up to a depth of 1,000
OPERATORS = ("!=", "<=", ">=", "=", "<", ">", ":")
SQL_OPERATORS = {"=": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}

_TOKEN = re.compile(
    r"""\s+|--[^\n]*
    |(?P<paren>[(),])
    |(?P<op>!=|<=|>=|=~|!~|=|<|>|:)
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<word>-?[^\s()"'=<>:!,]+(?:(?<=\.)"(?:[^"\\]|\\.)*"[^\s()"'=<>:!,]*)*)""",
    re.VERBOSE,
)
_BARE_VALUE = re.compile(r"""(?P<word>[^\s()"']+)""")  # after an operator a colon is part of the value, as in a time


class FilterError(ValueError):
    """A filter that can't be understood; the message says where and why."""


@dataclass(frozen=True)
class Comparison:
    """`field OP value`."""

    field: str
    operator: str
    value: str


@dataclass(frozen=True)
class Text:
    """A bare value: matches where any field holds it."""

    value: str


@dataclass(frozen=True)
class Not:
    """The opposite of a filter."""

    operand: Node


@dataclass(frozen=True)
class And:
    """Every one of some filters."""

    operands: tuple[Node, ...]


@dataclass(frozen=True)
class Or:
    """At least one of some filters."""

    operands: tuple[Node, ...]


Node = Comparison | Text | Not | And | Or
Condition = tuple[str, list[Any]]


Functions = Mapping[str, Callable[[str], Node]]
"""What a function stands for, by its name, when it is called with a value."""


def parse(text: str, operators: Collection[str] = OPERATORS, functions: Functions | None = None) -> Node | None:
    """The tree of a filter, None for an empty one. Raises FilterError."""
    parser = _Parser(_tokens(text), operators, functions or {})
    if parser.at_end():
        return None
    node = parser.conjunction()
    if not parser.at_end():
        raise parser.error("unexpected")
    return node


def no_text(value: str) -> Condition:
    """What the services say that take comparisons only."""
    raise ValueError(f"{value!r} is no comparison")


def to_sql(node: Node, comparison: Callable[[Comparison], Condition], text: Callable[[str], Condition] = no_text) -> Condition:
    """An SQL condition and its parameters; the two callables say how a comparison and a bare value are expressed."""
    if isinstance(node, Comparison):
        return comparison(node)
    if isinstance(node, Text):
        return text(node.value)
    if isinstance(node, Not):
        condition, parameters = to_sql(node.operand, comparison, text)
        return f"NOT coalesce({condition}, 0)", parameters  # a comparison with a missing field fails, its NOT holds
    parts = [to_sql(operand, comparison, text) for operand in node.operands]
    joint = " AND " if isinstance(node, And) else " OR "
    return "(" + joint.join(part for part, _ in parts) + ")", [p for _, parameters in parts for p in parameters]


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    position: int


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        bare = _BARE_VALUE.match(text, position) if tokens and tokens[-1].kind == "op" else None
        match = bare or _TOKEN.match(text, position)
        if not match:
            raise FilterError(f"unexpected {text[position]!r} at position {position + 1}")
        if match.lastgroup:
            tokens.append(_Token(match.lastgroup, match.group(), position))
        position = match.end()
        if len(tokens) > MAX_TOKENS:
            raise FilterError(f"it has more than {MAX_TOKENS} words and signs")
    return tokens


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text[:1] in "\"'" else text


class _Parser:
    def __init__(self, tokens: list[_Token], operators: Collection[str], functions: Functions) -> None:
        self.tokens, self.operators, self.functions, self.position = tokens, operators, functions, 0

    def at_end(self) -> bool:
        return self.position >= len(self.tokens)

    def peek(self, *texts: str) -> bool:
        return not self.at_end() and self.tokens[self.position].text in texts

    def take(self) -> _Token:
        self.position += 1
        return self.tokens[self.position - 1]

    def error(self, what: str) -> FilterError:
        if self.at_end():
            return FilterError(f"{what} at the end")
        token = self.tokens[self.position]
        return FilterError(f"{what} {token.text!r} at position {token.position + 1}")

    def conjunction(self) -> Node:
        operands = [self.disjunction()]
        while not self.at_end() and not self.peek(")"):
            if self.peek("AND"):
                self.take()
            operands.append(self.disjunction())
        return operands[0] if len(operands) == 1 else And(tuple(operands))

    def disjunction(self) -> Node:
        operands = [self.negation()]
        while self.peek("OR"):
            self.take()
            operands.append(self.negation())
        return operands[0] if len(operands) == 1 else Or(tuple(operands))

    def negation(self) -> Node:
        if self.peek("NOT", "-"):
            self.take()
            return Not(self.negation())
        return self.term()

    def term(self) -> Node:
        if self.at_end() or self.peek("AND", "OR", ")", ",") or self.tokens[self.position].kind == "op":
            raise self.error("expected a comparison, found" if not self.at_end() else "expected a comparison")
        if self.peek("("):
            self.take()
            node = self.conjunction()
            if not self.peek(")"):
                raise self.error("expected ')'" if self.at_end() else "expected ')', found")
            self.take()
            return node
        token = self.take()
        if self.is_called(token):
            return self.call(token)
        if self.at_end() or self.tokens[self.position].kind != "op":
            return Text(_unquote(token.text))
        operator = self.take()
        if operator.text not in self.operators:
            raise FilterError(f"the operator {operator.text!r} at position {operator.position + 1} is not supported here")
        negative = token.kind == "word" and token.text.startswith("-")
        node = self.values(token.text[1:] if negative else token.text, operator.text)
        return Not(node) if negative else node

    def is_called(self, token: _Token) -> bool:
        """Whether a parenthesis follows a word directly: after a blank one begins a part of the filter."""
        end = token.position + len(token.text)
        return token.kind == "word" and self.peek("(") and self.tokens[self.position].position == end

    def call(self, token: _Token) -> Node:
        name = token.text.removeprefix("-")
        self.take()
        if name not in self.functions:
            raise FilterError(f"the function {name!r} at position {token.position + 1} is not supported here")
        if self.at_end() or self.tokens[self.position].kind not in ("word", "string"):
            raise self.error(f"expected a value for {name}" + ("" if self.at_end() else ", found"))
        node = self.functions[name](_unquote(self.take().text))
        if not self.peek(")"):
            raise self.error(f"expected ')' after the one value of {name}" + ("" if self.at_end() else ", found"))
        self.take()
        return Not(node) if token.text != name else node

    def values(self, field: str, operator: str) -> Node:
        if self.peek("("):  # field = (a OR b)
            self.take()
            alternatives = [self.value(field, operator)]
            joint = "OR"
            while self.peek("OR", "AND"):
                joint = self.take().text
                alternatives.append(self.value(field, operator))
            if not self.peek(")"):
                raise self.error("expected ')'" if self.at_end() else "expected ')', found")
            self.take()
            return (Or if joint == "OR" else And)(tuple(alternatives))
        return self.value(field, operator)

    def value(self, field: str, operator: str) -> Node:
        if self.at_end() or self.tokens[self.position].kind not in ("word", "string"):
            raise self.error(f"expected a value after {field}{operator}" + ("" if self.at_end() else ", found"))
        return Comparison(field, operator, _unquote(self.take().text))
