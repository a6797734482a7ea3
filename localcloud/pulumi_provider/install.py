"""Put this provider, as `gcp`, into a Pulumi home, and make the local stack the selected one."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from localcloud.env import backend_url
from localcloud.errors import LocalCloudError

PROGRAM = "pulumi-resource-gcp"
STACK = "local"


def install(pulumi_home: Path) -> None:
    """Make plain `pulumi up` work with this Pulumi home: the provider installed, the stack `local` there and selected.

    Quick when that is so already. The stack's project is the nearest folder upward that holds Pulumi.yaml; if that has no
    stack `local`, or there is none, only the provider is installed. State goes to `pulumi-state` beside the home.

    Raises:
        LocalCloudError: no `pulumi`, or it refuses.
    """
    install_plugin(pulumi_home, version("pulumi-gcp"))
    select_local_stack(pulumi_home)


def select_local_stack(pulumi_home: Path) -> None:
    """Have the stack `local` selected in the nearest project, if that has one.

    Raises:
        LocalCloudError: as `install`.
    """
    here = Path.cwd()
    project = next((folder for folder in (here, *here.parents) if (folder / "Pulumi.yaml").is_file()), None)
    if project and (project / f"Pulumi.{STACK}.yaml").is_file():
        select_stack(pulumi_home, project)


def install_plugin(pulumi_home: Path, plugin_version: str) -> None:
    """`pulumi plugin install resource gcp VERSION` from a script that starts this Python.

    Raises:
        LocalCloudError: as `install`.
    """
    script = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -m {__package__} {plugin_version} "$@"\n'
    installed = pulumi_home / "plugins" / f"resource-gcp-v{plugin_version}" / PROGRAM
    if installed.is_file() and installed.read_text() == script:
        return  # of this version and this virtual environment
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / PROGRAM
        program.write_text(script)
        program.chmod(0o755)
        shutil.rmtree(installed.parent, ignore_errors=True)
        pulumi(pulumi_home, Path(folder), "plugin", "install", "resource", "gcp", plugin_version, "--file", str(program))


def select_stack(pulumi_home: Path, project: Path) -> None:
    """Have the stack `local` in the state and selected in the project.

    Raises:
        LocalCloudError: as `install`.
    """
    pulumi(pulumi_home, project, "stack", "select", "--create", STACK)


def pulumi(pulumi_home: Path, folder: Path, *arguments: str) -> str:
    """Run Pulumi in a folder with this home and the state beside it; its standard output.

    Raises:
        LocalCloudError: it is not there, or fails; with its own words.
    """
    beside = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{beside}{os.pathsep}{os.environ.get('PATH', '')}",
        "PULUMI_HOME": str(pulumi_home),
        "PULUMI_BACKEND_URL": backend_url(pulumi_home.parent / "pulumi-state"),
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }
    program = shutil.which("pulumi", path=environment["PATH"])
    if not program:
        raise LocalCloudError(
            f"no `pulumi` on PATH or in {beside}: run `make setup`, or `python tools/pulumi/install.py --bin-dir {beside}`"
        )
    command = [program, *arguments, "--non-interactive"]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if result.returncode:
        words = (result.stderr.strip() or result.stdout.strip()).removeprefix("error: ")
        raise LocalCloudError(f"`pulumi {' '.join(arguments)}` failed: {words}")
    return result.stdout
