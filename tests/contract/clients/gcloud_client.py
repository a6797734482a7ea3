"""gcloud as installed, with nothing but the environment that the local cloud gives. (Each call costs 1 to 2 seconds.)"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import LocalCloud

needs_gcloud = pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")


class Gcloud:
    """Runs commands in a folder, which also holds gcloud's own settings."""

    def __init__(self, cloud: LocalCloud, folder: Path) -> None:
        self._folder = folder
        variables = json.loads(cloud.run("env", "--format", "json").stdout)
        self._environment = {**os.environ, **variables, "CLOUDSDK_CONFIG": str(folder / "gcloud"), "TZ": "UTC"}

    def run(self, command: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """A whole command line, which must exit with `code`."""
        done = subprocess.run(
            shlex.split(command),
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == code, (command, done.stdout, done.stderr)
        return done

    def json(self, command: str) -> Any:
        """What a command prints with `--format=json`."""
        return json.loads(self.run(f"gcloud {command} --format=json").stdout)

    def refusal(self, command: str) -> str:
        """What a command that fails says."""
        return self.run(f"gcloud {command}", code=1).stderr
