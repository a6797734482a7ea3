"""Every shell block of the documentation is run: by tests/e2e/test_docs_blocks.py, or by the tests that its mark names."""

from __future__ import annotations

import re

import pytest
from doc_blocks import ROOT, Block, blocks, pages

from tools.docs import command_line

EVERY = [block for page in pages() for block in blocks(page)]
KNOWN = {tuple(command.name.split()) for command in command_line.commands()}


def name(words: list[str]) -> list[str]:
    """What a command is called by: the words of odcloud's that are no arguments, of others the first two."""
    words = [words[0].rpartition("/")[2], *words[1:]]
    for length in range(len(words), 1, -1):
        if tuple(words[:length]) in KNOWN:
            return words[1:length]
    assert words[0] != "odcloud", f"{' '.join(words)}: there is no such command"
    return [word for word in words[:2] if re.fullmatch(r"[a-z-]+", word)]


def test_blocks_are_found_and_each_says_what_it_is_written_in() -> None:
    assert sum(block.is_shell for block in EVERY) > 15
    assert not [block.place for block in EVERY if not block.language]
    # Nothing looks like a fence and is none for lack of an end.
    assert sum((ROOT / page).read_text(encoding="utf-8").count("```") for page in pages()) == 2 * len(EVERY)


def test_every_mark_stands_above_a_block() -> None:
    marks = sum(len(re.findall(r"<!-- (?:not run|run by):", (ROOT / page).read_text(encoding="utf-8"))) for page in pages())
    assert marks == sum(bool(block.mark) for block in EVERY)


@pytest.mark.parametrize("block", [block for block in EVERY if block.mark == "not run"], ids=lambda block: block.place)
def test_a_block_that_is_not_run_says_why_and_exists_all_the_same(block: Block) -> None:
    assert len(block.said) > 20
    assert all(name(words) for words in block.commands() if re.fullmatch(r"[a-z-]+", words[0]))


@pytest.mark.parametrize("block", [block for block in EVERY if block.mark == "run by"], ids=lambda block: block.place)
def test_the_tests_that_a_mark_names_have_the_commands(block: Block) -> None:
    sources = [(ROOT / path).read_text(encoding="utf-8") for path in block.said.split(", ")]
    assert block.commands()
    if any(f'"{block.heading}"' in source and "doc_blocks" in source for source in sources):
        return  # it reads the block from the page
    words = set(re.findall(r"[a-z-]+", " ".join(sources)))
    missing = {" ".join(command) for command in block.commands() if not words.issuperset(name(command))}
    assert not missing


@pytest.mark.parametrize(
    "block", [block for block in EVERY if block.is_shell and not block.mark], ids=lambda block: block.place
)
def test_the_others_have_commands_that_there_are(block: Block) -> None:
    assert all(name(words) for words in block.commands())
