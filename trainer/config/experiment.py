"""The whole configuration as a Model Garden experiment, as plain values: without TensorFlow, mistakes show at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trainer.config import garden_yaml, inputs, model, reader, training
from trainer.config.augmentation import Colour
from trainer.config.inputs import EvalSettings, Reader
from trainer.config.layers import ModelSettings
from trainer.config.rates import Schedule
from trainer.config.section import Note
from trainer.config.training import Start
from trainer.errors import InputError


@dataclass(frozen=True)
class Experiment:
    """What a configuration asks for.

    kind: "retinanet" or "faster_rcnn". `task` and `optimizer` override Model Garden's task config of that kind and its
    OptimizationConfig; `schedule` and `colours` are what these cannot express.
    """

    path: str
    text: str
    kind: str
    classes: int
    steps: int
    keep_every_hours: float
    task: dict[str, Any]
    optimizer: dict[str, Any]
    train: Reader
    evaluation: Reader
    eval: EvalSettings
    start: Start | None = None
    frozen: tuple[str, ...] = ()
    schedule: Schedule | None = None
    colours: tuple[Colour, ...] = ()
    further: tuple[Reader, ...] = ()  # what is evaluated beside `evaluation`
    approximations: tuple[Note, ...] = field(default=())


def read(path: str, template: bool = False) -> Experiment:
    """Reads the pipeline.config or Model Garden YAML at a local path or gs:// URI; in a template placeholders may be left.

    Raises InputError with every problem found and its line.
    """
    return parse(reader.read_text(path), path, template)


def parse(text: str, path: str, template: bool = False) -> Experiment:
    """The same from a text; `path` names it in errors, and a name in .yaml or .yml means Model Garden's form."""
    if garden_yaml.is_yaml(path):
        return Experiment(path=path, text=text, **garden_yaml.parse(text, path))
    return build(reader.parse(text, path, template))


def build(pipeline: reader.Pipeline) -> Experiment:
    """Maps a file that was read. Raises InputError with every problem found, each with its line."""
    root = pipeline.root
    settings = model.read(root.required_section("model"))
    evaluation = inputs.read_eval_config(root.required_section("eval_config"))
    train = training.read(root.required_section("train_config"), settings.kind if settings else "", evaluation.averaged)
    train_reader = inputs.read_training(root.required_section("train_input_reader"))
    readers = root.sections("eval_input_reader")
    if not readers:
        pipeline.problems.add(root.line("eval_input_reader"), "eval_input_reader { … } is missing")
    eval_readers = [*map(inputs.read_evaluation, readers[:1]), *inputs.read_further(readers[1:])]
    if root.has("graph_rewriter"):
        root.refuse("graph_rewriter", "is not supported: leave it out, and quantize the exported model")
    root.report_leftovers()
    pipeline.problems.raise_if_any()
    if settings is None:  # a problem was reported
        raise InputError(f"{pipeline.path}: the model is not supported")
    return Experiment(
        path=pipeline.path,
        text=pipeline.text,
        kind=settings.kind,
        classes=settings.classes,
        steps=train.steps,
        keep_every_hours=train.keep_every_hours,
        task=_task(settings, train, train_reader, eval_readers[0], evaluation),
        optimizer=train.optimizer,
        train=train_reader,
        evaluation=eval_readers[0],
        further=tuple(eval_readers[1:]),
        eval=evaluation,
        start=train.start,
        frozen=train.frozen,
        schedule=train.schedule,
        colours=train.augmentation.colours,
        approximations=tuple(pipeline.problems.approximations),
    )


def _task(
    settings: ModelSettings,
    train: training.TrainSettings,
    train_reader: Reader,
    eval_reader: Reader,
    evaluation: EvalSettings,
) -> dict[str, Any]:
    task: dict[str, Any] = {
        "model": settings.model,
        "losses": settings.losses,
        "per_category_metrics": True,
        "train_data": {
            "is_training": True,
            "dtype": "float32",
            "global_batch_size": train.batch_size,
            "parser": {
                **settings.parser,
                **train.augmentation.parser,
                "max_num_instances": min(train.max_boxes, train_reader.max_boxes),
            },
            **train_reader.options,
        },
        "validation_data": {
            "is_training": False,
            "dtype": "float32",
            "global_batch_size": evaluation.batch_size,
            "drop_remainder": False,
            # The evaluator tells images apart by a number, which the records' own ids need not be.
            "decoder": {"type": "simple_decoder", "simple_decoder": {"regenerate_source_id": True}},
            "parser": {**settings.parser, "max_num_instances": eval_reader.max_boxes},
            **eval_reader.options,
        },
    }
    if settings.kind == "retinanet":
        task["max_num_eval_detections"] = settings.max_detections
    return task
