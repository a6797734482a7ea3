"""The files that a stack uploads, prepared on disk: same sources, same bytes, same names.

A package or configuration is named after its content, so that a changed one is a new object beside the old one, which stays:
a replica that is restarted hours later installs what its job started with.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.errors import StackError

SOURCE_DATE = "1580601600"
"""Time stamp of every file in a package, in epoch seconds (2020-02-02; the zip format, e.g., has no times before 1980)."""

PLACEHOLDER = "PATH_TO_BE_CONFIGURED"
"""What the Object Detection API's sample configurations have in place of their data's folder."""

LABEL_MAP = "label_map.pbtxt"
MAKE_DATASET = "Make the demo's dataset with `odcloud data digits digits`, or set odcloud:dataDir to a folder that has one."


@dataclass(frozen=True)
class Upload:
    """A local file and the name of the object that it becomes. `lasting`: it goes only with the bucket."""

    path: Path
    object: str
    content_type: str
    lasting: bool = False


def build_package(source: Path, build: Path) -> Upload:
    """Build the source distribution of the project in `source` into `build`; `packages/<hash12>/<file>`.

    Raises:
        StackError: there is no project in `source`, or hatchling refuses it.
    """
    from hatchling.builders.sdist import SdistBuilder

    if not (source / "pyproject.toml").is_file():
        raise StackError(f"{source / 'pyproject.toml'}: not found; it describes the package that replicas install.")
    with source_date():
        try:
            made = Path(next(SdistBuilder(str(source.resolve())).build(directory=str(build / "packages"))))
        except (Exception, SystemExit) as error:  # hatchling raises many kinds, each with a message meant for people
            raise StackError(f"{source / 'pyproject.toml'}: the package could not be built: {error}") from None
    return addressed("packages", made.name, made.read_bytes(), build, "application/gzip")


@contextmanager
def source_date() -> Iterator[None]:
    """SOURCE_DATE_EPOCH fixed, whatever the user's environment says."""
    before = os.environ.get("SOURCE_DATE_EPOCH")
    os.environ["SOURCE_DATE_EPOCH"] = SOURCE_DATE
    try:
        yield
    finally:
        if before is None:
            del os.environ["SOURCE_DATE_EPOCH"]
        else:
            os.environ["SOURCE_DATE_EPOCH"] = before


def render_config(source: Path, data_dir: str, build: Path) -> Upload:
    """The pipeline configuration with its placeholders filled in; `config/<hash12>/pipeline.config`.

    Args:
        data_dir: `gs://BUCKET/data`.

    Raises:
        StackError: the file cannot be read as text.
    """
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise StackError(f"{source}: the pipeline configuration (odcloud:pipelineConfig) cannot be read: {reason}.") from None
    content = text.replace(PLACEHOLDER, data_dir).encode()
    return addressed("config", "pipeline.config", content, build, "text/plain; charset=utf-8")


def addressed(kind: str, name: str, content: bytes, build: Path, content_type: str) -> Upload:
    """Write content to `build/<kind>/<hash12>/<name>`, where <hash12> is the start of its SHA-256."""
    digest = hashlib.sha256(content).hexdigest()[:12]
    path = build / kind / digest / name
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Upload(path, f"{kind}/{digest}/{name}", content_type, lasting=True)


def find_data(folder: Path) -> list[Upload]:
    """The dataset in a folder: label map and TFRecord shards of both splits, to be `data/<file>`.

    Raises:
        StackError: a part is missing or empty.
    """
    if not folder.is_dir():
        raise StackError(f"{folder}: no such folder. {MAKE_DATASET}")
    uploads = []
    for pattern, what in (("train-*.tfrecord", "training"), ("test-*.tfrecord", "test")):
        shards = sorted(folder.glob(pattern))
        if not shards:
            raise StackError(f"{folder}: no {what} shards ({pattern}). {MAKE_DATASET}")
        check_shards(shards)
        uploads += [Upload(shard, f"data/{shard.name}", "application/octet-stream") for shard in shards]
    label_map = folder / LABEL_MAP
    if not label_map.is_file():
        raise StackError(f"{label_map}: not found. {MAKE_DATASET}")
    return [*uploads, Upload(label_map, f"data/{LABEL_MAP}", "text/plain; charset=utf-8")]


def check_shards(shards: list[Path]) -> None:
    """Every shard has content, and of `…-of-00008` there are eight.

    Raises:
        StackError: naming the file.
    """
    for shard in shards:
        if shard.stat().st_size == 0:
            raise StackError(f"{shard}: empty. {MAKE_DATASET}")
    totals = {int(match[1]) for shard in shards if (match := re.search(r"-of-(\d+)\.tfrecord$", shard.name))}
    if totals and totals != {len(shards)}:
        expected = ", ".join(str(total) for total in sorted(totals))
        split = shards[0].name.partition("-")[0]
        raise StackError(f"{shards[0].parent}: {len(shards)} {split} shards, but their names say {expected}. {MAKE_DATASET}")
