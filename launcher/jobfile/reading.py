"""The job file, read with line numbers: native worker pools, or the old page's `trainingInput`, which is put into native words.

Every complaint names file, line, field and what to do. What the fields are is in models.py, what they may say together in
checks.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from launcher.errors import UserError
from launcher.job import Pool
from launcher.jobfile import checks, complaint, oldfile, yamlfile
from launcher.jobfile.models import NativeJob, OldJob
from launcher.jobfile.yamlfile import Location

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class JobFile:
    """A valid job in native words, the pools it asks for, warnings and notes to show, and where each field was said.

    `places` has, by the field's location in `job`, what to call it in a message: `job.yaml:5: trainingInput.workerType`,
    `--workers`, `$ODCLOUD_WORKERS`.
    """

    name: str
    job: NativeJob
    pools: tuple[Pool, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    places: Mapping[Location, str]

    def place(self, *location: Any) -> str | None:
        """Where a field was given; None when it was not."""
        return self.places.get(location)


class Overrides(Protocol):
    """What goes before the job file: flags and environment (overrides.py)."""

    def applied(self, job: NativeJob, places: dict[Location, str]) -> tuple[NativeJob, dict[Location, str], list[str]]:
        """The job with them, where its fields come from now, and warnings of what they took away. Raises UserError."""


def read(path: Path | None, overrides: Overrides | None = None) -> JobFile:
    """Reads a job file; without one the job is what `overrides` say. Raises UserError."""
    if path is None:
        return _overruled("(no job file)", NativeJob(), {}, [], overrides)
    return parse(_content(path), str(path), overrides)


def parse(text: str, name: str, overrides: Overrides | None = None) -> JobFile:
    """Reads a job file's text; `name` is how messages call the file. Raises UserError."""
    document = yamlfile.load(text, name)

    def place(location: Location) -> str:
        return f"{name}:{yamlfile.line(document, location)}: {yamlfile.path(location)}"

    warnings: list[str] = []
    if "trainingInput" in document:
        given, _ = _validated(document, name, OldJob)
        job, places, warnings = oldfile.translated(given, place)
    else:
        job, values = _validated(document, name, NativeJob)
        places = {location: place(location) for location in yamlfile.locations(values)}
    return _overruled(name, job, places, warnings, overrides)


def old(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """ML Engine's own file, of which every part may be missing, as its Job resource; and where each field stands in it.

    The places are by dotted path: `trainingInput.region` to `job.yaml:3: trainingInput.region`. Raises UserError.
    """
    name = str(path)
    document = yamlfile.load(_content(path), name)
    _, values = _validated(document, name, OldJob)
    places = {
        yamlfile.path(location): f"{name}:{yamlfile.line(document, location)}: {yamlfile.path(location)}"
        for location in yamlfile.locations(values)
    }
    return oldfile.resource(values), places


def completed(name: str, job: NativeJob, places: Mapping[Location, str], warnings: Sequence[str] = ()) -> JobFile:
    """A job with what it means for its fields to stand together. Raises UserError."""
    checked = checks.check(job, places, name)
    return JobFile(name, job, checked.pools, (*checked.warnings, *warnings), checked.notes, places)


def _overruled(
    name: str, job: NativeJob, places: dict[Location, str], warnings: list[str], overrides: Overrides | None
) -> JobFile:
    if overrides:
        job, places, taken = overrides.applied(job, places)
        warnings = [*taken, *warnings]
    return completed(name, job, places, warnings)


def _content(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such job file; {yamlfile.EXAMPLES} is one to start from") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not a job file: it is not a UTF-8 text; save it as UTF-8") from error
    except OSError as error:
        raise UserError(
            f"{path}: cannot read the job file: {error.strerror}; {yamlfile.EXAMPLES} is one to start from"
        ) from error


def _validated(document: Any, name: str, model: type[_Model]) -> tuple[_Model, dict[str, Any]]:
    """A document as a model of it and as plain values. Raises UserError."""
    try:
        plain = yamlfile.plain(document)
        return model.model_validate(plain), plain
    except ValidationError as error:
        # The first in the file; what is missing comes last, for a misspelt field may be the reason.
        found = [
            (problem["type"] == "missing", yamlfile.line(document, problem["loc"]), problem)
            for problem in complaint.causes(error.errors())
        ]
        _, line, problem = min(found, key=lambda item: item[:2])
        raise UserError(f"{name}:{line}: {complaint.text(problem, model is OldJob)}") from None
    except RecursionError:
        raise UserError(f"{name}:1: not a job file: a value contains itself, or nests without end") from None
