"""What a job reads that decides what it does: its packages and its configuration, and whether they are what they were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.google.api import GoogleError, split
from launcher.stack.session import Session

CONFIGURATION = "--pipeline_config_path"


def configuration(pool: Mapping[str, Any]) -> str | None:
    """The pipeline configuration that a worker pool's program is given, as `--pipeline_config_path=X` or `… X`."""
    words = [str(word) for word in program(pool).get("args", ())]
    for index, word in enumerate(words):
        if word == CONFIGURATION:
            return words[index + 1] if index + 1 < len(words) else None
        if word.startswith(f"{CONFIGURATION}="):
            return word.partition("=")[2]
    return None


def uris(body: Mapping[str, Any]) -> list[str]:
    """The `gs://` URIs of the packages and the configuration in a `customJobs.create` body, each once."""
    found: list[str] = []
    for pool in body["jobSpec"]["workerPoolSpecs"]:
        found += [*program(pool).get("packageUris", ()), configuration(pool) or ""]
    return [uri for uri in dict.fromkeys(found) if uri.startswith("gs://")]


def program(pool: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a worker pool's replicas run: its package's or its container's part."""
    found: Mapping[str, Any] = pool.get("pythonPackageSpec") or pool.get("containerSpec") or {}
    return found


def checksum(session: Session, uri: str) -> str | None:
    """An object's CRC32C as Cloud Storage tells it; None when there is no such object. Raises GoogleError."""
    bucket, name = split(uri)
    try:
        return str(session.google.call("storage.objects.get", bucket=bucket, object=name)["crc32c"])
    except GoogleError as error:
        if error.status == 404:
            return None
        raise


def checksums(session: Session, body: Mapping[str, Any]) -> dict[str, str]:
    """{URI: checksum} for the record of a launch. What cannot be read now is left out: it must not keep a job from starting."""
    found: dict[str, str] = {}
    for uri in uris(body):
        try:
            known = checksum(session, uri)
        except GoogleError:
            continue
        if known:
            found[uri] = known
    return found
