"""Command line of the data sets, shown to users as `odcloud data`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from trainer import arguments
from trainer.errors import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; the exit code."""
    return arguments.run(lambda: _main(_parser().parse_args(argv)))


def _main(options: argparse.Namespace) -> int:
    return int(options.run(options))


def _parser() -> arguments.Parser:
    parser = arguments.Parser("odcloud data", "Makes and checks data sets for training.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    formats = arguments.Parser(add_help=False)
    arguments.add_format(formats)

    digits = commands.add_parser(
        "digits",
        parents=[formats],
        help="make the digits data set",
        description="Pastes scikit-learn's scans of handwritten digits into images and writes them as TFRecord shards with a "
        "label map. Training and test images share no scan. The same options give the same bytes.",
    )
    digits.add_argument("destination", metavar="DEST", help="folder to write to; made if absent")
    digits.add_argument("--seed", type=int, default=0, help="of the random choices (default: 0)")
    digits.add_argument("--train-images", type=int, default=800, metavar="N", help="default: 800")
    digits.add_argument("--test-images", type=int, default=200, metavar="N", help="default: 200")
    digits.add_argument(
        "--shards", type=int, default=4, metavar="N", help="training files; half as many test files (default: 4)"
    )
    digits.set_defaults(run=_digits)

    _add_convert(commands)
    check = commands.add_parser(
        "check",
        parents=[formats],
        help="check TFRecord files before training",
        description="Reads every record as training would: framing, checksums, keys, boxes, class ids.",
    )
    check.add_argument("paths", nargs="+", metavar="PATH", help="TFRecord file or pattern, local or gs://")
    check.add_argument("--label-map", required=True, metavar="FILE", help="label map that the class ids must be in")
    check.add_argument("--limit", type=int, metavar="N", help="read at most N records of each file (default: all)")
    check.set_defaults(run=_check)
    _add_inspect(commands, formats)
    _add_fetch(commands, formats)
    return parser


def _add_convert(commands: Any) -> None:
    convert = commands.add_parser(
        "convert",
        help="convert Oxford-IIIT Pet, PASCAL VOC or COCO",
        description="Writes a published data set as sharded TFRecords with the Object Detection API's keys, a label map, and "
        "dataset.json with statistics and every item that was skipped, and why. The same source, seed and options give the "
        "same bytes. Run again after an interruption, it goes on.",
    )
    convert.add_argument(
        "source", metavar="SRC", help="folder as unpacked: of Pets images/ and annotations/, VOCdevkit, of COCO annotations/"
    )
    convert.add_argument("destination", metavar="DEST", help="folder to write to; made if absent")
    convert.add_argument("--format", required=True, choices=("pets", "voc", "coco"), dest="form", help="how SRC is laid out")
    convert.add_argument("--sets", metavar="A,B", help="which sets; default: those that are there for training and for testing")
    convert.add_argument(
        "--boxes", choices=("faces", "bodies"), help="Pets: around faces (default) or, from the trimaps, bodies"
    )
    convert.add_argument("--year", choices=("2007", "2012"), help="VOC: one year only (default: all that are there)")
    convert.add_argument("--label-map", metavar="FILE", help="class ids to use (default: the data set's own)")
    convert.add_argument("--skip-difficult", action="store_true", help="leave out objects marked as difficult")
    convert.add_argument("--shards", type=int, metavar="N", help="files per set (default: one per 1000 images, at least 8)")
    convert.add_argument("--seed", type=int, default=0, help="of the order, and of what is drawn for validation (default: 0)")
    convert.add_argument("--processes", type=int, metavar="N", help="default: one per CPU")
    convert.add_argument("--max-pixels", type=int, metavar="N", help="skip larger images (default: 50 million pixels)")
    convert.add_argument("--strict", action="store_true", help="stop at the first bad item")
    convert.add_argument("--json", action="store_true", help="print dataset.json")
    convert.set_defaults(run=_convert)


def _add_fetch(commands: Any, formats: arguments.Parser) -> None:
    fetch = commands.add_parser(
        "fetch",
        parents=[formats],
        help="download Oxford-IIIT Pet or PASCAL VOC",
        description="Downloads a published data set (pets 0.8 GB, voc2007 0.9 GB, voc2012 2 GB), compares it with its "
        "published checksum and unpacks it. Run again after an interruption, it goes on where it was.",
    )
    fetch.add_argument("dataset", choices=("pets", "voc2007", "voc2012"), metavar="DATASET", help="pets, voc2007 or voc2012")
    fetch.add_argument("destination", metavar="DEST", help="folder to unpack to; made if absent")
    fetch.add_argument("--from", dest="mirror", metavar="URL", help="address that has the archives, instead of the authors'")
    fetch.set_defaults(run=_fetch)


def _fetch(options: argparse.Namespace) -> int:
    from trainer.data import fetch

    if options.mirror and not options.mirror.startswith(("http://", "https://")):
        raise InputError(f"--from {options.mirror}: must begin with http:// or https://")
    found = fetch.fetch(options.dataset, options.destination, options.mirror, _byte_progress())
    _clear_line()
    if options.format == "json":
        print(json.dumps(found))
        return 0
    print(f"Data set {options.destination} {'is up to date' if found['up_to_date'] else 'is ready'}: {found['files']} files.")
    print(f"  odcloud data convert --format {found['format']} {found['source']} {options.dataset}-records")
    return 0


def _byte_progress() -> Any:
    """The same for a download; elsewhere than on a terminal a line every ten seconds."""
    live, start, shown, before = sys.stderr.isatty(), time.monotonic(), 0.0, None

    def show(name: str, there: int, total: int) -> None:
        nonlocal start, shown, before
        now = time.monotonic()
        if before is None or before[0] != name:
            before, start = (name, there), now
        if now - shown > (0.1 if live else 10):
            shown = now
            rate = (there - before[1]) / max(now - start, 0.1)
            of = f" of {total / 1e6:.0f}" if total else ""
            text = f"{name}: {there / 1e6:.0f}{of} MB · {rate / 1e6:.1f} MB/s"
            print(f"\r\033[K{text}" if live else text, end="" if live else "\n", file=sys.stderr, flush=True)

    return show


def _add_inspect(commands: Any, formats: arguments.Parser) -> None:
    inspect = commands.add_parser(
        "inspect",
        parents=[formats],
        help="show what a data set holds, and whether it fits a pipeline configuration",
        description="Reads all records: counts, boxes of each class and size, images that two splits share, and some images "
        "drawn with their boxes. With --pipeline-config it says what would fail or train badly, and ends with exit code 1 if "
        "something would fail.",
    )
    inspect.add_argument("paths", nargs="+", metavar="PATH", help="folder, file or pattern of TFRecords, local or gs://")
    inspect.add_argument("--label-map", metavar="FILE", help="default: the only *.pbtxt beside the records")
    inspect.add_argument("--pipeline-config", metavar="FILE", help="configuration that the data is meant for")
    inspect.add_argument("--output", metavar="FILE", default="samples.png", help="the drawn images (default: samples.png)")
    inspect.add_argument("--samples", type=int, default=12, metavar="N", help="how many to draw; 0: none (default: 12)")
    inspect.add_argument("--seed", type=int, default=0, help="of the choice of samples (default: 0)")
    inspect.set_defaults(run=_inspect)


def _inspect(options: argparse.Namespace) -> int:
    from trainer.data import fitness, inspection, show

    if not 0 <= options.samples <= 100:
        raise InputError(f"--samples {options.samples}: must be from 0 to 100")
    config = fitness.read(options.pipeline_config, options.paths[0].rstrip("/")) if options.pipeline_config else None
    progress = _progress("Reading")
    found = inspection.inspect(options.paths, options.label_map, options.samples, options.seed, lambda done: progress(done, 0))
    findings = fitness.check(found, config) if config else []
    sheet = show.draw(found, options.output) if found.samples else None
    if options.format == "json":
        checks = [finding._asdict() for finding in findings]
        print(json.dumps({"paths": options.paths, **inspection.summary(found), "checks": checks, "samples": sheet}))
    else:
        _clear_line()
        print(show.text(found, findings))
        if sheet:
            print(f"\n{sheet}: {len(found.samples)} images, drawn")
    return 1 if any(finding.state == "error" for finding in findings) else 0


def _convert(options: argparse.Namespace) -> int:
    from trainer.data import convert, folder, label_map

    values = {key: value for key, value in vars(options).items() if key not in ("run", "json") and value is not None}
    if options.sets is not None:
        values["sets"] = tuple(options.sets.split(","))
    summary = convert.convert(convert.Options(**values), _progress("Converting"))
    if options.json:
        print(json.dumps({"destination": options.destination, **summary}))
        return 0
    print(f"Data set {options.destination} {'is up to date' if summary['up_to_date'] else 'is ready'}.")
    for split, facts in summary["splits"].items():
        files = sum(name.startswith(f"{split}-") for name in summary["files"])
        sizes = ", ".join(f"{count} {size}" for size, count in facts["box_sizes"].items())
        print(f"  {split:9} {facts['images']} images, {facts['boxes']} boxes ({sizes}), in {files} files")
    for kind, count in summary["bad_by_kind"].items():
        first = next(entry for entry in summary["bad"] if entry["kind"] == kind)
        print(f"  skipped   {count} × {kind}, such as {first['item']}: {first['reason']}")
    if summary["bad"]:
        print(f"Every skipped item is named in {options.destination}/dataset.json.")
    print("The pipeline configuration names them so, PATH_TO_BE_CONFIGURED being this folder or where it is uploaded:")
    print(f"  num_classes: {max(label_map.read(f'{options.destination}/{folder.LABEL_MAP}'))}")
    print(f'  label_map_path: "PATH_TO_BE_CONFIGURED/{folder.LABEL_MAP}"')
    for split in summary["splits"]:
        print(f'  input_path: "PATH_TO_BE_CONFIGURED/{split}-?????-of-?????.tfrecord"')
    return 0


def _digits(options: argparse.Namespace) -> int:
    from trainer.data import digits

    parameters = digits.Parameters(options.seed, options.train_images, options.test_images, options.shards)
    summary = digits.make(options.destination, parameters, _progress("Drawing"))
    if options.format == "json":
        print(json.dumps({"destination": options.destination, **summary}))
        return 0
    state = "is up to date" if summary["up_to_date"] else "is ready"
    print(f"Data set {options.destination} {state}.")
    for split, facts in summary["splits"].items():
        files = sum(name.startswith(f"{split}-") for name in summary["files"])
        print(f"  {split:5}  {facts['images']} images, {facts['boxes']} digits, from {facts['scans']} scans, in {files} files")
    return 0


def _progress(doing: str) -> Any:
    """A line on the terminal that counts; nothing where standard error is a file."""
    start, shown = time.monotonic(), 0.0

    def show(done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if done == total:
            _clear_line()
        elif now - shown > 0.1:
            shown = now
            rate = done / max(now - start, 0.1)
            of = f"/{total}" if total else ""
            print(f"\r\033[K{doing} images {done}{of} · {rate:.0f}/s", end="", file=sys.stderr, flush=True)

    return show if sys.stderr.isatty() else lambda done, total: None


def _clear_line() -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _check(options: argparse.Namespace) -> int:
    from trainer import paths
    from trainer.data import label_map, records

    if options.limit is not None and options.limit < 1:
        raise InputError(f"--limit {options.limit}: must be at least 1")
    names = label_map.read(paths.resolve(options.label_map))
    found = records.check(options.paths, names, options.limit)
    boxes = {name: found.boxes[number] for number, name in names.items()}
    if options.format == "json":
        print(json.dumps({"files": found.files, "records": found.records, "boxes": boxes}))
        return 0
    print(f"{len(found.files)} files, {found.records} records, {sum(boxes.values())} boxes: all right.")
    for name, count in boxes.items():
        print(f"  {count:8}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
