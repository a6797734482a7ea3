"""A Docker engine for the tests that need one, and jobs of containers."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import docker
import pytest
from docker.errors import DockerException, NotFound

# What stands for the Dockerfile's default base image where no registry of images can be reached (tools/ci/docker_engine.sh).
BASE_IMAGE = os.environ.get("ODCLOUD_TEST_BASE_IMAGE") or "python:3.11-slim-bookworm"


def engine() -> Any:
    """The engine at $DOCKER_HOST or at the usual socket. In continuous integration there must be one."""
    try:
        client = docker.from_env(timeout=600)  # a machine may be busy
        client.ping()
        return client
    except (DockerException, OSError) as error:
        why = f"needs a Docker engine (README.md says how to have one): {error}"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)


def labelled(client: Any, home: object) -> list[Any]:
    """The containers of a local cloud's jobs, running or not."""
    found = client.containers.list(all=True, ignore_removed=True, filters={"label": "odcloud.job"})
    return [container for container in found if container.labels["odcloud.job"].startswith(f"{home}:")]


def gone(client: Any, container: str, seconds: float = 120) -> bool:
    """Whether a container is removed, soon."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        try:
            client.containers.get(container)
        except NotFound:
            return True
        time.sleep(0.1)
    return False


def container_pool(image: str, args: Sequence[str], *, count: int = 1, **more: Any) -> dict[str, Any]:
    """A worker pool of containers; `more` is command or env."""
    return {
        "replicaCount": str(count),
        "machineSpec": {"machineType": "n1-standard-4"},
        "containerSpec": {"imageUri": image, "args": list(args), **more},
    }
