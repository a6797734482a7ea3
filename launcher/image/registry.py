"""Images in Artifact Registry, asked of its API: no Docker engine is needed for that."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from launcher.google.api import Google, GoogleError

_METHODS = "artifactregistry.projects.locations.repositories"
_URI = re.compile(r"([a-z0-9-]+)-docker\.pkg\.dev/([^/]+)/([^/]+)/([^:@]+)(?:@(sha256:[0-9a-f]{64})|:([\w.-]+))?")


@dataclass(frozen=True)
class Image:
    """An image of a repository, by its digest or else by its tag."""

    project: str
    repository: str
    """Its resource name."""
    package: str
    """As resource names have it."""
    digest: str | None
    tag: str


def parsed(uri: str) -> Image | None:
    """What an image's address says; None for one that is not in Artifact Registry."""
    match = _URI.fullmatch(uri)
    if not match:
        return None
    location, project, repository, package, digest, tag = match.groups()
    name = f"projects/{project}/locations/{location}/repositories/{repository}"
    return Image(project, name, quote(package, safe=""), digest, tag or "latest")


def find(google: Google, image: Image) -> str | None:
    """An image's digest, or None when the repository does not have it. Raises GoogleError."""
    try:
        if image.digest:
            google.call(f"{_METHODS}.dockerImages.get", name=f"{image.repository}/dockerImages/{image.package}@{image.digest}")
            return image.digest
        tag = google.call(f"{_METHODS}.packages.tags.get", name=f"{image.repository}/packages/{image.package}/tags/{image.tag}")
    except GoogleError as error:
        if error.status == 404:
            return None
        raise
    return str(tag["version"]).rpartition("/")[2]
