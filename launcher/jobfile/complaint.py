"""What is wrong with a value, in a user's words: from pydantic's errors about a job's models."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel

from launcher.job import OTHER_NAMES
from launcher.jobfile.models import SHAPES, NativeJob, OldJob, Scheduling, TrainingInput, WorkerPool
from launcher.jobfile.yamlfile import Location, path

# Known to ML Engine, without a counterpart here: refused by name, never dropped.
REFUSED = {
    "hyperparameters": "hyperparameter tuning is another service today (Vertex AI's HyperparameterTuningJob); remove it",
    "tpuTfVersion": "the image brings TensorFlow today; remove it and choose an image",
    "predictionInput": "this is a training job, which has none; remove it",
}
# Vertex AI's own words for what a native job file says in others.
_VERTEX = {
    "jobSpec": "its fields stand at the top of a job file, not in a field of their own",
    "workerPoolSpecs": "write workerPools, each with a role, instead",
    "machineSpec": "write machineType, acceleratorType and acceleratorCount in the pool itself",
    "diskSpec": "write bootDiskType and bootDiskSizeGb in the pool itself",
    "containerSpec": "write imageUri, command, args and env in the pool itself, or at the top",
    "pythonPackageSpec": "write executorImageUri, packageUris, pythonModule, args and env in the pool itself, or at the top",
    "encryptionSpec": "write its kmsKeyName at the top",
    "displayName": "a job is called after its run, which --run names; remove it",
}
_TOLD = ("state", "createTime", "startTime", "endTime", "errorMessage", "etag", "jobPosition", "trainingOutput")
"""What ML Engine's answers said of a job, and its requests did not."""


def causes(problems: Sequence[Any]) -> list[Any]:
    """Without the lists that are too short only because an item of them is wrong."""
    places = [problem["loc"] for problem in problems]
    return [
        problem
        for problem in problems
        if problem["type"] != "too_short" or not any(_inside(place, problem["loc"]) for place in places)
    ]


def _inside(place: Sequence[Any], holder: Sequence[Any]) -> bool:
    return len(place) > len(holder) and tuple(place[: len(holder)]) == tuple(holder)


def text(problem: Any, old: bool) -> str:
    """One of pydantic's complaints in a user's words."""
    location = tuple(part for part in problem["loc"] if part != "[key]")
    field = str(next((part for part in reversed(location) if isinstance(part, str)), ""))
    return f"{path(location)}: {complaint(problem, field, location, old)}"


def complaint(problem: Any, field: str, location: Location, old: bool = False) -> str:
    """What is wrong with a value, in a user's words: from one of pydantic's errors."""
    kind, context, value = problem["type"], problem.get("ctx", {}), problem["input"]
    if kind == "extra_forbidden":
        return _unknown(str(location[-1]), location, old)
    if kind == "missing":
        return "missing; add it"
    if kind == "string_type":
        if field in SHAPES:
            return f"must be {SHAPES[field]}, not {value!r}"
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
        meant = OTHER_NAMES.get(str(value)) or str(value).upper().replace("-", "_")
        close = [meant] if meant in known else difflib.get_close_matches(meant, known, n=3, cutoff=0.6)
        if close and (len(known) > 6 or meant in known):
            return f"unknown value {value!r}; did you mean {' or '.join(close)}?"
        return f"unknown value {value!r}; one of {expected}"
    if kind == "tuple_type":
        return f'must be a list, not {value!r}; write one item per line, each after "- "'
    if kind in ("too_short", "too_long"):
        few = kind == "too_short"
        return "must not be empty; remove it or fill it" if few else f"must have at most {context['max_length']} entries"
    if kind == "string_too_short":
        return "must not be empty; give a value or remove it"
    if kind == "dict_type":
        return f"must hold indented lines NAME: text, not {value!r}"
    if kind in ("model_type", "model_attributes_type"):
        return f"must hold indented fields, not {value!r}"
    if kind == "string_pattern_mismatch":
        if "labels" in location:
            return f"{value!r}: a label is at most 63 lower-case letters, digits, _ and -, and its key begins with a letter"
        if "env" in location:
            return f"{value!r}: an environment variable's name is letters, digits and _, and begins with no digit"
        return f"must be {SHAPES.get(field, 'a gs://BUCKET/… address')}, not {value!r}"
    return f"{problem['msg']} (found {value!r})"


def _unknown(field: str, location: Location, old: bool) -> str:
    if old and field in REFUSED:
        return REFUSED[field]
    if old and len(location) == 1 and field in _TOLD:
        return "the service says this of a job, not you; remove it"
    if old and len(location) == 2 and field == "labels":
        return "labels stand beside trainingInput, not in it; move them one level out"
    if len(location) == 1 and field in TrainingInput.model_fields:
        return "belongs under trainingInput; indent it there"
    if old and len(location) == 1 and field in NativeJob.model_fields:
        return "a job file has either trainingInput or native fields; keep one form"
    if not old and field in _VERTEX:
        return _VERTEX[field]
    if not old and len(location) == 1 and field in Scheduling.model_fields:
        return "belongs under scheduling; indent it there"
    if not old and len(location) == 1 and field in WorkerPool.model_fields:
        return "belongs to a pool of workerPools; move it there"
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
