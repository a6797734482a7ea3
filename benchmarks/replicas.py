"""A training's replicas as processes of this machine, for the benchmarks that watch or kill them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Replica(NamedTuple):
    """A member of TF_CONFIG's cluster."""

    role: str
    index: int


class Training:
    """One training's replicas, running; the only one has no TF_CONFIG. Logs and train/ are in `folder`, which is made."""

    def __init__(self, folder: Path, config: Path, replicas: Sequence[Replica]) -> None:
        self.train_dir, self.config, self.folder = folder / "train", config, folder
        folder.mkdir(parents=True)
        sockets = [socket.socket() for _ in replicas]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        self.cluster: dict[str, list[str]] = {}
        for (role, _), item in zip(replicas, sockets, strict=True):
            self.cluster.setdefault(role, []).append(f"127.0.0.1:{item.getsockname()[1]}")
            item.close()
        self.processes = {replica: self._start(replica) for replica in replicas}
        self.seen = 0  # lines of the chief's log that are older than the last kill

    def _start(self, replica: Replica) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-m",
            "trainer.train",
            f"--train_dir={self.train_dir}",
            f"--pipeline_config_path={self.config}",
        ]
        env = {**os.environ, "CLOUD_ML_JOB_ID": "1"}
        if sum(map(len, self.cluster.values())) > 1:
            env["TF_CONFIG"] = json.dumps({"cluster": self.cluster, "task": {"type": replica.role, "index": replica.index}})
        with (self.folder / f"{replica.role}-{replica.index}.log").open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT)

    def kill(self, replica: Replica) -> None:
        """Kills the replica and starts it again."""
        process = self.processes[replica]
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.seen = len(self._log())
        self.processes[replica] = self._start(replica)

    def ended(self) -> bool:
        """Whether the chief has."""
        return next(iter(self.processes.values())).poll() is not None

    def _log(self) -> list[str]:
        return (self.folder / "chief-0.log").read_text(errors="replace").splitlines()

    def step(self, since: int = 0) -> int:
        """The last one that the chief told of as done, in its log's lines from this one on; 0 if none."""
        told = (line for line in reversed(self._log()[since:]) if line.startswith("{") and '"loss"' in line)
        return int(json.loads(next(told, '{"step": 0}'))["step"])

    def wait(self) -> bool:
        """Waits for all to end; whether all did well."""
        return {process.wait() for process in self.processes.values()} == {0}

    def stop(self) -> None:
        """Kills what still runs."""
        for process in self.processes.values():
            process.kill()
            process.wait()

    def metrics(self) -> dict[str, Any]:
        """What the last checkpoint scores, as in metrics.json."""
        command = [sys.executable, "-m", "trainer.evaluate", f"--checkpoint_dir={self.train_dir}"]
        command += [f"--eval_dir={self.folder / 'eval'}", f"--pipeline_config_path={self.config}"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        found: dict[str, Any] = json.loads((self.folder / "eval/metrics.json").read_text())["metrics"]
        return found


def digits_config(data: Path, steps: int | None = None) -> str:
    """The demo's pipeline configuration for digits in this folder, for so many steps if it is not to be its own number."""
    text = (ROOT / "examples/digits/pipeline.config").read_text().replace("PATH_TO_BE_CONFIGURED", str(data))
    return (
        text
        if steps is None
        else text.replace("num_steps: 1200", f"num_steps: {steps}").replace("total_steps: 1200", f"total_steps: {steps}")
    )


def make_digits(folder: Path) -> None:
    """Makes the demo's data in this folder."""
    subprocess.run(
        [sys.executable, "-m", "trainer.data", "digits", str(folder)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
