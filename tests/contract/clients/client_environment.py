"""What a client finds in a shell after `eval "$(odcloud local env)"`, and nothing else that could lead it elsewhere."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import fsspec.config
import pytest

if TYPE_CHECKING:
    from conftest import LocalCloud

_LEADING_ELSEWHERE = ("STORAGE_EMULATOR_HOST", "GOOGLE_", "GCLOUD_", "CLOUDSDK_", "FSSPEC_", "GCSFS_", "API_ENDPOINT_OVERRIDE")


def client_environment(cloud: LocalCloud) -> dict[str, str]:
    """A whole environment for a client's process."""
    given: dict[str, str] = json.loads(cloud.run("env", "--format", "json").stdout)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_LEADING_ELSEWHERE)}
    return kept | given


@contextmanager
def as_client(cloud: LocalCloud) -> Iterator[None]:
    """This process has that environment meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(_LEADING_ELSEWHERE):
                patch.delenv(name)
        for name, value in client_environment(cloud).items():
            patch.setenv(name, value)
        before = dict(fsspec.config.conf)
        fsspec.config.conf.clear()
        fsspec.config.set_conf_env(fsspec.config.conf)  # as at fsspec's first import
        try:
            yield
        finally:
            fsspec.config.conf.clear()
            fsspec.config.conf.update(before)
