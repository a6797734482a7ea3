"""The shell blocks of the documentation, and what stands above each of them on whether, and by what, it is run.

A block in sh or bash is run by tests/e2e/test_docs_blocks.py, in the order of its page, unless a comment right above it says
otherwise: `<!-- run by: FILE, … -->` names tests that run its commands, `<!-- not run: REASON -->` says why none does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHELLS = {"sh", "bash", "shell", "console", "zsh"}
_FENCE = re.compile(
    r"^(?:<!-- (?P<mark>not run|run by): (?P<said>[^\n]*?) -->\n)?(?P<indent> *)```(?P<language>[^\n]*)\n(?P<code>.*?)^ *```$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """A fenced block. mark: "run by", "not run" or nothing; said: what the mark says; heading: the one that it stands under."""

    page: str
    line: int
    heading: str
    language: str
    code: str
    mark: str = ""
    said: str = ""

    @property
    def is_shell(self) -> bool:
        return self.language in SHELLS

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> list[list[str]]:
        """The words of each command, comments and continued lines taken care of; what only sets the shell up is left out."""
        text = re.sub(r"\s+#.*$|^#.*$", "", self.code.replace("\\\n", " "), flags=re.M)
        lines = [part.split() for line in text.splitlines() for part in re.split(r"&&|\|\||;", line)]
        return [words for words in lines if words and words[0] not in {"source", "eval", "cd", "export"}]


def pages() -> list[str]:
    """Paths of all pages that have blocks to run, from the root."""
    return ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text[: match.start()]), re.M)
        found.append(
            Block(
                page,
                text.count("\n", 0, match.start("language")) + 1,
                headings[-1] if headings else "",
                match["language"].split(" ")[0],
                match["code"].strip(),
                match["mark"] or "",
                match["said"] or "",
            )
        )
    return found
