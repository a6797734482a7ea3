"""A user's Python packages: named or built, and uploaded under a name made of their content, so that none goes up twice."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.errors import UserError
from launcher.google.api import Google, GoogleError, split

if TYPE_CHECKING:
    from launcher.jobfile.reading import JobFile
    from launcher.stack.session import Session

_KINDS = (".tar.gz", ".whl", ".zip")
_GENERATED = """from setuptools import find_packages, setup

setup(name={name!r}, version="0.0.0", packages=[{name!r}, *({name!r} + "." + found for found in find_packages({name!r}))])
"""
_HOOK = """
import importlib
module, _, attribute = {backend!r}.partition(":")
backend = importlib.import_module(module)
for name in filter(None, attribute.split(".")):
    backend = getattr(backend, name)
backend.build_sdist({folder!r}, {{}})
"""


@dataclass(frozen=True)
class Local:
    """A package of this machine, and the address that its content gives it."""

    name: str
    content: bytes
    bucket: str
    prefix: str = ""
    """Beginning of the object's name."""

    @property
    def object(self) -> str:
        return f"{self.prefix}packages/{hashlib.sha256(self.content).hexdigest()[:32]}/{self.name}"

    @property
    def uri(self) -> str:
        return f"gs://{self.bucket}/{self.object}"


def check(names: Iterable[str]) -> list[str]:
    """`--packages`, each a file of this machine or a gs:// object. Raises UserError."""
    checked = []
    for name in names:
        if not name.lower().endswith(_KINDS):
            raise UserError(f"--packages {name}: must be a source distribution or a wheel ({', '.join(_KINDS)})")
        if name.startswith("gs://"):
            if not re.fullmatch(r"gs://[^/\s]+/\S+", name):
                raise UserError(f"--packages {name}: must be gs://BUCKET/OBJECT")
        elif "://" in name:
            raise UserError(f"--packages {name}: must be a file of this machine or gs://BUCKET/OBJECT")
        elif not Path(name).is_file():
            raise UserError(f"--packages {name}: no such file; build it first, for example with `python setup.py sdist`")
        checked.append(name)
    return checked


def local(name: str, bucket: str, prefix: str = "") -> Local:
    """A package file of this machine. Raises UserError."""
    try:
        return Local(Path(name).name, Path(name).read_bytes(), bucket, prefix)
    except OSError as error:
        raise UserError(f"--packages {name}: cannot read it: {error.strerror}") from error


def upload(google: Google, package: Local) -> bool:
    """Puts a package in its bucket; False if it was there. Raises UserError, GoogleError."""
    try:
        google.call("storage.objects.get", bucket=package.bucket, object=package.object)
        return False
    except GoogleError as error:
        if error.status != 404:
            raise
    try:
        google.upload(package.bucket, package.object, package.content, "application/octet-stream", if_generation=0)
    except GoogleError as error:
        if error.status == 412:  # somebody else's upload of the same content, or one's own whose answer was lost
            return False
        if error.status == 404:
            raise UserError(
                f"the bucket gs://{package.bucket} does not exist; make it, or name another with --staging-bucket"
            ) from error
        raise
    return True


def require(google: Google, uris: Iterable[str]) -> None:
    """Raises UserError for a gs:// package that is not there: the job would learn it only once its machines are paid for.

    One that this account may not see is left to the job's account. Raises GoogleError.
    """
    for uri in uris:
        bucket, name = split(uri)
        try:
            google.call("storage.objects.get", bucket=bucket, object=name)
        except GoogleError as error:
            if error.status == 404:
                raise UserError(f"the package {uri} does not exist; upload it, or name a file of this machine") from error
            if error.status not in (401, 403):
                raise


def staged(session: Session, file: JobFile) -> tuple[JobFile, list[Local]]:
    """A job file whose packages of this machine are at the addresses that their content gives them, and those to `upload`.

    Raises UserError.
    """
    names = file.job.packageUris or ()
    if all(name.startswith("gs://") for name in names):
        return file, []
    bucket, prefix = session.outputs.bucket, session.outputs.prefix
    found = [name if name.startswith("gs://") else local(name, bucket, prefix) for name in check(names)]
    uris = tuple(one if isinstance(one, str) else one.uri for one in found)
    changed = replace(file, job=file.job.model_copy(update={"packageUris": uris}))
    return changed, [one for one in found if isinstance(one, Local)]


def build(path: Path) -> tuple[str, bytes]:
    """The source distribution of a package's folder: its file name and content, the same for the same sources.

    `path` is the folder of setup.py or pyproject.toml, or, as for gcloud, a package's folder inside it; a package that has
    neither gets a plain setup.py, as gcloud gave it. Nothing is written beside the sources. Raises UserError.
    """
    package = path.resolve()
    if not package.is_dir():
        raise UserError(f"--package-path {path}: no such folder")
    project = next((folder for folder in (package, package.parent) if _project_file(folder)), None)
    if project is None and not (package / "__init__.py").is_file():
        raise UserError(
            f"--package-path {path}: neither it nor its parent has a setup.py or pyproject.toml, and it has no __init__.py"
        )
    with tempfile.TemporaryDirectory() as temporary:
        work, made = Path(temporary) / "work", Path(temporary) / "made"
        made.mkdir()
        ignored = shutil.ignore_patterns(".git", ".venv", "venv", "__pycache__", "*.pyc", "*.egg-info", "build", "dist")
        if project:
            shutil.copytree(project, work, ignore=ignored, symlinks=True)
        else:
            shutil.copytree(package, work / package.name, ignore=ignored, symlinks=True)
            (work / "setup.py").write_text(_GENERATED.format(name=package.name))
        return _sdist(path, work, made)


def _project_file(folder: Path) -> bool:
    return (folder / "setup.py").is_file() or (folder / "pyproject.toml").is_file()


def _sdist(path: Path, work: Path, made: Path) -> tuple[str, bytes]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _HOOK.format(backend=_backend(work), folder=str(made))],
        cwd=work,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    found = sorted(made.glob("*.tar.gz"))
    if done.returncode or len(found) != 1:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise UserError(
            f"--package-path {path}: cannot build its source distribution; build it yourself and use --packages:\n{last}"
        )
    return found[0].name, _same(found[0].read_bytes())


def _backend(work: Path) -> str:
    """The build backend that pyproject.toml names (PEP 517), else setuptools'."""
    file = work / "pyproject.toml"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    match = re.search(r"""^\s*build-backend\s*=\s*["']([\w.:]+)["']""", text, re.MULTILINE)
    return match[1] if match else "setuptools.build_meta:__legacy__"


def _same(content: bytes) -> bytes:
    """An archive without times and owners: what is packed is what counts."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as source,
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as target,
    ):
        for member in sorted(source.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = 0, 0, 0, "", ""
            member.pax_headers = {}
            target.addfile(member, source.extractfile(member) if member.isfile() else None)
    return packed.getvalue()
