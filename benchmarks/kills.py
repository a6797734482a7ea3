"""Kills replicas of a training at random moments, and compares what it learned with an undisturbed one.

    python benchmarks/kills.py [--kills 20] [--steps 1200] [--seed 0]

One chief, two workers and a parameter server train the digits as processes of this machine; chief, worker and server are
killed (SIGKILL) in turn and started again at once, as a job's runner does. The kills spread over the whole run: each comes at
a random step of its own share of them, once training has made a step since the last one. Prints both APs, and exits 1 when
the last step was not reached, a kill found training already at its end, or the AP is more than 0.03 away.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from replicas import Replica, Training, digits_config, make_digits

REPLICAS = (Replica("chief", 0), Replica("worker", 0), Replica("worker", 1), Replica("ps", 0))
TURNS = (Replica("chief", 0), Replica("worker", 0), Replica("ps", 0), Replica("worker", 1))
TOLERANCE = 0.03
TOLD_EVERY = 5.0  # seconds between the chief's words on its progress


def reach(training: Training, step: int) -> bool:
    """Waits until this step is done, and one since the last kill; False when training ended first."""
    while training.step(training.seen) < max(step, 1) and not training.ended():
        time.sleep(0.2)
    return not training.ended()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="odcloud-kills-"))
    print(folder)
    make_digits(folder / "digits")
    config = folder / "pipeline.config"
    config.write_text(digits_config(folder / "digits", options.steps))
    scores = [run(folder / "undisturbed", config, options, 0), run(folder / "killed", config, options, options.kills)]
    apart = abs(scores[0] - scores[1])
    print(f"AP undisturbed {scores[0]:.3f}, killed {scores[1]:.3f}: {apart:.3f} apart")
    return 0 if apart <= TOLERANCE else 1


def run(folder: Path, config: Path, options: argparse.Namespace, kills: int) -> float:
    """Trains with so many kills; its AP."""
    drawn = random.Random(options.seed)
    training = Training(folder, config, REPLICAS)
    began, done = time.monotonic(), 0
    try:
        for number in range(kills):
            if not reach(training, int((number + drawn.random()) * options.steps / (kills + 1))):
                break
            time.sleep(drawn.uniform(0, TOLD_EVERY))
            if training.ended():
                break
            replica = TURNS[done % len(TURNS)]
            training.kill(replica)
            done += 1
            print(
                f"{time.monotonic() - began:7.1f} s  kill {done}: {replica.role} {replica.index} at step {training.step()}",
                flush=True,
            )
        fine = training.wait()
    finally:
        training.stop()
    print(f"{time.monotonic() - began:7.1f} s  step {training.step()} of {options.steps}, {done} kills", flush=True)
    if not fine or training.step() != options.steps:
        sys.exit(f"the last step was not reached; the logs are in {folder}")
    if done < kills:
        sys.exit(f"training ended before kill {done + 1}; make --steps more, or --kills fewer")
    return float(training.metrics()["AP"])


if __name__ == "__main__":
    sys.exit(main())
