"""Ports for servers that are started in a moment, that nobody takes in that moment."""

from __future__ import annotations

import os
import random
import socket

# What a system gives to outgoing connections is above (Linux from 32768 on): a port from there that is free now may be the
# near end of somebody's connection a second later. The local cloud's own ranges, 8791 to 8890 and 20000 to 32000, are left out.
_FIRST, _LAST = 10000, 20000
_SHARES = 10


def _share() -> range:
    """The ports of this test process: another one that runs beside it has others."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    size = (_LAST - _FIRST) // _SHARES
    first = _FIRST + (int(worker) if worker.isdigit() else 0) % _SHARES * size
    return range(first, first + size)


_next = random.randrange(len(_share()))


def free_port() -> int:
    """A port of 127.0.0.1 that is free, and was not given before as long as there are others."""
    global _next
    ports = _share()
    for _ in ports:
        port = ports[_next % len(ports)]
        _next += 1
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no port from {ports[0]} to {ports[-1]} is free")
