"""The files that a stack uploads, prepared on disk: same sources, same bytes, same names.

A package or configuration is named after its content, so that a changed one is a new object beside the old one, which stays:
a replica that is restarted hours later installs what its job started with.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.errors import StackError

SOURCE_DATE = "1580601600"
"""Time stamp of every file in a package, in epoch seconds (2020-02-02; the zip format, e.g., has no times before 1980)."""

PLACEHOLDER = "PATH_TO_BE_CONFIGURED"
"""What the Object Detection API's sample configurations have in place of their data's folder."""

LABEL_MAP = "label_map.pbtxt"
MAKE_DATASET = "Make the demo's dataset with `odcloud data digits digits`, or set odcloud:dataDir to a folder that has one."
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")


@dataclass(frozen=True)
class Upload:
    """A local file and the name of the object that it becomes. `lasting`: it goes only with the bucket."""

    path: Path
    object: str
    content_type: str
    lasting: bool = False


def build_package(source: Path, build: Path) -> Upload:
    """Build the source distribution of the project in `source` into `build`; `packages/<hash12>/<file>`.

    It is built once for the same sources: a fifth of the program's time when nothing has changed.

    Raises:
        StackError: there is no project in `source`, or hatchling refuses it.
    """
    if not (source / "pyproject.toml").is_file():
        raise StackError(f"{source / 'pyproject.toml'}: not found; it describes the package that replicas install.")
    note = build / "packages" / f"{fingerprint(source)}.path"
    try:
        made = build / note.read_text(encoding="utf-8")
        if hashlib.sha256(made.read_bytes()).hexdigest().startswith(made.parent.name):
            return Upload(made, f"packages/{made.parent.name}/{made.name}", "application/gzip", lasting=True)
    except (OSError, UnicodeDecodeError):
        pass  # not built yet, or not there any more
    upload = _built(source, build)
    _write(note, upload.object.encode())
    return upload


def fingerprint(source: Path) -> str:
    """Changes with whatever the package is made from: each file of `source` and what git ignores there, and hatchling."""
    from hatchling.__about__ import __version__

    digest = hashlib.sha256(__version__.encode())
    ignored = [folder / ".gitignore" for folder in source.resolve().parents]
    found = [path for path in source.rglob("*") if "__pycache__" not in path.parts]
    for path in sorted(path for path in (*found, *ignored) if path.is_file()):
        content = path.read_bytes()
        digest.update(f"{path} {path.stat().st_mode:o} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


def _built(source: Path, build: Path) -> Upload:
    """Raises StackError."""
    from hatchling.builders.sdist import SdistBuilder

    with source_date(), TemporaryDirectory() as folder:
        try:
            made = Path(next(SdistBuilder(str(source.resolve())).build(directory=folder)))
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
    content = _read(source).replace(PLACEHOLDER, data_dir).encode()
    return addressed("config", "pipeline.config", content, build, "text/plain; charset=utf-8")


def _read(config: Path) -> str:
    try:
        return config.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise StackError(f"{config}: the pipeline configuration (odcloud:pipelineConfig) cannot be read: {reason}.") from None


def addressed(kind: str, name: str, content: bytes, build: Path, content_type: str) -> Upload:
    """Write content to `build/<kind>/<hash12>/<name>`, where <hash12> is the start of its SHA-256."""
    digest = hashlib.sha256(content).hexdigest()[:12]
    path = build / kind / digest / name
    if not path.exists() or path.read_bytes() != content:
        _write(path, content)
    return Upload(path, f"{kind}/{digest}/{name}", content_type, lasting=True)


def _write(path: Path, content: bytes) -> None:
    """In one go: another stack of the same folder may be at it, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    beside.replace(path)


def find_data(folder: Path, config: Path, data_dir: str) -> list[Upload]:
    """The files of the dataset's folder that the pipeline configuration names, to be `data/<file>`.

    Named is what stands behind the placeholder or behind `data_dir` itself, patterns included. The beginning of names, such as
    that of a checkpoint's files, stands for all that begin so.

    Raises:
        StackError: the configuration names nothing there; what it names is missing, empty, or not a complete set of shards.
    """
    if not folder.is_dir():
        raise StackError(f"{folder}: no such folder. {MAKE_DATASET}")
    found: dict[Path, None] = {}
    wanted = named_files(config, data_dir)
    if not wanted:
        raise StackError(
            f"{config}: names no file in {PLACEHOLDER}/, so that nothing of {folder} (odcloud:dataDir) would be read. Write "
            f'its input readers as input_path: "{PLACEHOLDER}/train-?????-of-?????.tfrecord", or unset odcloud:dataDir.'
        )
    for line, pattern in wanted:
        # glob.glob, for Path.glob refuses what TensorFlow takes, as `train**`.
        names = glob.glob(pattern, root_dir=folder) or glob.glob(f"{glob.escape(pattern)}*", root_dir=folder)  # noqa: PTH207
        files = [path for path in sorted(folder / name for name in names) if path.is_file()]
        if not files:
            there = sorted({_SHARD.sub("-?????-of-?????", path.name) for path in folder.iterdir() if path.is_file()})
            has = f"it has {', '.join(there[:8])}" if there else "it is empty"
            raise StackError(
                f"{config}: line {line} names {pattern}, which is not in {folder} ({has}). Name what is there. {MAKE_DATASET}"
            )
        check_shards(files)
        found.update(dict.fromkeys(files))
    return [Upload(path, f"data/{path.relative_to(folder).as_posix()}", _content_type(path)) for path in found]


def label_map(config: Path, data_dir: str) -> str:
    """Address of the label map that the pipeline configuration names first; `data_dir`'s own when it names none."""
    text = "\n".join(_lines(config)).replace(PLACEHOLDER, data_dir)
    match = re.search(r"label_map_path\s*:\s*[\"']?(gs://[^\s\"']+)", text)
    return match[1] if match else f"{data_dir}/{LABEL_MAP}"


def named_files(config: Path, data_dir: str) -> list[tuple[int, str]]:
    """(line, path or pattern) of each file that a configuration names in the dataset's folder. Raises StackError."""
    place = re.compile(rf"(?:{re.escape(PLACEHOLDER)}|{re.escape(data_dir)})/([^\s\"',\]]+)")
    found = [(number, match[1]) for number, line in enumerate(_lines(config), 1) for match in place.finditer(line)]
    for number, pattern in found:
        if ".." in pattern.split("/") or pattern.startswith("/"):
            raise StackError(f"{config}: line {number} names {pattern}, which is outside of the dataset's folder.")
    return found


def _lines(config: Path) -> list[str]:
    """A configuration's lines without their comments. Raises StackError."""
    return [re.sub(r"(^|\s)#.*", "", line) for line in _read(config).splitlines()]


def _content_type(path: Path) -> str:
    return "text/plain; charset=utf-8" if path.suffix in (".pbtxt", ".txt", ".config") else "application/octet-stream"


def check_shards(files: list[Path]) -> None:
    """Every file can be read and has content, and of `…-of-00008` there are eight.

    Raises:
        StackError: naming the file.
        OSError: a file may not be read.
    """
    sets: dict[tuple[str, str], set[str]] = {}
    for file in files:
        with file.open("rb") as content:
            if not content.read(1):
                raise StackError(f"{file}: empty. {MAKE_DATASET}")
        if match := _SHARD.search(file.name):
            sets.setdefault((file.name[: match.start()], match[2]), set()).add(match[1])
    for (name, total), there in sets.items():
        if len(there) != int(total):
            raise StackError(f"{files[0].parent}: {len(there)} {name} shards, but their names say {int(total)}. {MAKE_DATASET}")
