"""The one error of the stack program."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pulumi

SHOWN = 32
"""Exit code by which a program tells Pulumi that the error was shown already (pulumi-language-python-exec)."""


class StackError(pulumi.RunError):
    """Something in the stack's configuration or sources is wrong."""


@contextmanager
def told() -> Iterator[None]:
    """A StackError within ends the program with its message, and with nothing else around it."""
    try:
        yield
    except StackError as error:
        pulumi.log.error(str(error))
        sys.exit(SHOWN)
