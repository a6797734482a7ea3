"""`python -m trainer.config FILE`: what a pipeline.config asks for, as JSON; for programs that look before they launch."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from trainer.config import experiment
from trainer.config.inputs import Reader
from trainer.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m trainer.config", description=__doc__)
    parser.add_argument("path", metavar="FILE", help="pipeline.config, local or gs://")
    try:
        print(json.dumps(summary(experiment.read(parser.parse_args(arguments).path))))
    except InputError as error:
        print(f"odcloud: error: {error}", file=sys.stderr)
        return 2
    return 0


def summary(found: experiment.Experiment) -> dict[str, Any]:
    """{classes, steps, batchSize, imageSize [height, width], train and eval {patterns, labelMap}, shuffleBuffer}."""
    data = found.task["train_data"]
    return {
        "classes": found.classes,
        "steps": found.steps,
        "batchSize": data["global_batch_size"],
        "imageSize": list(found.task["model"]["input_size"][:2]),
        "shuffleBuffer": data["shuffle_buffer_size"],
        "train": _reader(found.train),
        "eval": _reader(found.evaluation),
    }


def _reader(reader: Reader) -> dict[str, Any]:
    return {"patterns": list(reader.patterns), "labelMap": reader.label_map}


if __name__ == "__main__":
    sys.exit(main())
