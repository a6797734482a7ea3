"""The job file, read with line numbers: native worker pools, or the old page's `trainingInput`, which is put into native words.

Every complaint names file, line, field and what to do. What the fields are is in jobmodel.py, what they may say together in
jobcheck.py.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, get_args

from pydantic import BaseModel, ValidationError

from launcher import jobcheck, machines
from launcher.errors import UserError
from launcher.job import Pool
from launcher.jobmodel import SHAPES, NativeJob, OldJob, TrainingInput

Location = tuple[Any, ...]

# Known to ML Engine, without a counterpart here: refused by name, never dropped.
UNSUPPORTED = {"encryptionConfig", "hyperparameters", "useChiefInTfConfig", "tpuTfVersion", "maxWaitTime", "priority"}
EXAMPLES = "examples/digits/job.yaml"


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

    def applied(self, job: NativeJob, places: dict[Location, str]) -> tuple[NativeJob, dict[Location, str]]:
        """The job with them, and where its fields come from now. Raises UserError."""


def read(path: Path, overrides: Overrides | None = None) -> JobFile:
    """Reads a job file. Raises UserError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such job file; {EXAMPLES} is one to start from") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read the job file: {error}") from error
    return parse(text, str(path), overrides)


def parse(text: str, name: str, overrides: Overrides | None = None) -> JobFile:
    """Reads a job file's text; `name` is how messages call the file. Raises UserError."""
    document = _load(text, name)
    for location in _empty(document):
        raise UserError(f"{name}:{_line(document, location)}: {_path(location)}: has no value; give one or remove it")
    old = "trainingInput" in document
    try:
        plain = _plain(document)
        given: OldJob | NativeJob = OldJob.model_validate(plain) if old else NativeJob.model_validate(plain)
    except ValidationError as error:
        # The first in the file; what is missing comes last, for a misspelt field may be the reason.
        found = [
            (problem["type"] == "missing", _line(document, problem["loc"]), problem) for problem in _causes(error.errors())
        ]
        _, line, problem = min(found, key=lambda item: item[:2])
        raise UserError(f"{name}:{line}: {_text(problem, old)}") from None
    except RecursionError:
        raise UserError(f"{name}:1: not a job file: a value contains itself, or nests without end") from None

    def place(location: Location) -> str:
        return f"{name}:{_line(document, location)}: {_path(location)}"

    warnings: list[str] = []
    if isinstance(given, OldJob):
        job, places = _translated(given, place)
        for field in ("runtimeVersion", "pythonVersion"):
            if getattr(given.trainingInput, field):
                warnings.append(
                    f"{name}:{_line(document, ('trainingInput', field))}: {field} has no effect: ML Engine's runtimes are "
                    "gone; the stack's executor image is used"
                )
    else:
        job, places = given, {location: place(location) for location in _locations(plain)}
    if overrides:
        job, places = overrides.applied(job, places)
    return completed(name, job, places, warnings)


def completed(name: str, job: NativeJob, places: Mapping[Location, str], warnings: Sequence[str] = ()) -> JobFile:
    """A job with what it means for its fields to stand together. Raises UserError."""
    checked = jobcheck.check(job, places, name)
    return JobFile(name, job, checked.pools, (*checked.warnings, *warnings), checked.notes, places)


_OLD_ROLES = {"chief": "master", "worker": "worker", "ps": "parameterServer", "evaluator": "evaluator"}


def _translated(given: OldJob, place: Any) -> tuple[NativeJob, dict[Location, str]]:
    """The old page's form in native words, and where each of those came from. Raises UserError."""
    old = given.trainingInput
    for field, message in _contradictions(old):
        raise UserError(f"{place(('trainingInput', field))}: {message}")
    native: dict[str, Any] = {}
    places: dict[Location, str] = {}

    def put(holder: dict[str, Any], at: Location, field: str, value: Any, *source: str) -> None:
        if value is not None:
            holder[field], here = value, (*at, field)
            places[here] = place(("trainingInput", *source))

    pools: list[dict[str, Any]] = []
    tier = old.scaleTier or ("CUSTOM" if old.masterType else "BASIC")
    for role, (kind, count) in machines.mapping()["scaleTiers"][tier].items():
        at = ("workerPools", len(pools))
        pool: dict[str, Any] = {"role": role}
        if old.scaleTier:
            places[at] = place(("trainingInput", "scaleTier"))
            put(pool, at, "machineType", kind, "scaleTier")
            put(pool, at, "replicaCount", count, "scaleTier")
        else:
            pool |= {"machineType": kind, "replicaCount": count}
        pools.append(pool)
    for role, prefix in _OLD_ROLES.items():
        kind = getattr(old, f"{prefix}Type")
        count = 1 if role == "chief" else getattr(old, f"{prefix}Count")
        if kind and count:
            at, pool = ("workerPools", len(pools)), {"role": role}
            places[at] = place(("trainingInput", f"{prefix}Type"))
            put(pool, at, "machineType", kind, f"{prefix}Type")
            put(pool, at, "replicaCount", count, f"{prefix}Type" if role == "chief" else f"{prefix}Count")
            pools.append(pool)
    for index, pool in enumerate(pools):
        at, prefix = ("workerPools", index), f"{_OLD_ROLES[pool['role']]}Config"
        config = getattr(old, prefix)
        if config is None:
            continue
        if config.acceleratorConfig:
            put(pool, at, "acceleratorType", config.acceleratorConfig.type, prefix, "acceleratorConfig", "type")
            put(pool, at, "acceleratorCount", config.acceleratorConfig.count, prefix, "acceleratorConfig", "count")
        if config.diskConfig:
            put(pool, at, "bootDiskType", config.diskConfig.bootDiskType, prefix, "diskConfig", "bootDiskType")
            put(pool, at, "bootDiskSizeGb", config.diskConfig.bootDiskSizeGb, prefix, "diskConfig", "bootDiskSizeGb")
        put(pool, at, "imageUri", config.imageUri, prefix, "imageUri")
        put(pool, at, "command", config.containerCommand, prefix, "containerCommand")
        put(pool, at, "args", config.containerArgs, prefix, "containerArgs")
    chief = next(pool for pool in pools if pool["role"] == "chief")
    for index, pool in enumerate(pools):  # a replica without an image of its own runs the master's
        if "imageUri" in chief and "imageUri" not in pool:
            for field in ("imageUri", "command", "args"):
                if field not in pool:
                    put(pool, ("workerPools", index), field, chief.get(field), "masterConfig")
    native["workerPools"] = pools
    for field in ("region", "args", "packageUris", "pythonModule", "serviceAccount", "network", "enableWebAccess"):
        put(native, (), field, getattr(old, field), field)
    put(native, (), "baseOutputDirectory", old.jobDir, "jobDir")
    if old.scheduling.maxRunningTime:
        native["scheduling"] = {"timeout": old.scheduling.maxRunningTime}
        places["scheduling", "timeout"] = place(("trainingInput", "scheduling", "maxRunningTime"))
    if given.labels:
        native["labels"] = given.labels
        places |= {("labels", key): place(("labels", key)) for key in given.labels}
    return NativeJob.model_validate(native), places


def _contradictions(job: TrainingInput) -> Iterator[tuple[str, str]]:
    """(field, message) for what no single field shows and native words cannot say."""
    own = [f"{prefix}{part}" for prefix in _OLD_ROLES.values() for part in ("Type", "Count") if prefix + part != "masterCount"]
    if job.scaleTier not in (None, "CUSTOM"):
        for field in own:
            if getattr(job, field):
                yield field, f"scaleTier {job.scaleTier} sets the machines; write scaleTier: CUSTOM or remove {field}"
    elif not job.masterType and (job.scaleTier == "CUSTOM" or any(getattr(job, field) for field in own)):
        field = "scaleTier" if job.scaleTier else next(field for field in own if getattr(job, field))
        yield field, "machines of your own choice need a chief; add masterType: standard"
    for prefix in ("worker", "parameterServer", "evaluator"):
        kind, count = getattr(job, f"{prefix}Type"), getattr(job, f"{prefix}Count")
        if count and not kind:
            yield f"{prefix}Count", f"{prefix}Type is missing; add, for example, {prefix}Type: standard"
        if kind and count is None:
            yield f"{prefix}Type", f"{prefix}Count is missing; add {prefix}Count: 1 or remove {prefix}Type"
    tier = machines.mapping()["scaleTiers"].get(job.scaleTier or "CUSTOM", {})
    for role, prefix in _OLD_ROLES.items():
        used = role == "chief" or role in tier or getattr(job, f"{prefix}Count", None)
        if getattr(job, f"{prefix}Config") and not used:
            yield f"{prefix}Config", f"there are no machines of that kind; add {prefix}Type and {prefix}Count or remove it"
    if job.parameterServerCount and not job.workerCount:
        yield (
            "parameterServerCount",
            "parameter servers serve workers, and there are none; add workerType and workerCount or remove these",
        )


def _locations(value: Any, location: Location = ()) -> Iterator[Location]:
    """Every field in a document, the inner ones too."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*location, key)
        yield from _locations(item, (*location, key))


def _empty(node: Any, location: Location = ()) -> Iterator[Location]:
    """Where a field stands without a value."""
    for key, value in node.items() if hasattr(node, "items") else enumerate(node):
        if len(location) > 20:
            return  # an alias to what holds it; said when it is made plain
        if value is None:
            yield (*location, key)
        elif hasattr(value, "items") or isinstance(value, list):
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
    except (ValueError, AttributeError, TypeError, AssertionError, NotImplementedError, RecursionError) as error:
        # ruamel's own trips over what no one writes: a date that is none, a directive it does not know.
        raise UserError(f"{name}: not valid YAML: {str(error).splitlines()[0] if str(error) else error!r}") from None
    if not hasattr(document, "lc") or not hasattr(document, "keys"):
        raise UserError(
            f"{name}:1: a job file is a mapping that begins with `trainingInput:` or has `workerPools:`; see {EXAMPLES}"
        )
    return document


def _plain(value: Any) -> Any:
    """ruamel's round-trip values as Python's own."""
    if hasattr(value, "items"):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if type(value).__name__ == "ScalarBoolean":
        return bool(value)
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


def _path(location: Sequence[Any]) -> str:
    names = (part if not isinstance(part, str) or part.isprintable() else repr(part) for part in location)
    return "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in names).lstrip(".")


def _causes(problems: Sequence[Any]) -> list[Any]:
    """Without the lists that are too short only because an item of them is wrong."""
    places = [problem["loc"] for problem in problems]
    return [
        problem
        for problem in problems
        if problem["type"] != "too_short" or not any(_inside(place, problem["loc"]) for place in places)
    ]


def _inside(place: Sequence[Any], holder: Sequence[Any]) -> bool:
    return len(place) > len(holder) and tuple(place[: len(holder)]) == tuple(holder)


def _text(problem: Any, old: bool) -> str:
    """One of pydantic's complaints in a user's words."""
    location = tuple(part for part in problem["loc"] if part != "[key]")
    field = str(next((part for part in reversed(location) if isinstance(part, str)), ""))
    return f"{_path(location)}: {complaint(problem, field, location, old)}"


def complaint(problem: Any, field: str, location: Location, old: bool = False) -> str:
    """What is wrong with a value, in a user's words: from one of pydantic's errors."""
    kind, context, value = problem["type"], problem.get("ctx", {}), problem["input"]
    if kind == "extra_forbidden":
        return _unknown(str(location[-1]), location, old)
    if kind == "missing":
        return "missing; add it"
    if kind == "string_type":
        if isinstance(value, (list, dict)):
            return f"must be text, not {value!r}"
        return f'must be text, not {value!r}; write "{value}", in quotes'
    if kind == "greater_than_equal":
        return f"must be {context['ge']} or more, not {value}"
    if kind == "less_than_equal":
        return f"must be {context['le']} or less, not {value}"
    if kind in ("int_type", "int_from_float"):
        return f"must be a whole number, not {value!r}"
    if kind in ("bool_type", "bool_parsing"):
        return f"must be true or false, not {value!r}"
    if kind == "literal_error":
        expected = str(context["expected"])
        known = [name for name in expected.replace(" or ", ", ").replace("'", "").split(", ") if name]
        close = difflib.get_close_matches(str(value).upper(), known, n=3, cutoff=0.6)
        if close and len(known) > 6:
            return f"unknown value {value!r}; did you mean {' or '.join(close)}?"
        return f"unknown value {value!r}; one of {expected}"
    if kind == "tuple_type":
        return f'must be a list, not {value!r}; write one item per line, each after "- "'
    if kind in ("too_short", "too_long"):
        few = kind == "too_short"
        return "must not be empty; remove it or fill it" if few else f"must have at most {context['max_length']} entries"
    if kind == "string_too_short":
        return "must not be empty; give a value or remove it"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"must hold indented fields, not {value!r}"
    if kind == "string_pattern_mismatch":
        if "labels" in location:
            return f"{value!r}: a label is at most 63 lower-case letters, digits, _ and -, and its key begins with a letter"
        if "env" in location:
            return f"{value!r}: an environment variable's name is letters, digits and _, and begins with no digit"
        return f"must be {SHAPES.get(field, 'a gs://BUCKET/… address')}, not {value!r}"
    return f"{problem['msg']} (found {value!r})"


def _unknown(field: str, location: Location, old: bool) -> str:
    if old and field in UNSUPPORTED and location[0] == "trainingInput":
        return "known to ML Engine but not supported here; remove it"
    if old and len(location) == 2 and field == "labels":
        return "labels stand beside trainingInput, not in it; move them one level out"
    if len(location) == 1 and field in TrainingInput.model_fields:
        return "belongs under trainingInput; indent it there"
    if old and len(location) == 1 and field in NativeJob.model_fields:
        return "a job file has either trainingInput or native fields; keep one form"
    known = _fields(OldJob if old else NativeJob, location[:-1])
    close = difflib.get_close_matches(field, known, n=1, cutoff=0.5)
    return f"unknown field; did you mean {close[0]}?" if close else f"unknown field; one of {', '.join(known)}"


def _fields(model: type[BaseModel], location: Location) -> list[str]:
    """The names of the fields that may stand at a location."""
    for part in location:
        if isinstance(part, str):
            inner = _models(model.model_fields[part].annotation)
            if not inner:
                return []
            model = inner[0]
    return list(model.model_fields)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]
