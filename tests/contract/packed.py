"""Python packages for jobs of the tests, packed as users' tools pack them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping


def archive(files: Mapping[str, str | bytes]) -> bytes:
    """A .tar.gz with these files, by their paths in it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as packed:
        for name, text in files.items():
            content = text.encode() if isinstance(text, str) else text
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def sdist(name: str, version: str, files: Mapping[str, str]) -> bytes:
    """A source distribution: `files` are below its one folder."""
    return archive({f"{name}-{version}/{path}": text for path, text in files.items()})


def old_sdist(name: str, modules: Mapping[str, str]) -> bytes:
    """One of version 0.1 as the old page's users made theirs: a setup.py, and a package of these modules."""
    files = {"setup.py": f"from setuptools import setup\nsetup(name='{name}', version='0.1', packages=['{name}'])\n"}
    files |= {f"{name}/__init__.py": "", **{f"{name}/{module}.py": text for module, text in modules.items()}}
    return sdist(name, "0.1", files)
