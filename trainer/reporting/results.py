"""What a run has left to report on: evaluation's metrics.json, TensorBoard's scalars, facts of the job."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer import paths
from trainer.errors import InputError
from trainer.reporting import events
from trainer.reporting.events import Series

METRICS = "metrics.json"
SHEET = "detections.png"
ANALYSIS = "analysis.json"
BEST, WORST = "best.png", "worst.png"

# COCO's words (https://cocodataset.org/#detection-eval), in its order. Areas are in pixels of the image.
MEANINGS = {
    "AP": "average precision, mean of IoU 0.50 to 0.95",
    "AP50": "at IoU 0.50",
    "AP75": "at IoU 0.75",
    "APs": "small objects: below 32² pixels",
    "APm": "medium objects: 32² to 96² pixels",
    "APl": "large objects: above 96² pixels",
    "AR1": "average recall with 1 detection per image",
    "AR10": "with 10 detections per image",
    "AR100": "with 100 detections per image",
    "ARs": "small objects",
    "ARm": "medium objects",
    "ARl": "large objects",
    # The two conventions of PASCAL VOC's development kit.
    "VOC10": "PASCAL VOC 2010 and later: mean AP at IoU 0.50, area below the curve",
    "VOC07": "PASCAL VOC 2007: mean AP at IoU 0.50, eleven points of the curve",
}


@dataclass(frozen=True)
class Results:
    """A run's results. Metrics are from 0 to 1, None where the data holds no such object (COCO's -1)."""

    run: str
    step: int
    images: int | None
    metrics: dict[str, float | None]
    per_class: dict[str, float | None]
    history: dict[str, Series]  # AP and AP50 against the step
    loss: Series
    learning_rate: Series
    steps_per_second: Series
    sheet: bytes | None  # PNG
    facts: dict[str, Any] | None
    seconds: float | None = None  # that the evaluation took, its start included
    per_class_voc: Mapping[str, dict[str, float | None]] = field(default_factory=dict)  # by convention, then by class
    analysis: Mapping[str, Any] = field(default_factory=dict)  # trainer.evaluation.analysis.analyse
    best: bytes | None = None  # PNG
    worst: bytes | None = None


def load(train_dir: str, eval_dir: str, run: str | None = None, facts: str | None = None) -> Results:
    """Reads it all from local folders (or from gs:// where the bucket is mounted).

    Raises InputError when nothing was evaluated, or a file is not what it should be.
    """
    train_folder, eval_folder = _folder(train_dir), _folder(eval_dir)
    name = run or Path(train_folder).name
    path = Path(eval_folder, METRICS)
    content = _json(path)
    if content is None:
        command = f"odcloud eval --run {run}" if run else "odcloud eval"
        raise InputError(f"{path}: run {name} has not been evaluated yet; `{command}` does that")
    training = events.scalars(train_folder)
    metrics = _numbers(path, content, "metrics")
    if not metrics:
        raise InputError(f"{path}: metrics is missing or empty; evaluate the run again with `odcloud eval`")
    step = content.get("step")
    if not isinstance(step, int) or isinstance(step, bool):
        raise InputError(f"{path}: step must be a whole number; evaluate the run again with `odcloud eval`")
    images = content.get("images")
    return Results(
        run=name,
        step=step,
        images=images if isinstance(images, int) else None,
        metrics=_ordered(metrics),
        per_class=_numbers(path, content, "per_class"),
        history=_history(path, content, metrics, step, eval_folder),
        loss=events.find(training, "loss", "total_loss", "training_loss"),
        learning_rate=events.find(training, "learning_rate"),
        steps_per_second=events.find(training, "steps_per_second", "steps_per_sec", "global_step/sec"),
        sheet=_sheet(Path(eval_folder, SHEET)),
        facts=_facts(facts) if facts else None,
        seconds=_seconds(content.get("seconds")),
        per_class_voc=_per_class_voc(path, content),
        analysis=_analysis(Path(eval_folder, ANALYSIS)),
        best=_sheet(Path(eval_folder, BEST)),
        worst=_sheet(Path(eval_folder, WORST)),
    )


def _seconds(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value < 1e9
    return float(value) if known else None


def _per_class_voc(path: Path, content: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    found = content.get("per_class_voc") or {}
    if not isinstance(found, dict):
        raise InputError(f"{path}: per_class_voc must be an object; evaluate the run again with `odcloud eval`")
    return {convention: _numbers(path, found, convention) for convention in found}


def _analysis(path: Path) -> dict[str, Any]:
    """The file's content, checked as far as pictures are made of it; empty where there is none."""
    content = _json(path) or {}
    curves, confusion = content.get("precision_recall", {}), content.get("confusion", {"names": [], "matrix": []})
    try:
        size = len(confusion["names"])
        fine = (
            isinstance(curves, dict)
            and all(len(curve) == 2 and len(curve[0]) == len(curve[1]) for curve in curves.values())
            and all(0 <= value <= 1 for curve in curves.values() for side in curve for value in side)
            and all(isinstance(name, str) for name in confusion["names"])
            and len(confusion["matrix"]) == size
            and all(len(row) == size and all(0 <= count < 1e9 for count in row) for row in confusion["matrix"])
        )
    except (TypeError, KeyError, ValueError):
        fine = False
    if not fine:
        raise InputError(f"{path}: is not what an evaluation writes; evaluate the run again with `odcloud eval`")
    return {"precision_recall": curves, "confusion": confusion, "min_score": content.get("min_score")}


def _folder(path: str) -> str:
    resolved = paths.resolve(path)
    if paths.is_remote(resolved):
        raise InputError(f"{path}: must be a local folder; `odcloud report` downloads what is needed")
    return resolved


def _json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); write or copy it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold a JSON object; write or copy it again")
    return content


def _facts(path: str) -> dict[str, Any]:
    facts = _json(Path(path))
    if facts is None:
        raise InputError(f"{path}: there is no such file; --facts names a JSON file with what is known of the job")
    replicas = facts.get("replicas", [])
    if not isinstance(replicas, list) or not all(isinstance(replica, dict) for replica in replicas):
        raise InputError(f"{path}: replicas must be a list of objects")
    return facts


def _numbers(path: Path, content: Mapping[str, Any], key: str) -> dict[str, float | None]:
    values = content.get(key) or {}
    if not isinstance(values, dict):
        raise InputError(f"{path}: {key} must be an object of numbers; evaluate the run again with `odcloud eval`")
    return {name: _metric(path, f"{key}.{name}", value) for name, value in values.items()}


def _metric(path: Path, key: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{path}: {key} must be a number; evaluate the run again with `odcloud eval`")
    if isinstance(value, int):
        return float(value) if 0 <= value <= 1 else None
    return value if math.isfinite(value) and value >= 0 else None


def _ordered(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    known = {name: metrics[name] for name in MEANINGS if name in metrics}
    return known | {name: value for name, value in metrics.items() if name not in known}


def _history(
    path: Path, content: Mapping[str, Any], metrics: Mapping[str, float | None], step: int, folder: str
) -> dict[str, Series]:
    """From metrics.json, else from the events; the evaluation reported is always among it."""
    entries = content.get("history") or []
    if not isinstance(entries, list) or not all(isinstance(e, dict) and isinstance(e.get("step"), int) for e in entries):
        raise InputError(f"{path}: history must be a list of objects with step and metrics; evaluate the run again")
    written = {} if entries else events.scalars(folder)
    history: dict[str, Series] = {}
    for name in ("AP", "AP50"):
        points: dict[int, float | None] = dict(events.find(written, name))
        points |= {entry["step"]: _numbers(path, entry, "metrics").get(name) for entry in entries}
        points[step] = metrics.get(name)
        history[name] = sorted((at, value) for at, value in points.items() if value is not None)
    return {name: series for name, series in history.items() if series}


def _sheet(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        raise InputError(f"{path}: is not a PNG image; evaluate the run again with `odcloud eval`")
    return content
