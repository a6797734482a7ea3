"""How evenly a model's variables lie on 1 to 8 parameter servers: by turns, as TensorFlow does, and by size, as here.

    python benchmarks/placement.py CONFIG …

Prints, for each configuration, what the fullest server holds as a multiple of an equal share: 1.00 is even.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # for `trainer` is a benchmark here, too

from trainer import runtime  # noqa: E402

runtime.prepare()

from trainer import garden  # noqa: E402
from trainer.config import experiment, reader  # noqa: E402
from trainer.training import placement  # noqa: E402


def build(path: str) -> tuple[list[int], Any, Any]:
    """Bytes of a configuration's variables in the order in which they are made, its model, its experiment."""
    import tensorflow as tf

    found: list[int] = []

    def create(next_creator, **settings):  # type: ignore[no-untyped-def]
        variable = next_creator(**settings)
        found.append(variable.shape.num_elements() * variable.dtype.size)
        return variable

    wanted = experiment.parse(reader.read_text(path).replace(reader.PLACEHOLDER, "/data"), path)
    with tf.variable_creator_scope(create):
        model = garden.build_task(wanted, [[]], []).build_model()
    return found, model, wanted


def main() -> None:
    for path in sys.argv[1:]:
        found, _, _ = build(path)
        print(f"{path}: {len(found)} variables, {sum(found) / 2**20:.1f} MiB\n")
        print("| servers | by turns | by size |\n| --- | --- | --- |")
        for servers in range(1, 9):
            share = sum(found) / servers
            turns, size = (max(way(found, servers)) / share for way in (placement.by_turns, placement.by_size))
            print(f"| {servers} | {turns:.2f} | {size:.2f} |")
        print(flush=True)


if __name__ == "__main__":
    main()
