"""A replica's output as log lines: read from a growing file, whole lines only, and turned into Cloud Logging payloads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MAX_LINE = 256 * 1024  # bytes: what Cloud Logging takes in one entry
MAX_READ = 1024 * 1024  # bytes read at a time, so that one chatty replica does not hold up the others
MAX_LAST = 64 * 1024  # bytes at a file's end in which its last lines are looked for

SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY")


def read_lines(path: Path, offset: int, *, final: bool = False, limit: int = MAX_READ) -> tuple[list[str], int]:
    """The lines that a file has from byte `offset` on, and the offset after them.

    A line without its end is held back unless `final` (nobody writes any more). A line over 256 KiB comes in pieces.
    Bytes that are not UTF-8 are replaced. A missing file has no lines.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(limit)
    except FileNotFoundError:
        return [], offset
    final = final and len(data) < limit
    lines: list[str] = []
    start = 0
    while start < len(data):
        end = data.find(b"\n", start)
        whole = end >= 0
        if not whole:
            end = len(data)
        if end - start > MAX_LINE:
            piece = _character_boundary(data, start, start + MAX_LINE)
            lines.append(data[start:piece].decode(errors="replace"))
            start = piece
        elif whole or final:
            lines.append(data[start:end].decode(errors="replace").removesuffix("\r"))
            start = end + 1 if whole else end
        else:
            break
    return lines, offset + start


def _character_boundary(data: bytes, start: int, end: int) -> int:
    """The last place at or before `end` that does not split a UTF-8 character."""
    place = end
    while place > max(start + 1, end - 3) and data[place] & 0xC0 == 0x80:
        place -= 1
    return end if data[place] & 0xC0 == 0x80 else place


def last_lines(path: Path, count: int = 20) -> list[str]:
    """The last lines of a file that are not blank, none when it is missing."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - MAX_LAST))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]


def payload(line: str, severity: str, tag: str) -> dict[str, Any]:
    """The severity and payload of a log entry for one line; `tag`: the replica's name.

    A JSON object becomes jsonPayload and may name its own "severity". Anything else is wrapped with `severity`, as the agent on
    Vertex AI's machines does it: `{"message", "levelname", "attrs": {"tag"}}`.
    """
    if line.startswith("{") and line.rstrip().endswith("}"):
        try:
            fields = json.loads(line, parse_constant=_reject)
        except (ValueError, RecursionError):
            fields = None
        if isinstance(fields, dict):
            own = fields.get("severity")
            if isinstance(own, str) and own.upper() in SEVERITIES:
                del fields["severity"]
                severity = own.upper()
            return {"severity": severity, "jsonPayload": fields}
    return {"severity": severity, "jsonPayload": {"message": line, "levelname": severity, "attrs": {"tag": tag}}}


def _reject(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")  # NaN and Infinity, which a response could not carry
