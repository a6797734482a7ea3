"""Ports for replicas to listen on, on the loopback address."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection

# Below the ports that systems give to outgoing connections (Linux from 32768, macOS from 49152): what is free now stays free.
_FIRST, _LAST = 20000, 32000


def allocate(count: int, taken: Collection[int]) -> list[int]:
    """So many free ports, none of those taken. Raises OSError when there are not enough."""
    found: list[int] = []
    start = random.randrange(_FIRST, _LAST)
    for port in (*range(start, _LAST), *range(_FIRST, start)):
        if len(found) == count:
            break
        if port not in taken and _is_free(port):
            found.append(port)
    if len(found) < count:
        raise OSError(f"fewer than {count} ports are free on 127.0.0.1 between {_FIRST} and {_LAST}")
    return found


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
