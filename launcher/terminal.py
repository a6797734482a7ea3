"""Plain words on the terminal: what a command says on standard error, and tables on standard output."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def say(text: str) -> None:
    """Says something that is not the command's result."""
    print(text, file=sys.stderr, flush=True)


def table(rows: Sequence[Sequence[str]]) -> None:
    """Prints rows of equally many cells, column under column."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def size(amount: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.3g} {unit}"
        amount /= 1024
    return f"{amount:.3g} GiB"
