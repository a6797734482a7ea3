"""Where a job's packages are installed: one folder per set of packages, built once.

An environment is a virtual environment of the local cloud's own interpreter in which the local cloud's packages are visible by
a path line. Lines of .pth files found through such a line are not followed, so an editable checkout is not importable there:
what runs is the package from the bucket. Nothing is fetched while the local cloud's packages satisfy what the job's require.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion

from localcloud.jobs import replica

_building = threading.Lock()


class PackageError(Exception):
    """Packages that can't be installed: the message names them, `output` is what the installer wrote."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


class Interrupted(Exception):
    """The job was cancelled while its packages were being installed."""


def bucket_file(buckets: Path, uri: str) -> Path:
    """The file of a gs:// object in the folder of buckets. Raises PackageError when it is not there."""
    path = buckets / uri.removeprefix("gs://")
    bucket = path.parents[len(path.relative_to(buckets).parts) - 2] if path.is_relative_to(buckets) else buckets
    inside = path.resolve().is_relative_to(bucket.resolve())  # a symbolic link may lead out of the bucket
    if not uri.startswith("gs://") or ".." in path.parts or not path.is_file() or not inside:
        raise PackageError(f"The Python package {uri} does not exist or cannot be read.")
    return path


def prepare(home: Path, packages: Sequence[Path], marker: str, cancelled: threading.Event) -> Path:
    """The interpreter of an environment that holds these package files; built unless it is there already.

    `marker` is put on the installer's processes. Raises PackageError, Interrupted, OSError.
    """
    folder = home / "environments" / _fingerprint(packages)
    python = folder / "bin" / "python"
    while not _building.acquire(timeout=0.2):
        if cancelled.is_set():
            raise Interrupted
    try:
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)  # what an interrupted build left
            try:
                _build(folder, python, packages, marker, cancelled)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            (folder / "complete").touch()
    finally:
        _building.release()
    return python


def _fingerprint(packages: Sequence[Path]) -> str:
    digest = hashlib.sha256(f"{sys.version}\0{sys.prefix}".encode())
    for package in packages:
        digest.update(f"\0{package.name}\0{package.stat().st_size}\0".encode())
        with package.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def _build(folder: Path, python: Path, packages: Sequence[Path], marker: str, cancelled: threading.Event) -> None:
    names = ", ".join(package.name for package in packages)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)], "create an environment for", names, marker, cancelled)
    own = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    visible = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (own / "localcloud.pth").write_text("".join(f"{path}\n" for path in visible))
    pip, extra = _pip(python)
    install = [*pip, "install", "--disable-pip-version-check", "--no-input", "--no-warn-script-location"]
    local = [*install, "--no-index", "--no-deps", "--no-build-isolation", *map(str, packages)]
    try:
        _run(local, "install", names, marker, cancelled, extra)
    except PackageError as error:
        if "BackendUnavailable" not in error.output and "Cannot import" not in error.output:
            raise
        # The package is built by a tool that the local cloud does not have: let pip fetch it.
        _run([*install, "--no-deps", "--retries", "1", *map(str, packages)], "install", names, marker, cancelled, extra)
    missing = _unsatisfied(own, visible)
    if missing:
        needed = ", ".join(missing)
        _run([*install, "--retries", "1", *missing], "install", f"{needed} (required by {names})", marker, cancelled, extra)


def _pip(python: Path) -> tuple[list[str], Mapping[str, str]]:
    """How the environment's interpreter runs pip: the local cloud's own, else the wheel that comes inside Python."""
    if importlib.util.find_spec("pip"):
        return [str(python), "-m", "pip"], {}
    ensurepip = importlib.util.find_spec("ensurepip")  # some systems package it apart
    wheels = sorted((Path(ensurepip.origin).parent / "_bundled").glob("pip-*.whl")) if ensurepip and ensurepip.origin else []
    if not wheels:
        raise PackageError("The local cloud's Python has no pip: run `python -m ensurepip` with it.")
    return [str(python), "-m", "pip"], {"PYTHONPATH": str(wheels[-1])}


def _run(
    command: Sequence[str],
    verb: str,
    what: str,
    marker: str,
    cancelled: threading.Event,
    extra: Mapping[str, str] | None = None,
) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(replica.PRIVATE_PREFIXES)}
    process = subprocess.Popen(
        command,
        env={**inherited, **(extra or {}), replica.MARKER: marker},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    while True:
        try:
            output, _ = process.communicate(timeout=0.2)
            break
        except subprocess.TimeoutExpired:
            if cancelled.is_set():
                replica.send(replica.members([process.pid], lambda found: found == marker), signal.SIGKILL)
                process.communicate()
                raise Interrupted from None
    if process.returncode:
        last = "\n".join([line for line in output.splitlines() if line.strip()][-20:])
        raise PackageError(f"Failed to {verb} {what}:\n{last}", output)


def _unsatisfied(own: Path, visible: Sequence[str]) -> list[str]:
    """The requirements of the packages in `own` that no package in `own` or in the visible folders satisfies."""
    missing = []
    for distribution in importlib.metadata.distributions(path=[str(own)]):
        for line in distribution.requires or []:
            try:
                requirement = Requirement(line)
            except InvalidRequirement:
                continue
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            found = next(iter(importlib.metadata.distributions(name=requirement.name, path=[str(own), *visible])), None)
            try:
                satisfied = found is not None and requirement.specifier.contains(found.version, prereleases=True)
            except InvalidVersion:
                satisfied = True
            if not satisfied:
                requirement.marker = None
                missing.append(str(requirement))
    return missing
