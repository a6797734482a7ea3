"""How a job that is followed looks, on standard error: a live table and bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Protocol, TextIO

from launcher.jobs.view import Note, View, duration

if TYPE_CHECKING:
    from rich.console import RenderableType

PROGRESS_SECONDS = 10.0
_COLOURS = {
    "RUNNING": "cyan",
    "SUCCEEDED": "green",
    "FAILED": "red",
    "RESTARTING": "yellow",
    "STOPPED": "dim",
    "PENDING": "dim",
}


class Screen(Protocol):
    """Where lines and the state of a job are shown."""

    def tell(self, note: Note) -> None:
        """Says something once."""

    def show(self, view: View) -> None:
        """Shows the job as it is now."""

    def close(self) -> None:
        """Leaves the terminal as it was found."""


def screen() -> Screen:
    """The screen that suits standard error."""
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return Live()
    return Plain(sys.stderr)


class Plain:
    """Lines of text and nothing else: each change as it comes, progress every ten seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._told = ""
        self._next = 0.0

    def tell(self, note: Note) -> None:
        print(note.text, file=self._stream, flush=True)

    def show(self, view: View) -> None:
        text = str(view.progress or "")
        now = time.monotonic()
        if text != self._told and (now >= self._next or view.ended):
            self.tell(Note(text))
            self._told, self._next = text, now + PROGRESS_SECONDS

    def close(self) -> None:
        pass


class Live:
    """A line per replica and a bar, redrawn in place by rich; what is said once scrolls by above."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        self._console = Console(stderr=True, highlight=False)
        self._live = RichLive(console=self._console, refresh_per_second=4)
        self._started = False

    def tell(self, note: Note) -> None:
        if not note.routine:
            self._console.print(note.text, markup=False, soft_wrap=True)

    def show(self, view: View) -> None:
        if not self._started:
            self._live.start()
            self._started = True
        self._live.update(_drawn(view), refresh=True)

    def close(self) -> None:
        if self._started:
            self._live.stop()


def _drawn(view: View) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    replicas = Table.grid(padding=(0, 2))
    for replica in view.replicas.values():
        state, _, rest = view.described(replica).partition(" · ")
        replicas.add_row(Text(f"  {replica.name}"), Text(state, style=_COLOURS.get(state, "")), Text(rest, style="dim"))
    lines: list[RenderableType] = [replicas]
    progress = view.progress
    if progress:
        bar = Table.grid(padding=(0, 1))
        cells: list[RenderableType] = [Text(" ")]
        if progress.steps:
            cells.append(ProgressBar(total=progress.steps, completed=progress.step, width=32))
        bar.add_row(*cells, Text(str(progress)))
        lines.append(bar)
    seconds = view.seconds()
    took = f" after {duration(seconds)}" if seconds is not None else ""
    lines.append(Text(f"  {view.state}{took}", style=f"bold {_COLOURS.get(view.state, '')}".strip()))
    return Group(*lines)
