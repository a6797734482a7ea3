"""Kills replicas of a training at random moments, and compares what it learned with an undisturbed one.

    python benchmarks/kills.py [--kills 20] [--steps 1200] [--seed 0]

One chief, two workers and a parameter server train the digits as processes of this machine; chief, worker and server are
killed (SIGKILL) in turn and started again at once, as a job's runner does. The kills spread over the whole run: each comes at
a random step of its own share of them, once training has made a step since the last one. Prints both APs, and exits 1 when
the last step was not reached, a kill found training already at its end, or the AP is more than 0.03 away.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REPLICAS = (("chief", 0), ("worker", 0), ("worker", 1), ("ps", 0))
TURNS = (("chief", 0), ("worker", 0), ("ps", 0), ("worker", 1))
TOLERANCE = 0.03
TOLD_EVERY = 5.0  # seconds between the chief's words on its progress


class Training:
    """One training's replicas, each started again when it has died of a kill."""

    def __init__(self, folder: Path, config: Path) -> None:
        self.train_dir, self.config, self.folder = folder / "train", config, folder
        folder.mkdir(parents=True)
        sockets = [socket.socket() for _ in REPLICAS]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        self.cluster: dict[str, list[str]] = {}
        for (role, _), item in zip(REPLICAS, sockets, strict=True):
            self.cluster.setdefault(role, []).append(f"127.0.0.1:{item.getsockname()[1]}")
            item.close()
        self.processes = {replica: self.start(*replica) for replica in REPLICAS}
        self.seen = 0  # lines of the chief's log that are older than the last kill

    def start(self, role: str, index: int) -> subprocess.Popen[bytes]:
        task = {"cluster": self.cluster, "task": {"type": role, "index": index}}
        command = [
            sys.executable,
            "-m",
            "trainer.train",
            f"--train_dir={self.train_dir}",
            f"--pipeline_config_path={self.config}",
        ]
        with (self.folder / f"{role}-{index}.log").open("ab") as log:
            env = {**os.environ, "TF_CONFIG": json.dumps(task), "CLOUD_ML_JOB_ID": "1"}
            return subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT)

    def kill(self, replica: tuple[str, int]) -> None:
        process = self.processes[replica]
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.seen = len(self.log())
        self.processes[replica] = self.start(*replica)

    def ended(self) -> bool:
        return self.processes["chief", 0].poll() is not None

    def log(self) -> list[str]:
        return (self.folder / "chief-0.log").read_text(errors="replace").splitlines()

    def step(self, since: int = 0) -> int:
        """The last one that the chief told of as done, in its log's lines from this one on; 0 if none."""
        told = (line for line in reversed(self.log()[since:]) if line.startswith("{") and '"loss"' in line)
        return int(json.loads(next(told, '{"step": 0}'))["step"])

    def reach(self, step: int) -> bool:
        """Waits until this step is done, and one since the last kill; False when training ended first."""
        while self.step(self.seen) < max(step, 1) and not self.ended():
            time.sleep(0.2)
        return not self.ended()

    def wait(self) -> bool:
        return {process.wait() for process in self.processes.values()} == {0}

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    def score(self) -> float:
        command = [sys.executable, "-m", "trainer.evaluate", f"--checkpoint_dir={self.train_dir}"]
        command += [f"--eval_dir={self.folder / 'eval'}", f"--pipeline_config_path={self.config}"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return float(json.loads((self.folder / "eval/metrics.json").read_text())["metrics"]["AP"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="odcloud-kills-"))
    print(folder)
    subprocess.run([sys.executable, "-m", "trainer.data", "digits", str(folder / "digits")], cwd=ROOT, check=True)
    text = (ROOT / "examples/digits/pipeline.config").read_text().replace("PATH_TO_BE_CONFIGURED", str(folder / "digits"))
    config = folder / "pipeline.config"
    config.write_text(
        text.replace("num_steps: 1200", f"num_steps: {options.steps}").replace(
            "total_steps: 1200", f"total_steps: {options.steps}"
        )
    )
    scores = [run(folder / "undisturbed", config, options, 0), run(folder / "killed", config, options, options.kills)]
    apart = abs(scores[0] - scores[1])
    print(f"AP undisturbed {scores[0]:.3f}, killed {scores[1]:.3f}: {apart:.3f} apart")
    return 0 if apart <= TOLERANCE else 1


def run(folder: Path, config: Path, options: argparse.Namespace, kills: int) -> float:
    """Trains with so many kills; its AP."""
    drawn = random.Random(options.seed)
    training = Training(folder, config)
    began, done = time.monotonic(), 0
    try:
        for number in range(kills):
            if not training.reach(int((number + drawn.random()) * options.steps / (kills + 1))):
                break
            time.sleep(drawn.uniform(0, TOLD_EVERY))
            if training.ended():
                break
            replica = TURNS[done % len(TURNS)]
            training.kill(replica)
            done += 1
            print(
                f"{time.monotonic() - began:7.1f} s  kill {done}: {replica[0]} {replica[1]} at step {training.step()}",
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
    return training.score()


if __name__ == "__main__":
    sys.exit(main())
