"""Exports the last checkpoint as a SavedModel with serving signatures and its label map: `odcloud export`.

`python -m trainer.export --checkpoint_dir=DIR --output=DIR [--pipeline_config_path=FILE] [--label_map=FILE]`
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer import arguments, files, paths, runtime
from trainer.data import label_map
from trainer.errors import InputError

CONFIGS = ("pipeline.config", "pipeline.yaml")
"""What training keeps beside its checkpoints, one of them."""
LABEL_MAP = "label_map.pbtxt"


def main(argv: Sequence[str] | None = None) -> int:
    """Exports; the exit code."""
    return arguments.run(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    parser = arguments.Parser("odcloud export", __doc__)
    parser.add_argument("--checkpoint_dir", required=True, metavar="DIR", help="where training keeps its checkpoints")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to make")
    parser.add_argument("--pipeline_config_path", metavar="FILE", help="default: the one in the checkpoints' folder")
    parser.add_argument("--label_map", metavar="FILE", help="default: the one that the configuration names")
    arguments.add_format(parser)
    options = parser.parse_args(argv)
    made = export(options.checkpoint_dir, options.output, options.pipeline_config_path, options.label_map)
    if options.format == "json":
        print(json.dumps(made))
        return 0
    print(f"{made['output']}: the model of step {made['step']}, {made['classes']} classes, images of any size")
    for kind, name in made["signatures"].items():
        print(f"  {name:17} {kind}")
    print(f"Try it: odcloud predict {made['output']} IMAGE")
    return 0


def export(checkpoint_dir: str, output: str, config_path: str | None = None, labels: str | None = None) -> dict[str, Any]:
    """Makes the folder `output`, whole or not at all; returns what it holds.

    Raises InputError: no checkpoint, configuration or label map; a checkpoint of another model; the folder is there already.
    """
    target = Path(output)
    if "://" in output:
        raise InputError(f"{output}: must be a local folder; `odcloud data push` uploads one")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{output}: is there already; name another folder, or remove it")
    runtime.prepare()
    from trainer.config import experiment

    folder = paths.resolve(checkpoint_dir)
    beside = [paths.join(folder, name) for name in CONFIGS]
    kept = next((path for path in beside if files.read(path) is not None), beside[0])
    wanted = experiment.read(config_path or kept)
    names = label_map.read(paths.resolve(labels or wanted.evaluation.label_map))
    from trainer import garden, serving
    from trainer.evaluation import detection
    from trainer.training import loop

    runtime.quiet_logging()
    checkpoint = loop.last_checkpoint(folder)
    if checkpoint is None:
        raise InputError(f"{checkpoint_dir}: no checkpoint there to export; name the folder that training wrote to")
    task = garden.build_task(wanted, [[] for _ in wanted.train.patterns], [])
    module = serving.build(task, detection.Detector(task, wanted, checkpoint).model)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with tempfile.TemporaryDirectory(prefix="odcloud-export-") as name:
            asset = Path(name, LABEL_MAP)
            asset.write_text(label_map.render(names), encoding="utf-8")
            partial.parent.mkdir(parents=True, exist_ok=True)
            serving.save(module, asset, partial)
        if target.exists():
            target.rmdir()
        partial.rename(target)
    except OSError as error:
        raise InputError(f"{output}: cannot be written: {error.strerror or error}; name another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {
        "output": output,
        "step": loop.step_of(checkpoint),
        "classes": len(names),
        "signatures": serving.SIGNATURES,
    }


if __name__ == "__main__":
    sys.exit(main())
