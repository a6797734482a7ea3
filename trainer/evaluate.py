"""Scores the last checkpoint on held-out images.

`python -m trainer.evaluate --checkpoint_dir=DIR --eval_dir=DIR --pipeline_config_path=FILE`

Leaves in eval_dir: TensorBoard events, metrics.json (with the history of all evaluations), detections.json, detections.png,
analysis.json (curves of precision and recall, confusions), best.png and worst.png.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainer import arguments, files, paths, runtime, server
from trainer.data import label_map
from trainer.errors import InputError
from trainer.progress import duration, log
from trainer.train import check_inputs

if TYPE_CHECKING:
    from trainer.coco import Annotated, Scores
    from trainer.config.inputs import EvalSettings
    from trainer.detection import HeldOut

METRICS, DETECTIONS, SHEET = "metrics.json", "detections.json", "detections.png"
ANALYSIS, BEST, WORST = "analysis.json", "best.png", "worst.png"
_EXTREMES = 4  # images on each of those sheets
_PROGRESS_SECONDS = 5.0


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The old page's flags. Raises InputError on anything else."""
    parser = arguments.job_parser("trainer.evaluate", "Evaluate a detector.")
    parser.add_argument("--checkpoint_dir", required=True, help="where training keeps its checkpoints (a folder or gs:// URI)")
    parser.add_argument("--eval_dir", required=True, help="where the results go (a folder or gs:// URI)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates once; the exit code."""
    return arguments.run(lambda: _main(parse_arguments(sys.argv[1:] if argv is None else argv)))


def _main(options: argparse.Namespace) -> int:
    runtime.prepare()
    evaluate(paths.resolve(options.checkpoint_dir), paths.resolve(options.eval_dir), options.pipeline_config_path)
    return 0


def evaluate(checkpoint_dir: str, eval_dir: str, config_path: str) -> None:
    """Scores the last checkpoint and writes what `trainer.report` reads. Raises InputError."""
    began = time.monotonic()
    inputs = check_inputs(config_path, training=False)
    names = label_map.read(paths.resolve(inputs.experiment.evaluation.label_map))
    log("loading TensorFlow")
    from trainer import coco, detection, garden, pascal, training

    runtime.quiet_logging()
    checkpoint = training.last_checkpoint(checkpoint_dir)
    if checkpoint is None:
        raise InputError(f"{checkpoint_dir}: no checkpoint there to evaluate; check --checkpoint_dir, or train first")
    step = training.step_of(checkpoint)
    settings = inputs.experiment.eval
    detector = detection.Detector(garden.build_task(inputs.experiment, inputs.train_files, inputs.eval_files), checkpoint)
    log(f"evaluating the checkpoint of step {step}", step=step)
    images = list(detection.read_images(inputs.eval_files, settings.examples))
    detected = _with_progress(detector.detect(settings.examples), len(images))
    truth = [image.truth for image in images]
    scores = coco.evaluate(truth, detected, names)
    voc = pascal.evaluate(truth, detected, names) if settings.voc else None
    if voc:
        scores.metrics.update(voc.mean)
    seconds = time.monotonic() - began
    try:
        _write(eval_dir, step, scores, images, detected, names, settings, seconds, voc.per_class if voc else {})
    except OSError as error:
        raise InputError(f"{eval_dir}: cannot be written: {error.strerror or error}; check --eval_dir and the disk") from error
    shown = " · ".join(f"{name} {_shown(scores.metrics[name])}" for name in ("AP", "AP50", "AP75"))
    log(f"step {step}: {shown} on {len(images)} images in {duration(seconds)}", step=step, metrics=scores.metrics)


def _with_progress(detected: Any, total: int) -> list[Annotated]:
    found = []
    said = time.monotonic()
    for item in detected:
        found.append(item)
        if time.monotonic() - said > _PROGRESS_SECONDS:
            said = time.monotonic()
            log(f"{len(found)}/{total} images")
    return found


def _write(
    eval_dir: str,
    step: int,
    scores: Scores,
    images: Sequence[HeldOut],
    detected: Sequence[Annotated],
    names: Mapping[int, str],
    settings: EvalSettings,
    seconds: float,
    voc: Mapping[str, Mapping[str, float | None]],
) -> None:
    import tensorflow as tf

    from trainer import drawing

    files.make_folder(eval_dir)
    writer = tf.summary.create_file_writer(eval_dir)
    with writer.as_default(step=step):
        for name, value in scores.metrics.items():
            if value is not None:
                tf.summary.scalar(name, value)
    writer.close()
    items = [_item(image, found, settings) for image, found in zip(images[: settings.drawn], detected, strict=False)]
    if items:
        drawing.detection_sheet(items, names, paths.join(eval_dir, SHEET), min_score=settings.drawn_score)
        files.write(paths.join(eval_dir, DETECTIONS), json.dumps([_plain(item, names) for item in items], indent=1) + "\n")
    path = paths.join(eval_dir, METRICS)
    result: dict[str, Any] = {"step": step, "metrics": scores.metrics, "per_class": scores.per_class, "images": len(images)}
    result |= {"seconds": round(seconds, 1), "history": _history(files.read(path), step, scores.metrics)}
    result |= {"per_class_voc": voc} if voc else {}
    _write_analysis(eval_dir, images, detected, names, settings)
    files.write(path, json.dumps(result, indent=1) + "\n")


def _write_analysis(
    eval_dir: str, images: Sequence[HeldOut], detected: Sequence[Annotated], names: Mapping[int, str], settings: EvalSettings
) -> None:
    from trainer import analysis, drawing

    truth, score = [image.truth for image in images], settings.drawn_score
    files.write(paths.join(eval_dir, ANALYSIS), json.dumps(analysis.analyse(truth, detected, names, score)) + "\n")
    ranked = analysis.extremes(analysis.judge(truth, detected, score), _EXTREMES)
    for chosen, name in zip(ranked, (BEST, WORST), strict=True):
        items = [_item(images[image.index], detected[image.index], settings) for image in chosen]
        if items:
            drawing.detection_sheet(items, names, paths.join(eval_dir, name), min_score=score)


def _item(image: HeldOut, found: Annotated, settings: EvalSettings) -> dict[str, Any]:
    boxes = settings.drawn_boxes  # detections come best first
    return {
        "image": image.image,
        "filename": image.filename,
        "boxes": found.boxes[:boxes],
        "classes": found.classes[:boxes],
        "scores": found.scores[:boxes] if found.scores is not None else None,
        "truth_boxes": image.truth.boxes,
        "truth_classes": image.truth.classes,
    }


def _plain(item: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    """An item without its pixels, as JSON takes it."""
    return {
        "filename": item["filename"],
        "boxes": [[round(side, 2) for side in box] for box in item["boxes"].tolist()],
        "classes": [names.get(number, str(number)) for number in item["classes"].tolist()],
        "scores": [round(score, 4) for score in item["scores"].tolist()],
        "truth_boxes": [[round(side, 2) for side in box] for box in item["truth_boxes"].tolist()],
        "truth_classes": [names.get(number, str(number)) for number in item["truth_classes"].tolist()],
    }


def _history(text: str | None, step: int, metrics: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """Earlier evaluations and this one, by step. What was there and cannot be read is not worth failing for."""
    try:
        earlier = json.loads(text or "{}").get("history", [])
        by_step = {entry["step"]: entry["metrics"] for entry in earlier}
    except (ValueError, AttributeError, KeyError, TypeError):
        by_step = {}
    by_step[step] = dict(metrics)
    return [{"step": at, "metrics": by_step[at]} for at in sorted(by_step)]


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    server.leave(main())
