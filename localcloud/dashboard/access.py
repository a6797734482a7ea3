"""Who may see the pages: one-time codes, the session cookie that one is changed for, and the mark that a form carries.

`odcloud open` asks for a code with the bearer token and opens a link that has it; the code works once and soon goes stale. The
session is signed with the bearer token, so it outlives a restart of the server and ends with `odcloud local reset`. It is no
bearer token itself: the APIs take none of it. A browser sends the cookie to every port of this host, so its name has the port
in it, and a form is accepted only with a mark of the session's own and from this very origin.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable

CODE_SECONDS = 600
SESSION_SECONDS = 12 * 3600


class Codes:
    """The codes that were given out and not used yet, each with the path that it opens. Kept in memory only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, tuple[str, float]] = {}

    def give(self, path: str) -> str:
        """A new code for a path."""
        code = secrets.token_urlsafe(32)
        with self._lock:
            now = self._clock()
            self._open = {known: entry for known, entry in self._open.items() if entry[1] > now}
            self._open[code] = (path, now + CODE_SECONDS)
        return code

    def take(self, code: str) -> str | None:
        """The path of a code, which is void from now on; None for one that is not known, used or stale."""
        with self._lock:
            path, until = self._open.pop(code, ("", 0.0))
        return path if until > self._clock() else None


def new_session(key: str, now: float) -> str:
    """A cookie's value: until when (seconds since 1970), something random, and the signature of both."""
    head = f"{int(now) + SESSION_SECONDS}.{secrets.token_urlsafe(16)}"
    return f"{head}.{_sign(key, 'session', head)}"


def session_is_valid(key: str, session: str, now: float) -> bool:
    """Whether this server's key signed it and its time is not over."""
    head, _, signature = session.rpartition(".")
    until = head.partition(".")[0]
    genuine = hmac.compare_digest(signature.encode(), _sign(key, "session", head).encode())
    return genuine and until.isdigit() and int(until) > now


def form_mark(key: str, session: str) -> str:
    """What a form of this session's pages carries, and no other page can know."""
    return _sign(key, "form", session)


def form_is_genuine(key: str, session: str, mark: str) -> bool:
    return hmac.compare_digest(mark.encode(), form_mark(key, session).encode())


def _sign(key: str, purpose: str, text: str) -> str:
    return hmac.new(key.encode(), f"dashboard {purpose} {text}".encode(), hashlib.sha256).hexdigest()
