"""Steps per second, time to the first step and memory: the trainer against bare Model Garden on the same experiment, in turn.

    python benchmarks/steps.py [--steps 400] [--rounds 2] [CONFIG]

CONFIG (by default the digits' one) is trained on the digits by `python -m trainer.train` in one process, and, in the form that
`odcloud config convert` gives it, by `python -m official.vision.train`, after a first start of each that does not count, in
which Python compiles. Steps per second are those of the second half; the CPU's time of a step is that of a long run less that
of a run of one step, which is all start and end. On two idle cores it takes some five minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[1]
LOOP = 10  # steps that Model Garden takes between looks at the clock


class Run(NamedTuple):
    """first: seconds from the process's start to its first step's end; rate: steps/s; cpu: seconds; memory: MiB at most."""

    first: float
    rate: float
    cpu: float
    memory: float


def watch(command: list[str], step_of: re.Pattern[str], steps: int) -> Run:
    """Runs a trainer and reads its log for the steps that it tells of."""
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    assert process.stdout
    seen: list[tuple[float, int]] = []
    lines = []
    for line in process.stdout:
        lines.append(line)
        found = step_of.search(line)
        if found and (not seen or int(found[1]) > seen[-1][1]) and int(found[1]) > 0:
            seen.append((time.monotonic() - began, int(found[1])))
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or not seen or seen[-1][1] < steps:
        sys.exit("".join(lines[-30:]) + f"\n{' '.join(command)}: exit code {process.returncode}")
    half = [item for item in seen if item[1] >= steps // 2] if steps > LOOP else seen
    half = half[:-1] if len(half) > 2 else half  # the last line may come after the last checkpoint
    passed = half[-1][0] - half[0][0]
    rate = (half[-1][1] - half[0][1]) / passed if passed else 0.0
    return Run(seen[0][0], rate, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def own(config: Path, folder: Path, steps: int) -> Run:
    command = [sys.executable, "-m", "trainer.train", f"--train_dir={folder}", f"--pipeline_config_path={config}"]
    return watch(command, re.compile(r'"step": (\d+), "steps": \d+, "loss"'), steps)


def bare(config: Path, folder: Path, steps: int) -> Run:
    written = yaml.safe_load(config.read_text())
    loop = min(LOOP, steps)
    written["trainer"] |= {"steps_per_loop": loop, "summary_interval": loop, "checkpoint_interval": steps}
    config.write_text(yaml.safe_dump(written))
    command = [sys.executable, "-m", "official.vision.train", "--experiment=retinanet", "--mode=train"]
    return watch([*command, f"--model_dir={folder}", f"--config_file={config}"], re.compile(r"train \| step:\s+(\d+)"), steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", type=Path, default=ROOT / "examples/digits/pipeline.config")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="odcloud-steps-"))
    subprocess.run([sys.executable, "-m", "trainer.data", "digits", str(folder / "digits")], cwd=ROOT, check=True, stdout=2)
    starts: dict[str, Run] = {}
    results: dict[str, dict[str, list[float]]] = {"odcloud": {}, "Model Garden": {}}
    for number in range(options.rounds + 1):
        for steps in (1, options.steps) if number else (1,):
            config, converted = folder / f"{steps}.config", folder / f"{steps}.yaml"
            text = options.config.read_text().replace("PATH_TO_BE_CONFIGURED", str(folder / "digits"))
            config.write_text(re.sub(r"num_steps: \d+", f"num_steps: {steps}", text))
            convert = [sys.executable, "-m", "trainer.config", "convert", str(config), "--output", str(converted)]
            subprocess.run(convert, cwd=ROOT, check=True)
            for name, way, path in (("odcloud", own, config), ("Model Garden", bare, converted)):
                run = way(path, folder / f"{name}-{steps}-{number}", steps)
                if steps == 1:
                    starts[name] = run
                    values = {"start to first step, s": run.first, "CPU of a run of one step, s": run.cpu}
                else:
                    work = (run.cpu - starts[name].cpu) / (steps - 1) * 1000
                    values = {"steps/s": run.rate, "CPU of a step, ms": work, "memory, MiB": run.memory}
                for what, value in values.items() if number else ():
                    results[name].setdefault(what, []).append(value)
                print(json.dumps({"who": name, "steps": steps, **run._asdict()}), file=sys.stderr, flush=True)
    print("| | odcloud | Model Garden | ratio |\n| --- | --- | --- | --- |")
    for what in results["odcloud"]:
        ours, theirs = (statistics.median(results[name][what]) for name in results)
        print(f"| {what} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} |")


if __name__ == "__main__":
    main()
