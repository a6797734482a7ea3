"""Scores the last checkpoint on held-out images, or with --continuous each new one.

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
from typing import TYPE_CHECKING, Any, NamedTuple

from trainer import arguments, files, paths, runtime
from trainer.errors import InputError
from trainer.progress import duration, log
from trainer.train import check_inputs, read_names
from trainer.training import gpus, server

if TYPE_CHECKING:
    from trainer.config.inputs import EvalSettings
    from trainer.evaluation.coco import Annotated, Scores
    from trainer.evaluation.detection import Detector, HeldOut

METRICS, DETECTIONS, SHEET = "metrics.json", "detections.json", "detections.png"
ANALYSIS, BEST, WORST = "analysis.json", "best.png", "worst.png"
_IMAGES = 8  # in TensorBoard, of each evaluation
_EXTREMES = 4  # images on each of those sheets
_PROGRESS_SECONDS = 5.0


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The old page's flags, and how to go on. Raises InputError on anything else."""
    parser = arguments.job_parser("trainer.evaluate", "Evaluate a detector: the last checkpoint, or each new one.")
    parser.add_argument("--checkpoint_dir", required=True, help="where training keeps its checkpoints (a folder or gs:// URI)")
    parser.add_argument("--eval_dir", required=True, help="where the results go (a folder or gs:// URI)")
    parser.add_argument("--continuous", action="store_true", help="evaluate each new checkpoint until training has ended")
    parser.add_argument(
        "--early_stopping",
        type=arguments.positive,
        metavar="N",
        help="with --continuous: end training when N evaluations in a row have not raised the best AP",
    )
    parser.add_argument(
        "--idle_minutes",
        type=arguments.positive,
        default=60,
        metavar="M",
        help="with --continuous: end after so long without a new checkpoint (default 60)",
    )
    options = parser.parse_args(argv)
    if options.early_stopping and not options.continuous:
        parser.error("--early_stopping needs --continuous")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates; the exit code."""
    return arguments.run(lambda: _main(parse_arguments(sys.argv[1:] if argv is None else argv)))


def _main(options: argparse.Namespace) -> int:
    runtime.prepare()
    checkpoint_dir = paths.resolve(options.checkpoint_dir)
    evaluation = Evaluation(options.pipeline_config_path, paths.resolve(options.eval_dir))
    if options.continuous:
        from trainer.evaluation import follow

        follow.follow(evaluation, checkpoint_dir, options.idle_minutes * 60, options.early_stopping)
    else:
        evaluation.last(checkpoint_dir)
    return 0


class HeldOutSet(NamedTuple):
    """What one eval_input_reader holds. where: the folder of its results; label: before its metrics in the log."""

    where: str
    label: str
    names: Mapping[int, str]
    files: Sequence[str]
    images: Sequence[HeldOut]


class Evaluation:
    """Scores checkpoints on the same held-out images, and writes what `trainer.report` reads."""

    def __init__(self, config_path: str, eval_dir: str) -> None:
        """Raises InputError when configuration or data are not good."""
        self._began = time.monotonic()
        self.eval_dir = eval_dir
        inputs = check_inputs(config_path, training=False)
        self.experiment = inputs.experiment
        readers = {"": (inputs.experiment.evaluation, inputs.eval_files)}
        readers |= {reader.name: (reader, inputs.further[reader.name]) for reader in inputs.experiment.further}
        log("loading TensorFlow")
        from trainer import garden
        from trainer.evaluation import detection

        runtime.quiet_logging()
        gpus.warn_if_unseen()
        self._sets = [
            HeldOutSet(
                paths.join(eval_dir, name) if name else eval_dir,
                f"{name}: " if name else "",
                read_names(reader, self.experiment),
                found,
                list(detection.read_images(found, self.experiment.eval.examples)),
            )
            for name, (reader, found) in readers.items()
        ]
        self._build = lambda: detection.Detector(
            garden.build_task(self.experiment, inputs.train_files, inputs.eval_files), self.experiment
        )
        self._detector: Detector | None = None

    def last(self, checkpoint_dir: str) -> None:
        """Scores the folder's last checkpoint. Raises InputError, also when there is none."""
        from trainer.training import loop

        checkpoint = loop.last_checkpoint(checkpoint_dir)
        if checkpoint is None:
            raise InputError(f"{checkpoint_dir}: no checkpoint there to evaluate; check --checkpoint_dir, or train first")
        self.score(checkpoint)

    def score(self, checkpoint: str) -> Mapping[str, float | None]:
        """The metrics of one checkpoint, a prefix such as DIR/ckpt-600, on the first reader's images. Raises InputError."""
        from trainer.training import loop

        step = loop.step_of(checkpoint)
        log(f"evaluating the checkpoint of step {step}", step=step)
        if self._detector is None:
            self._detector = self._build()
        self._detector.load(checkpoint)
        first, *_ = [self._score(each, step, self._detector) for each in self._sets]
        return first

    def _score(self, held_out: HeldOutSet, step: int, detector: Detector) -> Mapping[str, float | None]:
        from trainer.evaluation import coco, pascal

        images, names, settings = held_out.images, held_out.names, self.experiment.eval
        detected = _with_progress(detector.detect(held_out.files, settings.examples), len(images))
        truth = [image.truth for image in images]
        scores = coco.evaluate(truth, detected, names)
        voc = pascal.evaluate(truth, detected, names) if settings.voc else None
        if voc:
            scores.metrics.update(voc.mean)
        seconds, self._began = time.monotonic() - self._began, time.monotonic()
        try:
            per_class = voc.per_class if voc else {}
            _write(held_out.where, step, scores, images, detected, names, settings, seconds, per_class)
        except OSError as error:
            raise InputError(
                f"{held_out.where}: cannot be written: {error.strerror or error}; check --eval_dir and the disk"
            ) from error
        shown = " · ".join(f"{name} {_shown(scores.metrics[name])}" for name in ("AP", "AP50", "AP75"))
        said = f"step {step}: {held_out.label}{shown} on {len(images)} images in {duration(seconds)}"
        log(said, step=step, metrics=scores.metrics)
        return scores.metrics


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
    items = [_item(image, found, settings) for image, found in zip(images[: settings.drawn], detected, strict=False)]
    writer = tf.summary.create_file_writer(eval_dir)
    with writer.as_default(step=step):
        for name, value in scores.metrics.items():
            if value is not None:
                tf.summary.scalar(f"evaluation/{name}", value)
        for name, value in scores.per_class.items():
            if value is not None:
                tf.summary.scalar(f"AP of class/{name}", value)
        for item in items[:_IMAGES]:
            drawn = drawing.render([item], names, settings.drawn_score)
            tf.summary.image(f"detections/{item['filename']}", tf.io.decode_png(drawn, channels=3)[None])
    writer.close()
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
    from trainer import drawing
    from trainer.evaluation import analysis

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
        "truth_crowd": image.truth.crowd,
        "truth_difficult": image.truth.difficult,
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
