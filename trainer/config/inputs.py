"""train_input_reader, eval_input_reader and eval_config: which records are read, and how."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from trainer.config.section import Section

# The Object Detection API's name for them, and that of its first release.
_COCO_METRICS = ("coco_detection_metrics", "coco_metrics")
_VOC_METRICS = ("pascal_voc_detection_metrics", "pascal_voc_metrics")
_TAKEN = ("best",)  # folders that an evaluation has anyway


@dataclass(frozen=True)
class Reader:
    """One input: patterns of TFRecord files and a label map, as the file names them (paths or gs:// URIs)."""

    patterns: tuple[str, ...]
    label_map: str
    max_boxes: int
    options: dict[str, Any]  # of Model Garden's DataConfig
    weights: tuple[float, ...] = ()  # of the patterns, how often each is drawn from; empty: as one set
    name: str = ""


@dataclass(frozen=True)
class EvalSettings:
    """What eval_config decides."""

    batch_size: int
    examples: int | None  # evaluate the first so many; None: all
    drawn: int
    drawn_boxes: int
    drawn_score: float
    voc: bool = False  # PASCAL VOC's metrics, too; COCO's always are
    averaged: bool = False  # the weights' moving averages are evaluated


def read_training(section: Section) -> Reader:
    """train_input_reader"""
    section.only("shuffle", True, "training data is shuffled")
    section.only("num_epochs", 0, "training ends after train_config.num_steps")
    section.only("sample_1_of_n_examples", 1, "all records are read")
    reader = _read(section)
    reader.options["shuffle_buffer_size"] = section.positive("shuffle_buffer_size")
    weights = tuple(section.value("sample_from_datasets_weights"))
    if weights and len(weights) != len(reader.patterns):
        section.refuse("sample_from_datasets_weights", f"are {len(weights)} for {len(reader.patterns)} input paths")
    if any(weight <= 0 for weight in weights):
        section.refuse("sample_from_datasets_weights", "must be above 0")
    return replace(reader, weights=weights)


def read_evaluation(section: Section) -> Reader:
    """eval_input_reader"""
    if section.value("num_epochs") > 1:
        section.refuse("num_epochs", f"{section.shown('num_epochs')} is not supported: evaluation reads the data once")
    section.without_effect("shuffle", "shuffle_buffer_size")  # scores do not depend on the order
    section.nearly("sample_1_of_n_examples", 1, "all records are evaluated")
    return _read(section)


def read_further(sections: Sequence[Section]) -> tuple[Reader, ...]:
    """The eval_input_readers after the first, each with a name of its own, which a folder can have."""
    found: dict[str, Reader] = {}
    for number, section in enumerate(sections, start=2):
        name = section.value("name") or f"reader{number}"
        if not re.fullmatch(r"[\w.-]*\w[\w.-]*", name) or name in _TAKEN or name in found:
            section.refuse(
                "name", f'"{name}" must be a name of its own of letters, digits, ".", "-" and "_": results go to a folder'
            )
        found[name] = replace(read_evaluation(section), name=name)
    return tuple(found.values())


def _read(section: Section) -> Reader:
    section.without_effect(
        "queue_capacity", "min_after_dequeue", "filenames_shuffle_buffer_size", "prefetch_size",
        "num_parallel_map_calls", "num_parallel_batches", "use_display_name", "include_source_id", "mask_type",
    )  # fmt: skip
    section.value("name")
    section.only("input_type", 1, "records are tf.train.Examples")
    label_map = section.required("label_map_path")
    patterns: list[str] = []
    _, records = section.choice("input_reader", ["tf_record_input_reader"])
    if records:
        # One path may name several files, separated by commas.
        patterns = [part.strip() for path in records.required("input_path") for part in path.split(",") if part.strip()]
    options: dict[str, Any] = {}
    if section.has("num_readers"):
        options["cycle_length"] = section.positive("num_readers")
    else:
        section.without_effect("num_readers")
    if section.has("read_block_length"):
        options["block_length"] = section.positive("read_block_length")
    else:
        section.without_effect("read_block_length")
    if section.has("num_prefetch_batches"):
        options["prefetch_buffer_size"] = section.value("num_prefetch_batches")
    else:
        section.without_effect("num_prefetch_batches")
    return Reader(tuple(patterns), label_map, section.positive("max_number_of_boxes"), options)


def read_eval_config(section: Section) -> EvalSettings:
    """eval_config"""
    metrics = tuple(section.value("metrics_set"))
    for metric in metrics:
        if metric not in (*_COCO_METRICS, *_VOC_METRICS):
            supported = ", ".join((*_COCO_METRICS, *_VOC_METRICS))
            section.refuse("metrics_set", f'"{metric}" is not supported; supported: {supported}')
    if section.has("max_evals"):
        section.nearly("max_evals", 1, "the last checkpoint is evaluated once, or with --continuous each one")
    if section.has("eval_interval_secs"):
        section.approximate("eval_interval_secs", "with --continuous each checkpoint is evaluated when it is there")
    # Scores per class are always computed, and the sheet of drawings always shows scores, labels and true boxes.
    section.without_effect(
        "include_metrics_per_category", "all_metrics_per_category", "visualize_groundtruth_boxes", "retain_original_images",
        "save_graph", "eval_master",
    )  # fmt: skip
    return EvalSettings(
        batch_size=section.positive("batch_size"),
        examples=section.positive("num_examples") if section.has("num_examples") else None,
        drawn=section.value("num_visualizations"),
        drawn_boxes=section.positive("max_num_boxes_to_visualize"),
        drawn_score=section.value("min_score_threshold"),
        voc=any(metric in _VOC_METRICS for metric in metrics),
        averaged=section.value("use_moving_averages"),
    )
