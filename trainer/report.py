"""The report of a run: a table on the terminal, curves.png, detections.png and one HTML page (`odcloud report`)."""

from __future__ import annotations

import argparse
import base64
import errno
import json
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from trainer import arguments
from trainer.errors import InputError
from trainer.progress import duration
from trainer.reporting import curves, plots, results
from trainer.reporting.results import MEANINGS, Results

PAGE = "report.html"
CURVES = "curves.png"
_PICTURES = {
    "precisionRecall": "precision_recall.png",
    "confusion": "confusion.png",
    "detections": results.SHEET,
    "best": results.BEST,
    "worst": results.WORST,
}
_TEMPLATE = "report.html.j2"
_MISTAKES = 10  # that the page lists
_BAR = 24  # characters
_FACT_NAMES = {"run": "Run", "kind": "Kind", "job": "Job", "state": "State", "error": "Error"}
_TIMES = {"createTime": "Created", "startTime": "Started", "endTime": "Ended"}


def main(argv: Sequence[str] | None = None) -> int:
    """Writes and prints the report; the exit code."""
    return arguments.run(lambda: _main(_parser().parse_args(argv)))


def _main(options: argparse.Namespace) -> int:
    found = results.load(options.train_dir, options.eval_dir, options.run, options.facts)
    files = write(found, options.output)
    if options.format == "json":
        print(json.dumps(summary(found, files)))
    else:
        # A terminal that can't show a character gets a substitute, not a traceback.
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")
        print(table(found))
        print("\n".join(["", *files.values()]))
    return 0


def _parser() -> arguments.Parser:
    parser = arguments.Parser("odcloud report", "Makes the report of a run from what training and evaluation left.")
    parser.add_argument("--train_dir", required=True, metavar="DIR", help="folder with training's TensorBoard events")
    parser.add_argument("--eval_dir", required=True, metavar="DIR", help="folder with metrics.json, detections.png, events")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to write to; made if absent")
    parser.add_argument("--run", metavar="NAME", help="shown as title (default: the name of --train_dir)")
    parser.add_argument("--facts", metavar="FILE", help="JSON with what is known of the job: state, times, replicas")
    arguments.add_format(parser)
    return parser


def write(found: Results, output: str) -> dict[str, str]:
    """Writes the files, each whole or not at all; returns their paths. Raises InputError when they can't be written."""
    folder = Path(output)
    light = curves.render(found)
    contents = {
        "report": (PAGE, page(found, light, curves.render(found, curves.DARK)).encode(errors="replace")),
        "curves": (CURVES, light),
    }
    pictures = {"precisionRecall": _precision_recall(found, curves.LIGHT), "confusion": _confusion(found, curves.LIGHT)}
    pictures |= {"detections": found.sheet, "best": found.best, "worst": found.worst}
    for key, picture in pictures.items():
        if picture:
            contents[key] = (_PICTURES[key], picture)
    files = {}
    for key, (name, content) in contents.items():
        path = folder / name
        partial = path.with_name(f".{name}.partial")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            partial.replace(path)
        except OSError as error:
            _discard(partial)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            todo = "free some disk space" if full else "name another folder with --output"
            raise InputError(f"{path}: cannot be written: {error.strerror or error}; {todo}") from error
        files[key] = str(path)
    return files


def _discard(path: Path) -> None:
    try:
        path.unlink()
    except OSError:
        return  # it was never made, or what hindered writing hinders this too: the first error is told


def summary(found: Results, files: Mapping[str, str]) -> dict[str, Any]:
    """The result for programs. A metric of which the data holds no object is null."""
    return {
        "run": found.run,
        "step": found.step,
        "images": found.images,
        "metrics": found.metrics,
        "per_class": found.per_class,
        **({"per_class_voc": dict(found.per_class_voc)} if found.per_class_voc else {}),
        "speed": {"stepsPerSecond": _median_speed(found), "evaluationSeconds": found.seconds},
        "cost": (found.facts or {}).get("cost"),
        "confusions": [
            {"there": there, "detected": taken, "count": count} for there, taken, count in _mistakes(found, sys.maxsize)
        ],
        "files": dict(files),
    }


def table(found: Results) -> str:
    """The COCO table and precision per class, for the terminal."""
    lines = [f"{found.run} · {' · '.join(_evaluated(found))}", ""]
    width = max(len(name) for name in found.metrics)
    lines += [
        f"  {name:{width}}  {_number(value):>6}  {MEANINGS.get(name, '')}".rstrip() for name, value in found.metrics.items()
    ]
    if found.per_class:
        width = max(len("class"), *(len(name) for name in found.per_class))
        lines += ["", f"  {'class':{width}}  {'AP':>6}" + "".join(f"  {convention:>6}" for convention in found.per_class_voc)]
        for name, value in found.per_class.items():
            more = "".join(f"  {_number(values.get(name)):>6}" for values in found.per_class_voc.values())
            lines.append(f"  {name:{width}}  {_number(value):>6}{more}  {'█' * round((value or 0) * _BAR)}".rstrip())
    if None in [*found.metrics.values(), *found.per_class.values()]:
        lines += ["", "  –: the held-out images have no such object"]
    return "\n".join(lines)


def page(found: Results, light: bytes, dark: bytes) -> str:
    """The HTML page, complete in itself. light, dark: the curves as PNG."""
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    template = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True).get_template(_TEMPLATE)
    return template.render(
        run=found.run,
        evaluated=_evaluated(found),
        headline=[(name, _number(found.metrics[name])) for name in ("AP", "AP50", "AP75", "AR100") if name in found.metrics],
        metrics=[(name, _number(value), MEANINGS.get(name, ""), _percent(value)) for name, value in found.metrics.items()],
        per_class=[
            (name, _number(value), _percent(value), [_number(values.get(name)) for values in found.per_class_voc.values()])
            for name, value in found.per_class.items()
        ],
        conventions=[*found.per_class_voc],
        pictures={
            key: [_data_uri(picture) for picture in (draw(found, curves.LIGHT), draw(found, curves.DARK)) if picture]
            for key, draw in (("precision_recall", _precision_recall), ("confusion", _confusion))
        },
        mistakes=_mistakes(found, _MISTAKES),
        min_score=found.analysis.get("min_score"),
        best=_data_uri(found.best) if found.best else None,
        worst=_data_uri(found.worst) if found.worst else None,
        speed=_speed(found),
        gaps=None in [*found.metrics.values(), *found.per_class.values()],
        curves_light=_data_uri(light),
        curves_dark=_data_uri(dark),
        curves_text=_curves_text(found),
        sheet=_data_uri(found.sheet) if found.sheet else None,
        job=_job(found.facts) if found.facts else [],
        replicas=[_replica(replica) for replica in found.facts.get("replicas", [])] if found.facts else [],
    )


def _precision_recall(found: Results, theme: curves.Theme) -> bytes | None:
    drawn = found.analysis.get("precision_recall")
    return plots.precision_recall(drawn, theme) if drawn else None


def _confusion(found: Results, theme: curves.Theme) -> bytes | None:
    counted = found.analysis.get("confusion", {"names": []})
    return plots.confusion(counted["names"], counted["matrix"], theme) if counted["names"] else None


def _mistakes(found: Results, most: int) -> list[tuple[str, str, int]]:
    counted = found.analysis.get("confusion", {"names": [], "matrix": []})
    return plots.confusions(counted["names"], counted["matrix"], most)


def _median_speed(found: Results) -> float | None:
    values = sorted(value for _, value in found.steps_per_second)
    return values[len(values) // 2] if values else None


def _speed(found: Results) -> list[tuple[str, str]]:
    """Rows on how fast it went and what it cost, as far as is known."""
    rows = []
    if speed := _median_speed(found):
        rows.append(("Training", f"{speed:.3g} steps per second (median)"))
    if found.seconds is not None:
        rate = f", {found.images / found.seconds:.3g} images per second" if found.images and found.seconds else ""
        rows.append(("Evaluation", f"{duration(found.seconds)} with its start{rate}"))
    if cost := (found.facts or {}).get("cost"):
        rows.append(("Cost of training", _text(cost)))
    return rows


def _evaluated(found: Results) -> list[str]:
    return [f"step {found.step:,}", *([f"{found.images:,} held-out images"] if found.images is not None else [])]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> float:
    return round(100 * min(value or 0.0, 1.0), 1)


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _curves_text(found: Results) -> str:
    """What the curves show, for who can't see them."""
    parts = []
    if found.loss:
        smoothed = curves.smooth(found.loss)
        first, last = smoothed[0], smoothed[-1]
        parts.append(f"Training loss goes from {first[1]:.3g} at step {first[0]} to {last[1]:.3g} at step {last[0]}, smoothed.")
    for name, series in found.history.items():
        parts.append(f"{name} at step " + ", ".join(f"{step}: {value:.3f}" for step, value in series[-5:]) + ".")
    if found.learning_rate:
        peak = max(found.learning_rate, key=lambda point: point[1])
        parts.append(f"The learning rate peaks at {peak[1]:.3g} at step {peak[0]}.")
    if speed := _median_speed(found):
        parts.append(f"Training made {speed:.2g} steps per second (median).")
    return " ".join(parts)


def _job(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known of the job, as rows to show. Unknown facts are left out: they are not for people."""
    rows = [(label, _text(facts[key])) for key, label in _FACT_NAMES.items() if facts.get(key)]
    rows += [(label, _time(facts[key])) for key, label in _TIMES.items() if facts.get(key)]
    took = _took(facts.get("startTime"), facts.get("endTime"))
    return [*rows, ("Took", took)] if took else rows


def _replica(replica: Mapping[str, Any]) -> dict[str, Any]:
    code = replica.get("exitCode")
    return {
        "name": _text(replica.get("name")),
        "task": _text(replica.get("task")),
        "state": _text(replica.get("state")),
        "code": "–" if code is None else _text(code),
        "failed": code not in (None, 0),
        "restarts": _text(replica.get("restarts", "")),
        "started": _time(replica.get("startTime")),
        "took": _took(replica.get("startTime"), replica.get("endTime")) or "–",
    }


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("message") or json.dumps(value))
    return "" if value is None else str(value).removeprefix("JOB_STATE_")


def _moment(value: Any) -> datetime | None:
    """A time of RFC 3339 with any number of decimals (Python 3.10 reads three or six)."""
    try:
        moment = datetime.fromisoformat(re.sub(r"\.\d+", "", str(value)).replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _time(value: Any) -> str:
    moment = _moment(value) if value else None
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC") if moment else _text(value)


def _took(start: Any, end: Any) -> str:
    first, last = (_moment(value) if value else None for value in (start, end))
    return duration((last - first).total_seconds()) if first and last else ""


if __name__ == "__main__":
    sys.exit(main())
