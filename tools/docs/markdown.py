"""Pieces of Markdown that the generated pages are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells may hold Markdown, and no bare pipe."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace(chr(10), ' ') for cell in line)} |\n" for line in lines)


def text(words: str) -> str:
    """Plain words in a cell or a paragraph: nothing in them is taken for Markdown, but what stands in backticks is code."""
    parts = words.split("`")
    for i in range(0, len(parts), 2):
        for character in ("\\", "*", "_", "<", "[", "|"):
            parts[i] = parts[i].replace(character, f"\\{character}" if character != "<" else "&lt;")
    return "`".join(parts)


def code(words: str) -> str:
    """Words as they are, in backticks."""
    return f"`{words}`" if words else ""
