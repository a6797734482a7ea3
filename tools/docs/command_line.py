"""The page on the command line: every command and option, from click's own tree and the argparse parsers below it."""

from __future__ import annotations

import argparse
import importlib
import inspect
from collections.abc import Iterator
from typing import NamedTuple
from unittest import mock

import click

from tools.docs import markdown

OTHER_ROOMS = {
    "odcloud local": "localcloud.cli",
    "odcloud config": "trainer.config.__main__",
    "odcloud predict": "trainer.predict",
    **dict.fromkeys(
        (f"odcloud data {name}" for name in ("digits", "fetch", "convert", "inspect", "check")), "trainer.data.__main__"
    ),
}
"""Commands that hand their arguments to another module's `main`, which reads them with argparse."""

OLD = ("odcloud ml-engine", "odcloud ai-platform")
"""gcloud's old command line, a click tree of its own; the second is the first by its later name."""

PROGRAMS = {"python -m trainer.train": "trainer.train", "python -m trainer.evaluate": "trainer.evaluate"}
"""What a replica runs; a job file's `args` give it the flags that the launcher does not."""

_INTRODUCTION = """\
# Command line

Every command and option, as `--help` tells them. Exit codes: 0 done; 1 the job, the report or a check failed; 2 wrong input or
no way to go on, with one message that says what to do; 130 interrupted. With `--format json` the result alone is on standard
output, and everything else on standard error. Each value of a job may come from a flag, from the environment or from the
[job file](job-file.md), in this order.

"""


class Command(NamedTuple):
    """One command. text: Markdown; options: what is typed, and its Markdown meaning."""

    name: str
    usage: str
    text: str
    options: list[tuple[str, str]]
    is_group: bool = False


def commands() -> Iterator[Command]:
    """All commands, each group before what is in it."""
    from launcher.cli import odcloud

    yield from _of_click(odcloud, "odcloud", None)
    for program, module in PROGRAMS.items():
        yield from _of_argparse(_parser(module), program)


def page() -> str:
    """The whole page."""
    parts = [_INTRODUCTION]
    for command in commands():
        if command.name == OLD[1]:
            parts.append(f"## {command.name}\n\nThe same as [`{OLD[0]}`](#{_anchor(OLD[0])}), by its later name.\n\n")
            continue
        parts.append(f"{'##' if command.name.count(' ') < 2 or command.name in PROGRAMS else '###'} {command.name}\n\n")
        parts.append(f"```text\n{command.usage}\n```\n\n{command.text}\n\n")
        if command.options:
            parts.append(
                markdown.table(("option", "meaning"), ((markdown.code(name), said) for name, said in command.options)) + "\n"
            )
    return "".join(parts)


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def _of_click(command: click.Command, name: str, parent: click.Context | None) -> Iterator[Command]:
    if name in OTHER_ROOMS:
        parser = _parser(OTHER_ROOMS[name])
        in_it = _choices(parser)
        last = name.rpartition(" ")[2]
        yield from _of_argparse(in_it.get(last, parser), name)
        return
    if name in OLD and parent is not None:
        from launcher.commands.mlengine import group

        if name == OLD[1]:
            yield Command(name, "", "", [])
        else:
            yield from _of_click(group, name, None)
        return
    context = click.Context(command, info_name=name if parent is None else name.rpartition(" ")[2], parent=parent)
    context.show_default = True
    usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
    options = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record:
            options.append((record[0], markdown.text(record[1])))
    is_group = isinstance(command, click.Group)
    yield Command(name, usage, _click_text(command.help or ""), options, is_group)
    if isinstance(command, click.Group):
        for child, found in command.commands.items():
            yield from _of_click(found, f"{name} {child}", context)


def _click_text(words: str) -> str:
    """click's help as Markdown: paragraphs, and those after a \\b as they stand."""
    made = []
    for paragraph in inspect.cleandoc(words).split("\n\n"):
        if paragraph.startswith("\b"):
            lines = paragraph.splitlines()[1:]
            head = [lines.pop(0)] if lines and not lines[0].startswith(" ") else []
            made.extend([*map(markdown.text, head), "```text\n" + "\n".join(line[2:] for line in lines) + "\n```"])
        else:
            made.append(markdown.text(" ".join(paragraph.split())))
    return "\n\n".join(made)


class _CaughtError(Exception):
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def _parser(module: str) -> argparse.ArgumentParser:
    """The parser that a module's main makes: it is taken away when it is about to read the arguments."""

    def caught(self: argparse.ArgumentParser, *_: object, **__: object) -> None:
        raise _CaughtError(self)

    main = importlib.import_module(module).main
    with mock.patch.object(argparse.ArgumentParser, "parse_args", caught):
        try:
            main(["-"])
        except _CaughtError as found:
            return found.parser
    raise AssertionError(f"{module}.main reads no arguments")


def _choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _of_argparse(parser: argparse.ArgumentParser, name: str, said: str = "") -> Iterator[Command]:
    in_it = _choices(parser)
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split()).replace("[-h] ", "")
    options = [
        (_invocation(action), markdown.text((action.help or "") % {**vars(action), "prog": parser.prog}))
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
    ]
    words = " ".join(part for part in (parser.description or f"{said[:1].upper()}{said[1:]}.", parser.epilog) if part)
    yield Command(name, usage, markdown.text(words), options, bool(in_it))
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                yield from _of_argparse(in_it[choice.dest], f"{name} {choice.dest}", choice.help or "")


def _invocation(action: argparse.Action) -> str:
    """`--port PORT`, `--format [text|json]`, `PATH…`."""
    shown = action.metavar or (f"[{'|'.join(map(str, action.choices))}]" if action.choices else action.dest.upper())
    if not action.option_strings:
        return f"{shown}{' …' if action.nargs in ('+', '*') else ''}"
    return ", ".join(action.option_strings) + ("" if action.nargs == 0 else f" {shown}")
