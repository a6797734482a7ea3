"""Building the image on Google's machines: for those who have no Docker engine.

Shapes: `Build` in the discovery document `cloudbuild.v1`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from launcher.errors import UserError
from launcher.google.api import GoogleError, split
from launcher.jobs.logs import clean

if TYPE_CHECKING:
    from launcher.stack.session import Session

BUILDER = "gcr.io/cloud-builders/docker"
TIMEOUT = "3600s"
POLL = 5.0  # seconds
_ENDED = ("SUCCESS", "FAILURE", "INTERNAL_ERROR", "TIMEOUT", "CANCELLED", "EXPIRED")


def request(image: str, arguments: Mapping[str, str], bucket: str, source: str) -> dict[str, Any]:
    """The body of `cloudbuild.projects.builds.create` that builds and pushes `image` from a context in a bucket. Pure."""
    given = [f"--build-arg={name}={_literal(value)}" for name, value in sorted(arguments.items())]
    label = f"--label=org.opencontainers.image.version={image.rpartition(':')[2]}"
    return {
        "source": {"storageSource": {"bucket": bucket, "object": source}},
        "steps": [{"name": BUILDER, "args": ["build", f"--tag={image}", label, *given, "."]}],
        "images": [image],
        "timeout": TIMEOUT,
        "tags": ["odcloud-image"],
    }


def _literal(value: str) -> str:
    """Cloud Build replaces $NAME in arguments; $$ is a dollar sign."""
    return value.replace("$", "$$")


def _log(session: Session, build: Mapping[str, Any]) -> bytes:
    """A build's log until now, from where gcloud reads it as well; empty while there is none, and where it may not be read."""
    bucket, folder = split(str(build.get("logsBucket", "")))
    if not bucket:
        return b""
    try:
        return session.google.download(bucket, f"{folder}/log-{build['id']}.txt".lstrip("/"))
    except GoogleError:
        return b""


def _tell(text: bytes) -> int:
    """Shows the whole lines of a piece of a log; how many bytes those are."""
    lines = text[: text.rfind(b"\n") + 1]
    if lines:
        click.echo(clean(lines.decode("utf-8", "replace")), err=True)
    return len(lines)


def run(session: Session, body: Mapping[str, Any]) -> str:
    """Submits a build, follows it to its end and returns the image's digest. Raises UserError, GoogleError."""
    project = session.outputs.project
    operation = session.google.call("cloudbuild.projects.builds.create", projectId=project, body=body, repeat=False)
    build = operation["metadata"]["build"]
    click.echo(f"Cloud Build {build['id']}: {build.get('logUrl', '')}", err=True)
    shown, seen = "", 0
    while True:
        status = str(build.get("status", "STATUS_UNKNOWN"))
        if status != shown:
            click.echo(f"Cloud Build {build['id']}: {status}", err=True)
            shown = status
        seen += _tell(_log(session, build)[seen:])
        if status in _ENDED:
            break
        time.sleep(POLL)
        build = session.google.call("cloudbuild.projects.builds.get", projectId=project, id=build["id"])
    images = build.get("results", {}).get("images", [])
    if status != "SUCCESS" or not images:
        why = build.get("failureInfo", {}).get("detail") or build.get("statusDetail") or "its log says more"
        raise UserError(f"Cloud Build {build['id']} ended as {status}: {why}; see {build.get('logUrl', 'its log')}")
    return str(images[0]["digest"])
