"""Times as the services' filters and log entries have them: RFC 3339 text, and microseconds since 1970."""

from __future__ import annotations

import re
from datetime import datetime, timezone

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?)?([Zz]|[+-]\d\d:?\d\d)?$")


def micros_of(text: str) -> int:
    """An RFC 3339 time (also a date alone; UTC unless it says otherwise) in microseconds since 1970. Raises ValueError."""
    match = _TIME.match(text.strip())
    if not match:
        raise ValueError(f"{text!r} is no RFC 3339 time such as 2026-01-31T12:00:00Z")
    date, clock, fraction, zone = match.groups()
    offset = "+00:00" if not zone or zone in "Zz" else zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
    clock = clock or "00:00:00"
    moment = datetime.fromisoformat(f"{date}T{clock if len(clock) > 5 else clock + ':00'}{offset}")
    return int(moment.timestamp()) * 1_000_000 + int((fraction or "0").ljust(9, "0")[:6])


def rfc3339(micros: int) -> str:
    """Microseconds since 1970 as RFC 3339 text of fixed width (clients compare it as text)."""
    return (
        datetime.fromtimestamp(micros // 1_000_000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S") + f".{micros % 1_000_000:06d}Z"
    )
