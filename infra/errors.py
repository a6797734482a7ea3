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
    """A StackError within ends the program with its message, and with nothing else around it.

    So does what the system refuses: a file that may not be read, a full disk.
    """
    try:
        yield
    except StackError as error:
        pulumi.log.error(str(error))
        sys.exit(SHOWN)
    except OSError as error:
        pulumi.log.error(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
        sys.exit(SHOWN)
