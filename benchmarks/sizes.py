"""How large models are, their checkpoints, and what the fullest parameter server holds: facts for benchmarks/scaling.yaml.

    python benchmarks/sizes.py CONFIG …

Builds each configuration's model and optimizer as training does and writes a checkpoint of them. In bytes: of all variables,
of the trainable ones, of the checkpoint, and of what lies on the fullest of 1, 2, … 8 parameter servers.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from placement import build, garden, placement


def main() -> None:
    import tensorflow as tf

    for path in sys.argv[1:]:
        found, model, wanted = build(path)
        optimizer = garden.build_optimizer(wanted, model)
        with tempfile.TemporaryDirectory() as folder:
            tf.train.Checkpoint(model=model, optimizer=optimizer).save(f"{folder}/ckpt")
            saved = sum(file.stat().st_size for file in Path(folder).glob("ckpt*"))
        trainable = sum(variable.shape.num_elements() * variable.dtype.size for variable in model.trainable_variables)
        fullest = [max(placement.by_size(found, servers)) for servers in range(1, 9)]
        print(
            f"{path}:\n  bytes: {sum(found)}\n  trainable: {trainable}\n  checkpoint: {saved}\n  fullest: {fullest}", flush=True
        )
        tf.keras.backend.clear_session()


if __name__ == "__main__":
    main()
