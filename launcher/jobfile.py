"""The job file: the old page's YAML (`trainingInput:` …), read with line numbers.

Field names and meanings are those of `GoogleCloudMlV1__TrainingInput` in ML Engine's discovery document. Every complaint names
file, line, field and what to do.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from launcher import machines
from launcher.errors import UserError
from launcher.job import Pool

# Known to ML Engine, meaningless or not yet rendered here: refused by name, never dropped.
UNSUPPORTED = {
    "encryptionConfig",
    "evaluatorConfig",
    "evaluatorCount",
    "evaluatorType",
    "hyperparameters",
    "masterConfig",
    "network",
    "parameterServerConfig",
    "serviceAccount",
    "enableWebAccess",
    "useChiefInTfConfig",
    "workerConfig",
}


def _count(value: Any) -> Any:
    """ML Engine's counts are int64, which JSON carries as text: 9 and "9" are the same."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value.strip()) else value


Count = Annotated[int, BeforeValidator(_count), Field(strict=True, ge=0)]
GcsUri = Annotated[str, Field(strict=True, pattern=r"^gs://[^/]+(/.*)?$")]
Text = Annotated[str, Field(strict=True, min_length=1)]
Label = Annotated[str, Field(strict=True, pattern=r"^[\w-]{0,63}$")]
LabelKey = Annotated[str, Field(strict=True, pattern=r"^[a-z][a-z0-9_-]{0,62}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Scheduling(_Strict):
    """Limits of time."""

    maxRunningTime: Annotated[str, Field(strict=True, pattern=r"^\d+(\.\d{1,9})?s$")] | None = None


class TrainingInput(_Strict):
    """ML Engine's description of a training job."""

    scaleTier: Literal["BASIC", "STANDARD_1", "PREMIUM_1", "BASIC_GPU", "CUSTOM"] | None = None
    masterType: Text | None = None
    workerType: Text | None = None
    workerCount: Count | None = None
    parameterServerType: Text | None = None
    parameterServerCount: Count | None = None
    runtimeVersion: Text | None = None
    pythonVersion: Text | None = None
    region: Annotated[str, Field(strict=True, pattern=r"^[a-z]+-[a-z]+\d+$")] | None = None
    args: tuple[Text, ...] = ()
    packageUris: tuple[GcsUri, ...] | None = None
    pythonModule: Annotated[str, Field(strict=True, pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")] | None = None
    jobDir: GcsUri | None = None
    scheduling: Scheduling = Scheduling()


class _File(_Strict):
    trainingInput: TrainingInput
    labels: dict[LabelKey, Label] = {}


@dataclass(frozen=True)
class JobFile:
    """A valid job file: its fields, the pools they ask for, and warnings to show."""

    input: TrainingInput
    labels: dict[str, str]
    pools: tuple[Pool, ...]
    warnings: tuple[str, ...]


def read(path: Path) -> JobFile:
    """Reads a job file. Raises UserError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such job file; examples/digits/job.yaml is one to start from") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read the job file: {error}") from error
    return parse(text, str(path))


def parse(text: str, name: str) -> JobFile:
    """Reads a job file's text; `name` is how messages call the file. Raises UserError."""
    document = _load(text, name)
    for location in _empty(document):
        path = ".".join(str(part) for part in location)
        raise UserError(f"{name}:{_line(document, location)}: {path}: has no value; give one or remove it")
    try:
        file = _File.model_validate(_plain(document))
    except ValidationError as error:
        problems = [(_line(document, problem["loc"]), _text(problem)) for problem in error.errors()]
        line, message = min(problems, key=lambda problem: problem[0])
        raise UserError(f"{name}:{line}: {message}") from None
    job = file.trainingInput
    for field, message in _contradictions(job):
        raise UserError(f"{name}:{_line(document, ('trainingInput', field))}: trainingInput.{field}: {message}")
    pools, warnings = [], []
    for role, field, kind, count in _asked(job):
        try:
            machine, warning = machines.machine(kind)
        except KeyError:
            raise UserError(
                f"{name}:{_line(document, ('trainingInput', field))}: trainingInput.{field}: unknown machine type {kind!r}; "
                f"near it: {', '.join(machines.near(kind))}"
            ) from None
        pools.append(Pool(role, machine, count))
        if warning:
            warnings.append(f"{name}:{_line(document, ('trainingInput', field))}: {warning}")
    for field in ("runtimeVersion", "pythonVersion"):
        if getattr(job, field):
            line = _line(document, ("trainingInput", field))
            warnings.append(
                f"{name}:{line}: {field} has no effect: ML Engine's runtimes are gone; the stack's executor image is used"
            )
    return JobFile(job, file.labels, tuple(pools), tuple(dict.fromkeys(warnings)))


def _asked(job: TrainingInput) -> Iterator[tuple[str, str, str, int]]:
    """(role, the field to blame, machine type, count) of each pool that is not empty."""
    tier = job.scaleTier or ("CUSTOM" if job.masterType else "BASIC")
    for role, (kind, count) in machines.mapping()["scaleTiers"][tier].items():
        yield role, "scaleTier", kind, count
    if job.masterType:
        yield "chief", "masterType", job.masterType, 1
    if job.workerType and job.workerCount:
        yield "worker", "workerType", job.workerType, job.workerCount
    if job.parameterServerType and job.parameterServerCount:
        yield "ps", "parameterServerType", job.parameterServerType, job.parameterServerCount


def _contradictions(job: TrainingInput) -> Iterator[tuple[str, str]]:
    """(field, message) for what no single field shows."""
    own = ("masterType", "workerType", "workerCount", "parameterServerType", "parameterServerCount")
    if job.scaleTier not in (None, "CUSTOM"):
        for field in own:
            if getattr(job, field):
                yield field, f"scaleTier {job.scaleTier} sets the machines; write scaleTier: CUSTOM or remove {field}"
    elif not job.masterType and (job.scaleTier == "CUSTOM" or any(getattr(job, field) for field in own)):
        field = "scaleTier" if job.scaleTier else next(field for field in own if getattr(job, field))
        yield field, "machines of your own choice need a chief; add masterType: standard"
    for role in ("worker", "parameterServer"):
        kind, count = getattr(job, f"{role}Type"), getattr(job, f"{role}Count")
        if count and not kind:
            yield f"{role}Count", f"{role}Type is missing; add, for example, {role}Type: standard"
        if kind and count is None:
            yield f"{role}Type", f"{role}Count is missing; add {role}Count: 1 or remove {role}Type"
    if job.parameterServerCount and not job.workerCount:
        yield (
            "parameterServerCount",
            "parameter servers serve workers, and there are none; add workerType and workerCount or remove these",
        )


def _empty(node: Any, location: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a field stands without a value."""
    for key, value in node.items():
        if value is None:
            yield (*location, key)
        elif hasattr(value, "items"):
            yield from _empty(value, (*location, key))


def _load(text: str, name: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        document = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        said = (
            error.problem
            if not error.context or not str(error.problem).startswith("but")
            else f"{error.context} {error.problem}"
        )
        raise UserError(f"{where}: not valid YAML: {said}; check indentation, colons and quotes there") from None
    except YAMLError as error:
        raise UserError(f"{name}: not valid YAML: {str(error).splitlines()[0]}") from None
    if not hasattr(document, "lc") or not hasattr(document, "keys"):
        raise UserError(f"{name}:1: a job file is a mapping that begins with `trainingInput:`; see examples/digits/job.yaml")
    return document


def _plain(value: Any) -> Any:
    """ruamel's round-trip values as Python's own."""
    if hasattr(value, "items"):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return getattr(value, "value", value)  # a scalar with a tag of its own is what it says without the tag


def _line(document: Any, location: Sequence[Any]) -> int:
    """The 1-based line of the field at `location`, or of the nearest mapping around it."""
    line, node = document.lc.line, document
    for key in location:
        try:
            line = (node.lc.key(key) if hasattr(node, "keys") else node.lc.item(key))[0]
            node = node[key]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return int(line) + 1


def _text(problem: Any) -> str:
    """One of pydantic's complaints in a user's words."""
    location = tuple(part for part in problem["loc"] if part != "[key]")
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    field, value = str(location[-1]), problem["input"]
    return f"{path}: {_complaint(problem, field, value, location)}"


def _complaint(problem: Any, field: str, value: Any, location: tuple[Any, ...]) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(field, location)
    if kind == "missing":
        return "missing; a job file begins with `trainingInput:`, see examples/digits/job.yaml"
    if kind == "string_type":
        return f'must be text, not {value!r}; write "{value}", in quotes'
    if kind == "greater_than_equal":
        return f"must be {context['ge']} or more, not {value}"
    if kind in ("int_type", "int_from_float"):
        return f"must be a whole number, not {value!r}"
    if kind == "literal_error":
        return f"unknown value {value!r}; one of {context['expected']}"
    if kind == "tuple_type":
        return f'must be a list, not {value!r}; write one item per line, each after "- "'
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"must hold indented fields, not {value!r}"
    if kind == "string_pattern_mismatch":
        shapes = {
            "maxRunningTime": 'a duration in seconds, for example "43200s"',
            "region": "a region, for example us-central1",
            "pythonModule": "a Python module's name, for example trainer.train",
        }
        if "labels" in location:
            return f"{value!r}: a label is at most 63 lower-case letters, digits, _ and -, and its key begins with a letter"
        return f"must be {shapes.get(field, 'a gs://BUCKET/… address')}, not {value!r}"
    return f"{problem['msg']} (found {value!r})"


def _unknown(field: str, location: tuple[Any, ...]) -> str:
    if field in UNSUPPORTED and location[0] == "trainingInput":
        return "known to ML Engine but not supported here; remove it"
    if field == "labels":
        return "labels stand beside trainingInput, not in it; move them one level out"
    if len(location) == 1 and field in TrainingInput.model_fields:
        return "belongs under trainingInput; indent it there"
    models: dict[int, type[BaseModel]] = {1: _File, 2: TrainingInput}
    known = models.get(len(location), Scheduling).model_fields
    close = difflib.get_close_matches(field, known, n=1, cutoff=0.5)
    return f"unknown field; did you mean {close[0]}?" if close else f"unknown field; one of {', '.join(known)}"
