"""`odcloud config check|explain|convert FILE`: what becomes of a pipeline.config, field by field, before it is trained."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from trainer import arguments
from trainer.config import experiment, garden_yaml, reader
from trainer.config.inputs import Reader
from trainer.config.section import APPROXIMATED, REFUSED, Note
from trainer.errors import InputError

_NAMES = {"retinanet": "RetinaNet", "faster_rcnn": "Faster R-CNN"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; the exit code: 0, or 2 for a configuration that cannot be trained."""
    return arguments.run(lambda: _main(sys.argv[1:] if argv is None else argv))


def _main(argv: Sequence[str]) -> int:
    parser = arguments.Parser("odcloud config", "Look at a pipeline.config, or a Model Garden YAML.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command, text in (
        ("check", _check, "say whether it can be trained, and what is done otherwise than it says"),
        ("explain", _explain, "say of each field what becomes of it"),
        ("convert", _convert, "write it in Model Garden's form (YAML)"),
    ):
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        sub.add_argument("path", metavar="FILE", help="local or gs://")
        if command is _convert:
            sub.add_argument("--output", metavar="FILE", help="where to write; by default stdout")
        else:
            arguments.add_format(sub)
        sub.set_defaults(command=command)
    if not argv:
        parser.print_help(sys.stderr)
        return arguments.USAGE_EXIT_CODE
    options = parser.parse_args(argv)
    return int(options.command(options))


def _check(options: argparse.Namespace) -> int:
    found = _read(options.path)
    if options.format == "json":
        print(json.dumps(summary(found)))
        return 0
    height, width = found.task["model"]["input_size"][:2]
    print(
        f"{found.path} can be trained: {_NAMES[found.kind]}, {_count(found.classes, 'class', 'classes')}, images of "
        f"{width} × {height}, {found.steps} steps of batch {found.task['train_data']['global_batch_size']}"
    )
    if reader.PLACEHOLDER in found.text:
        print(f"{reader.PLACEHOLDER} stands for the data's folder: `pulumi up` puts its address there, else write it yourself")
    if garden_yaml.is_yaml(found.path):
        print(
            f"Of its trainer section {', '.join(garden_yaml.TAKEN)} are taken; the rest, and runtime, are the trainer's flags"
        )
    if found.approximations:
        print(f"{_count(len(found.approximations), 'field is', 'fields are')} approximated:")
    for note in found.approximations:
        print(f"  line {note.line}: {note.sentence()}")
    return 0


def _read(path: str) -> experiment.Experiment:
    found = experiment.read(path, template=True)
    if garden_yaml.is_yaml(path):  # Model Garden itself knows its fields
        _load_garden().task_config(found)
        _load_garden().optimizer_config(found)
    return found


def _explain(options: argparse.Namespace) -> int:
    if garden_yaml.is_yaml(options.path):
        raise InputError(
            f"{options.path}: is in Model Garden's form already, which is taken as it is; see odcloud config check"
        )
    pipeline = reader.parse(reader.read_text(options.path), options.path, template=True)
    problem = None
    try:
        experiment.build(pipeline)
    except InputError as error:
        problem = error
    refused = [Note(line, "", "", REFUSED, text) for line, text in dict.fromkeys(pipeline.problems.found)]
    notes = sorted([*pipeline.root.notes(), *pipeline.problems.approximations, *refused], key=lambda note: note.line)
    if options.format == "json":
        print(json.dumps([note._asdict() for note in notes]))
    else:
        for note in notes:
            said = f"  → {note.text}" if note.verdict == APPROXIMATED else ""
            field = note.text if note.verdict == REFUSED else f"{note.name}: {note.value}"
            print(f"{note.line:>5}  {note.verdict:<12}  {field}{said}")
        counts = Counter(note.verdict for note in notes)
        print(", ".join(f"{number} {verdict}" for verdict, number in counts.most_common()))
    return arguments.USAGE_EXIT_CODE if problem else 0


def _convert(options: argparse.Namespace) -> int:
    import yaml

    found = experiment.read(options.path, template=True)
    written = _load_garden().experiment_config(found)
    name = "retinanet" if found.kind == "retinanet" else "fasterrcnn_resnetfpn_coco"
    lines = [
        f"# Made of {found.path.rpartition('/')[2]} by odcloud config convert; for odcloud, and for Model Garden's own",
        f"#   python -m official.vision.train --experiment={name} --mode=train --model_dir=DIR --config_file=THIS_FILE",
        *(f"# approximated: {note.sentence()}" for note in found.approximations),
    ]
    body = yaml.safe_dump(written, sort_keys=False, allow_unicode=True)
    lines += [f"# not in Model Garden's form: {text}" for text in _left_out(found, experiment.parse(body, "converted.yaml"))]
    text = "\n".join(lines) + "\n" + body
    if not options.output:
        print(text, end="")
        return 0
    from trainer import files, paths

    try:
        files.write(paths.resolve(options.output), text)
    except OSError as error:
        raise InputError(f"{options.output}: cannot be written: {error.strerror or error}") from error
    print(f"{options.output} is written", file=sys.stderr)
    return 0


def _left_out(found: experiment.Experiment, again: experiment.Experiment) -> list[str]:
    """What the configuration asks for that Model Garden's form has no words for. again: that form, read."""
    left = []
    for given, taken in ((found.train, again.train), (found.evaluation, again.evaluation)):
        if given.label_map != taken.label_map:
            left.append(f"the label map {given.label_map}; in its place odcloud takes {taken.label_map}")
    if found.eval.examples != again.eval.examples:
        left.append(f"the evaluation of {found.eval.examples} images; in its place {again.eval.examples}, whole batches")
    if found.eval.voc:
        left.append("PASCAL VOC's metrics")
    if _drawing(found) != _drawing(again):
        left.append(f"the drawing of {_drawing(found)}; in its place {_drawing(again)}")
    if found.keep_every_hours != again.keep_every_hours:
        left.append(f"a checkpoint that is kept every {found.keep_every_hours:g} hours")
    if found.frozen:
        left.append(f"train_config.freeze_variables {', '.join(found.frozen)}")
    if found.schedule:
        left.append(f"the learning rate {found.schedule}; in its place stands the nearest")
    if found.further:
        left.append(
            f"the evaluation of {', '.join(reader.name for reader in found.further)} beside the first eval_input_reader"
        )
    if found.colours:
        left.append(f"changes of the images' {', '.join(dict.fromkeys(colour.kind for colour in found.colours))}")
    return list(dict.fromkeys(left))


def _drawing(found: experiment.Experiment) -> str:
    settings = found.eval
    return f"{settings.drawn} images, each with {settings.drawn_boxes} boxes of a score of {settings.drawn_score:g} or more"


def _load_garden() -> Any:
    """TensorFlow takes seconds to load: only what needs Model Garden waits for it."""
    from trainer import runtime

    runtime.prepare()
    from trainer import garden

    runtime.quiet_logging()
    return garden


def summary(found: experiment.Experiment) -> dict[str, Any]:
    """The experiment in short.

    {classes, steps, batchSize, imageSize [height, width], train and eval {patterns, labelMap}, shuffleBuffer,
    start (the checkpoint that training begins from, or None), approximated [{line, name, value, text}]}
    """
    data = found.task["train_data"]
    return {
        "model": found.kind,
        "classes": found.classes,
        "steps": found.steps,
        "batchSize": data["global_batch_size"],
        "imageSize": list(found.task["model"]["input_size"][:2]),
        "shuffleBuffer": data.get("shuffle_buffer_size"),
        "train": _reader(found.train),
        "eval": _reader(found.evaluation),
        "start": found.start.path if found.start else None,
        "approximated": [
            {"line": note.line, "name": note.name, "value": note.value, "text": note.text} for note in found.approximations
        ],
    }


def _reader(reader: Reader) -> dict[str, Any]:
    return {"patterns": list(reader.patterns), "labelMap": reader.label_map}


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


if __name__ == "__main__":
    sys.exit(main())
