"""Model Garden's own form of an experiment: the YAML of `official.vision.train --config_file`.

Its fields and values are checked by Model Garden itself, when the task is built (trainer.garden).
"""

from __future__ import annotations

import re
from typing import Any, TypeGuard

import yaml

from trainer.config.inputs import EvalSettings, Reader
from trainer.config.training import Start
from trainer.errors import InputError

# What only the config of Faster and Mask R-CNN has.
_SECOND_STAGE = ("include_mask", "rpn_head", "detection_head", "roi_generator", "roi_sampler", "roi_aligner")
_SECTIONS = ("task", "trainer", "runtime")
TAKEN = ("train_steps", "validation_steps", "optimizer_config")
"""What counts of the section `trainer`."""
_KEEP_EVERY_HOURS = 10000
_ALL = -1  # batches of evaluation
_LABEL_MAP = "label_map.pbtxt"


class _Loader(yaml.SafeLoader):
    """To YAML 1.1 only 1.0e-4 is a number; to Model Garden (official/modeling/hyperparams/params_dict.py) 1e-4 is one, too."""


_EXPONENTIAL = re.compile(r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENTIAL, [*"-+.0123456789"])


def is_yaml(path: str) -> bool:
    """Whether a path names a file in Model Garden's form."""
    return path.lower().endswith((".yaml", ".yml"))


def parse(text: str, path: str) -> dict[str, Any]:
    """The fields of an Experiment. Raises InputError naming what is missing or of the wrong type, and invalid YAML's line."""
    try:
        found = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f": line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{place}: not valid YAML: {getattr(error, 'problem', None) or error}") from error
    except (ValueError, RecursionError) as error:  # a date that is none; endless nesting
        raise InputError(f"{path}: not valid YAML: {str(error) or 'nested too deeply'}") from error
    root = _Mapping(found, path, "")
    for name in root.values:
        if name not in _SECTIONS:
            raise InputError(f"{path}: {name}: Model Garden's experiments have no such section; known: {', '.join(_SECTIONS)}")
    task, trainer = root.mapping("task"), root.mapping("trainer")
    model = task.mapping("model")
    train, evaluation = task.mapping("train_data"), task.mapping("validation_data")
    kind = "faster_rcnn" if any(name in model.values for name in _SECOND_STAGE) else "retinanet"
    if model.values.get("include_mask"):
        raise InputError(f"{path}: task.model.include_mask true is not supported: boxes are predicted, not masks")
    model.sizes("input_size", 3)
    train.number("global_batch_size")
    readers = [_reader(section) for section in (train, evaluation)]
    start = None
    if task.values.get("init_checkpoint"):
        modules = task.values.get("init_checkpoint_modules", "all")
        if not isinstance(modules, str | list):
            raise InputError(f"{path}: task.init_checkpoint_modules must be names of modules, not {modules!r}")
        parts = tuple(modules.split(",") if isinstance(modules, str) else map(str, modules))
        start = Start(str(task.values["init_checkpoint"]), parts, 0)
    task_values = {name: value for name, value in task.values.items() if not name.startswith("init_checkpoint")}
    for name in ("train_data", "validation_data"):
        task_values[name] = {"dtype": "float32", **{k: v for k, v in task_values[name].items() if k != "input_path"}}
    task_values["validation_data"] = _evaluated(task_values["validation_data"])
    batch_size = evaluation.number("global_batch_size")
    batches = trainer.values.get("validation_steps", _ALL)
    return {
        "kind": kind,
        "classes": model.number("num_classes") - 1,  # class 0 is the background
        "steps": trainer.number("train_steps"),
        "keep_every_hours": _KEEP_EVERY_HOURS,
        "task": task_values,
        "optimizer": trainer.mapping("optimizer_config").values,
        "train": readers[0],
        "evaluation": readers[1],
        "eval": EvalSettings(
            batch_size=batch_size,
            examples=None if batches == _ALL else trainer.number("validation_steps") * batch_size,
            drawn=10,
            drawn_boxes=20,
            drawn_score=0.5,
        ),
        "start": start,
    }


def _evaluated(data: dict[str, Any]) -> dict[str, Any]:
    """validation_data such that every image is evaluated once, whatever ids the records have."""
    decoder = {"type": "simple_decoder", "simple_decoder": {"regenerate_source_id": True}}
    return {**data, "is_training": False, "drop_remainder": False, "decoder": decoder}


def _reader(section: _Mapping) -> Reader:
    given = section.values.get("input_path")
    weights: tuple[float, ...] = ()
    if isinstance(given, dict):
        by_name = section.mapping("weights").values if section.values.get("weights") else {}
        for name, weight in by_name.items():
            if not isinstance(weight, int | float):
                raise InputError(f"{section.path}: {section.name}.weights.{name} must be a number, not {weight!r}")
        weights = tuple(float(by_name.get(name, 1.0)) for name in given)
        given = list(given.values())
    if isinstance(given, str):
        given = [part.strip() for part in given.split(",")]
    if not given or not isinstance(given, list) or not all(isinstance(item, str) and item for item in given):
        raise InputError(f"{section.path}: {section.name}.input_path is missing: a pattern of TFRecord files, or several")
    parser = section.mapping("parser") if section.values.get("parser") else None
    boxes = parser.number("max_num_instances") if parser and "max_num_instances" in parser.values else 100
    # Model Garden knows no label map: the one beside the records names the classes.
    folder = given[0].rpartition("/")[0]
    return Reader(tuple(given), f"{folder}/{_LABEL_MAP}" if folder else _LABEL_MAP, boxes, {}, weights)


class _Mapping:
    """A mapping of the file, with its name."""

    def __init__(self, value: Any, path: str, name: str) -> None:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            what = f"{name} must be" if name else "a Model Garden experiment is"
            raise InputError(f"{path}: {what} a mapping of names to values")
        self.values: dict[str, Any] = value
        self.path = path
        self.name = name

    def mapping(self, key: str) -> _Mapping:
        name = f"{self.name}.{key}" if self.name else key
        if key not in self.values:
            raise InputError(f"{self.path}: {name} is missing")
        return _Mapping(self.values[key], self.path, name)

    def number(self, key: str) -> int:
        value = self.values.get(key)
        if not _is_size(value):
            raise self._wrong(key, "a whole number above 0", value)
        return value

    def sizes(self, key: str, count: int) -> None:
        """Checks that a list of so many sizes is there."""
        value = self.values.get(key)
        if not isinstance(value, list) or len(value) != count or not all(map(_is_size, value)):
            raise self._wrong(key, f"a list of {count} whole numbers above 0", value)

    def _wrong(self, key: str, wanted: str, value: Any) -> InputError:
        found = f"must be {wanted}, not {value!r}" if key in self.values else f"is missing: {wanted}"
        return InputError(f"{self.path}: {self.name}.{key} {found}")


def _is_size(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
