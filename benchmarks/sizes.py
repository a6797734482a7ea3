"""How large models are, and their checkpoints: what the sheet in benchmarks/scaling.py counts with.

    python benchmarks/sizes.py CONFIG …

Builds each configuration's model and optimizer as training does, writes a checkpoint of them, and prints, for
benchmarks/scaling.yaml, the number of variables, the bytes of all of them and of the trainable ones, and of the checkpoint.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # for `trainer` is a benchmark here, too

from trainer import runtime  # noqa: E402

runtime.prepare()

import tensorflow as tf  # noqa: E402

from trainer import garden  # noqa: E402
from trainer.config import experiment, reader  # noqa: E402


def size(variables: list[tf.Variable]) -> int:
    """Bytes of variables."""
    return sum(variable.shape.num_elements() * variable.dtype.size for variable in variables)


def main() -> None:
    for path in sys.argv[1:]:
        wanted = experiment.parse(reader.read_text(path).replace(reader.PLACEHOLDER, "/data"), path)
        model = garden.build_task(wanted, [[]], []).build_model()
        optimizer = garden.build_optimizer(wanted, model)
        with tempfile.TemporaryDirectory() as folder:
            tf.train.Checkpoint(model=model, optimizer=optimizer).save(f"{folder}/ckpt")
            saved = sum(file.stat().st_size for file in Path(folder).glob("ckpt*"))
        print(
            f"{Path(path).stem}: {{variables: {len(model.variables)}, bytes: {size(model.variables)}, "
            f"trainable: {size(model.trainable_variables)}, checkpoint: {saved}}}",
            flush=True,
        )
        tf.keras.backend.clear_session()


if __name__ == "__main__":
    main()
