"""What the trainer's command lines have in common: flags as the old page has them, and one line for what is wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from trainer.errors import InputError

USAGE_EXIT_CODE, INTERRUPTED_EXIT_CODE = 2, 130


class Parser(argparse.ArgumentParser):
    """Flags are written out in full; a wrong one raises InputError."""

    def __init__(self, prog: str | None = None, description: str | None = None, **settings: Any) -> None:
        super().__init__(prog=prog, description=description, **settings, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog}: {message}; see {self.prog} --help")


def job_parser(module: str, description: str) -> Parser:
    """The parser of a module that runs as a job: with the configuration's path, and what ML Engine adds to each command."""
    parser = Parser(f"python -m {module}", description)
    parser.add_argument(
        "--pipeline_config_path", required=True, help="the pipeline.config, or a Model Garden YAML (a file or gs:// URI)"
    )
    parser.add_argument("--job-dir", help="accepted because ML Engine adds it; not used")
    return parser


def add_format(parser: argparse.ArgumentParser) -> None:
    """--format text or json."""
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how to print the result (default: text)")


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, not {text!r}")
    return int(text)


def run(command: Callable[[], int]) -> int:
    """The command's exit code; bad input is said on stderr, in one message, and gives 2; an interruption 130."""
    try:
        return command()
    except InputError as error:
        print(f"odcloud: error: {error}", file=sys.stderr, flush=True)
        return USAGE_EXIT_CODE
    except KeyboardInterrupt:
        print("odcloud: interrupted", file=sys.stderr, flush=True)
        return INTERRUPTED_EXIT_CODE
