"""The Pulumi command line: the one place that finds and runs it. Which backend holds the state is Pulumi's own business."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from launcher.errors import UserError

LOCAL = 'for the local cloud first `eval "$(odcloud local env)"`'


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """`pulumi ARGUMENTS` in a project's folder, under way; it asks nothing. Raises UserError where there is no Pulumi."""
    command = shutil.which("pulumi")
    if not command:
        raise UserError(f"no `pulumi` on PATH; run `make setup`, and {LOCAL}")
    return subprocess.Popen(
        [command, *arguments, "--non-interactive"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # GOGC: to collect garbage would take an eighth of its time and save 6 MB.
        env={"PULUMI_SKIP_UPDATE_CHECK": "true", "GOGC": "400", **os.environ},
    )


def run(folder: Path, *arguments: str) -> str:
    """What `pulumi ARGUMENTS` prints. Raises UserError with what it says when it fails."""
    process = started(folder, *arguments)
    stdout, stderr = process.communicate()
    if process.returncode:
        raise UserError(f"`pulumi {' '.join(arguments[:2])}` failed: {stderr.strip().removeprefix('error: ')}; {LOCAL}")
    return stdout


def project_folder(start: Path) -> Path:
    """The nearest folder from `start` upward that holds Pulumi.yaml. Raises UserError."""
    for folder in (start, *start.parents):
        if (folder / "Pulumi.yaml").is_file():
            return folder
    raise UserError(
        f"no Pulumi.yaml in {start} or above; run odcloud inside the project that provisions the stack "
        "(odcloud ml-engine needs none)"
    )
