"""Buckets as the pages show them, and objects as a browser gets them: pictures and text to look at, the rest to keep.

Whatever an object holds, a script in it must never run as one of the local cloud's own pages: the type that its writer gave it
counts for nothing, only pictures and plain text are shown, all else is a download, and each answer is sandboxed besides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from localcloud.dashboard.client import Client
from localcloud.services.objects import store

PAGE = 200
MOST_PICTURES = 24
MOST_JSON = 4 * 2**20  # bytes of a metrics.json that is read
PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp"}
TEXTS = frozenset({".config", ".csv", ".json", ".jsonl", ".log", ".md", ".pbtxt", ".txt", ".yaml", ".yml"})
_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"


def is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in PICTURES


def is_text(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in TEXTS


def content(client: Client, request: Request, bucket: str, name: str, *, keep: bool) -> Response:
    """An object's content for a browser; `keep`: to be saved, whatever it is. Raises ApiError."""
    found = client.answer(request, "storage.objects.get", bucket=bucket, object=name, alt="media")
    if not isinstance(found, Response):
        raise TypeError("storage.objects.get gave no content")
    suffix = PurePosixPath(name).suffix.lower()
    kind = PICTURES.get(suffix) or ("text/plain; charset=utf-8" if suffix in TEXTS else "application/octet-stream")
    shown = not keep and (suffix in PICTURES or suffix in TEXTS)
    last = quote(name.rstrip("/").rpartition("/")[2], safe="")
    found.headers["Content-Type"] = kind
    found.headers["Content-Disposition"] = f"{'inline' if shown else 'attachment'}; filename*=UTF-8''{last}"
    found.headers["Content-Security-Policy"] = _POLICY
    found.headers["Cache-Control"] = "private, no-cache"
    return found


def buckets(client: Client) -> list[dict[str, Any]]:
    """Every bucket's message."""
    found: list[dict[str, Any]] = []
    params: dict[str, Any] = {"project": client.cloud.project}
    while True:
        answer = client.json("storage.buckets.list", **params)
        found += answer.get("items", [])
        if not answer.get("nextPageToken"):
            return found
        params["pageToken"] = answer["nextPageToken"]


def listing(client: Client, bucket: str, prefix: str, token: str) -> dict[str, Any]:
    """One page of objects and folders below a prefix: the message of `storage.objects.list`. Raises ApiError."""
    params: dict[str, Any] = {"bucket": bucket, "prefix": prefix, "delimiter": "/", "maxResults": PAGE}
    params["fields"] = "items(name,size,updated,contentType),prefixes,nextPageToken"  # no checksums: they are read from files
    if token:
        params["pageToken"] = token
    return client.json("storage.objects.list", **params)


def metrics(client: Client, bucket: str, prefix: str) -> Mapping[str, Any] | None:
    """What an evaluation left in its metrics.json; None when there is none that can be read."""
    opened = store(client.cloud).open(bucket, f"{prefix}metrics.json")
    if opened is None:
        return None
    with opened[1] as file:
        try:
            found = json.loads(file.read(MOST_JSON))
        except (ValueError, RecursionError):
            return None
    return found if isinstance(found, dict) else None


def numbers(found: Mapping[str, Any], key: str) -> list[tuple[str, float | None]]:
    """The named numbers of a part of metrics.json; None stands for one that the data cannot tell."""
    part = found.get(key)
    if not isinstance(part, Mapping):
        return []
    return [
        (name, None if value is None else float(value))
        for name, value in part.items()
        if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
    ]
