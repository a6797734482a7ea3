"""Values as people read them. Pure."""

from __future__ import annotations

import math
import re
from datetime import datetime, timezone

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-Z\\-_]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def moment(text: str) -> datetime:
    """A stored RFC 3339 time in UTC."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def seconds_between(start: str | None, end: str | None, now: datetime) -> float | None:
    """From `start` to `end`, or to now when there is no end yet; None before the start."""
    if not start:
        return None
    return max(0.0, ((moment(end) if end else now) - moment(start)).total_seconds())


def duration(seconds: float | None) -> str:
    """45 s, 2 min 51 s, 3 h 5 min; a dash for None."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def clock(text: str | None) -> str:
    """Date and time of day: 2026-01-31 12:00:05."""
    return moment(text).astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S") if text else "–"


def size(count: int) -> str:
    """Bytes: 0 B, 812 B, 1.4 kB, 23 MB (powers of 1000)."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            break
        value /= 1000
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"


def number(value: float) -> str:
    """Three digits that count: 0.0123, 1.23, 46.5, 1,234; infinity and no number by name."""
    if not math.isfinite(value):
        return "not finite"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def dollars(amount: float) -> str:
    """$1,234.50, $0.27; below ten cents with tenths of a cent: $0.008, and below those <$0.001."""
    if 0 < amount < 0.0005:
        return "<$0.001"
    return f"${amount:.3f}" if 0 < amount < 0.0995 else f"${amount:,.2f}"


def plain(line: str) -> str:
    """A log line without colours for terminals; other control characters are made visible."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", _ANSI.sub("", line))


def counted(count: int, one: str, many: str = "") -> str:
    """`1 worker`, `2 workers`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
