"""Notices training that is of no use: a cluster that stands still, and which replica does not answer; an exploding loss."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from trainer.progress import duration, log

# A first step includes tracing and, on GPUs, the choice of algorithms: that takes minutes of its own.
_FIRST_STEP_TIMES = 3
# What opens an HTTP/2 connection (RFC 9113, section 3.4), as gRPC servers speak it: they answer with settings of their own.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_ANSWER_SECONDS = 5.0


# So many losses in a row above this, and so many times above the first ones: nothing good comes of it any more.
_LAST, _EXPLODED, _EXPLODED_TIMES = 5, 1000.0, 100.0


def explodes(losses: Sequence[float]) -> bool:
    """Whether the last few losses are all far above those that training began with, and above a loss's usual range."""
    return len(losses) > 2 * _LAST and min(losses[-_LAST:]) > max(_EXPLODED, _EXPLODED_TIMES * max(losses[:_LAST]))


class Watchdog:
    """Runs in a thread of its own from `start` on: says so when there was no step for so long, and gives up after twice that.

    replicas: "host:port" of each other replica, by name. give_up: called once, from the thread, with the reason.
    """

    def __init__(self, seconds: float, replicas: Mapping[str, str], give_up: Callable[[str], None]) -> None:
        self._seconds = seconds
        self._replicas = replicas
        self._give_up = give_up
        self._step_at = time.monotonic()
        self._first = True
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watchdog:
        self._step_at = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def step(self) -> None:
        """A step has come to its end, or something else that takes long, such as a checkpoint."""
        self._step_at = time.monotonic()
        self._first = False

    def _run(self) -> None:
        said = 0.0
        while not self._done.wait(min(1.0, self._seconds / 4)):
            still = time.monotonic() - self._step_at
            patience = self._seconds * (_FIRST_STEP_TIMES if self._first else 1)
            if still < patience:
                said = 0.0
            elif not said:
                said = still
                log(f"no step for {duration(still)}: {self._suspects()}", "ERROR")
            elif still > 2 * patience:
                self._give_up(f"no step for {duration(still)}: {self._suspects()}")
                return

    def _suspects(self) -> str:
        silent = [f"{name} ({address})" for name, address in self._replicas.items() if not answers(address)]
        if silent:
            return f"no answer from {', '.join(silent)}"
        return f"all of {', '.join(self._replicas)} answer" if self._replicas else "there are no other replicas to wait for"


def answers(address: str) -> bool:
    """Whether a gRPC server at "host:port" is alive: a process that stands still accepts connections, but says nothing."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS) as connection:
            connection.sendall(_PREFACE)
            return bool(connection.recv(1))
    except OSError:
        return False
