"""The same data trained by three strategies: how good the detector becomes, and how fast.

    python benchmarks/strategies.py [--data digits,voc] [--steps N] [--folder DIR]

The data sets are the demo's digits, and others like them laid out as PASCAL VOC 2007 is and read by `odcloud data convert
--format voc`. Each is trained, from the demo's one pipeline configuration, by a chief with two workers and a parameter server,
by a chief and a worker that train synchronously, and by one process: processes of this machine, one training after the other.
Prints a table of them; one line of JSON for each training goes to stderr. With --folder, what is there already is kept.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from replicas import ROOT, Replica, Training, digits_config, make_digits

CHIEF, SERVER = Replica("chief", 0), Replica("ps", 0)
WORKERS = Replica("worker", 0), Replica("worker", 1)
STRATEGIES: dict[str, Sequence[Replica]] = {
    "parameter server: 1 chief, 2 workers, 1 server": (CHIEF, *WORKERS, SERVER),
    "MultiWorkerMirrored: chief and worker": (CHIEF, WORKERS[0]),
    "one process": (CHIEF,),
}
SETS = {"trainval": 800, "test": 200}  # images
SMALL = 30  # pixels; below it a digit is marked as difficult


def make_voc(folder: Path) -> None:
    """Writes digits in PASCAL VOC 2007's layout below `folder`, and the records that are made of them to folder/records."""
    sys.path.insert(0, str(ROOT))  # before this folder, where `trainer` is a benchmark
    import numpy as np
    from PIL import Image

    from trainer.data import label_map, scenes

    root = folder / "VOCdevkit/VOC2007"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / name).mkdir(parents=True, exist_ok=True)
    number = 0
    for (name, count), scans in zip(SETS.items(), scenes.load_scans(), strict=True):
        random = np.random.RandomState([2007, number])
        names = []
        for _ in range(count):
            number += 1
            names.append(f"{number:06d}")
            scene = scenes.compose(random, scans)
            Image.fromarray(scene.image).save(root / "JPEGImages" / f"{names[-1]}.jpg", quality=90, subsampling=0)
            (root / "Annotations" / f"{names[-1]}.xml").write_text(_annotation(names[-1], scene, scenes.CLASSES))
        (root / "ImageSets/Main" / f"{name}.txt").write_text("".join(f"{word}\n" for word in names))
    classes = dict(enumerate(scenes.CLASSES, start=1))
    (folder / "label_map.pbtxt").write_text(label_map.render(classes))
    command = [sys.executable, "-m", "trainer.data", "convert", "--format", "voc", "--strict"]
    command += [f"--label-map={folder / 'label_map.pbtxt'}", str(folder / "VOCdevkit"), str(folder / "records")]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)


def _annotation(name: str, scene: Any, classes: Sequence[str]) -> str:
    """An image's XML: pixels are counted from 1, and both ends belong to the box."""
    height, width, depth = scene.image.shape
    objects = "".join(
        f"\t<object>\n\t\t<name>{classes[digit]}</name>\n\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>\n"
        f"\t\t<difficult>{int(bottom - top < SMALL)}</difficult>\n\t\t<bndbox>\n\t\t\t<xmin>{left + 1}</xmin>\n"
        f"\t\t\t<ymin>{top + 1}</ymin>\n\t\t\t<xmax>{right}</xmax>\n\t\t\t<ymax>{bottom}</ymax>\n\t\t</bndbox>\n\t</object>\n"
        for (top, left, bottom, right), digit in zip(scene.boxes, scene.digits, strict=True)
    )
    return (
        f"<annotation>\n\t<folder>VOC2007</folder>\n\t<filename>{name}.jpg</filename>\n\t<source>\n"
        "\t\t<database>Digits</database>\n\t</source>\n"
        f"\t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n\t\t<depth>{depth}</depth>\n\t</size>\n"
        f"\t<segmented>0</segmented>\n{objects}</annotation>\n"
    )


def configure(data: str, folder: Path, steps: int) -> Path:
    """Makes a data set in `folder`, if it is not there, and the pipeline configuration for it."""
    config = folder / "pipeline.config"
    if not config.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if data == "voc":
            make_voc(folder)
            text = digits_config(folder / "records", steps).replace("/train-", "/trainval-")
            text = text.replace("eval_config {", 'eval_config {\n  metrics_set: "pascal_voc_detection_metrics"')
        else:
            make_digits(folder / "records")
            text = digits_config(folder / "records", steps)
        config.write_text(text)
    return config


class Sample(NamedTuple):
    """What has been used up to a step. cpu: seconds of each replica; sent, received: bytes of the parameter server."""

    seconds: float
    step: int
    cpu: dict[Replica, float]
    sent: int
    received: int


def sample(training: Training, began: float) -> Sample:
    cpu = {}
    for replica, process in training.processes.items():
        try:  # proc(5): user and system time are the 14th and 15th fields; the name before them may have blanks
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        cpu[replica] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    sent = received = 0
    if SERVER in training.processes and shutil.which("ss"):
        told = subprocess.run(["ss", "-tinpH", "state", "established"], capture_output=True, text=True, check=True).stdout
        lines = told.splitlines()
        for connection, details in itertools.pairwise(lines):
            if f"pid={training.processes[SERVER].pid}," in connection:
                sent += sum(map(int, re.findall(r"bytes_sent:(\d+)", details)))
                received += sum(map(int, re.findall(r"bytes_received:(\d+)", details)))
    return Sample(time.monotonic() - began, training.step(), cpu, sent, received)


def train(config: Path, folder: Path, replicas: Sequence[Replica]) -> dict[str, Any]:
    """Trains and evaluates. Rates count from the first step told of to the last one before the end."""
    before, load = resource.getrusage(resource.RUSAGE_CHILDREN), os.getloadavg()[0]
    training = Training(folder, config, replicas)
    began = time.monotonic()
    seen: list[Sample] = []
    try:
        while not training.ended():
            time.sleep(0.1)
            if training.step() > (seen[-1].step if seen else 0):
                now = sample(training, began)
                if len(now.cpu) == len(replicas):
                    seen.append(now)
        fine = training.wait()
    finally:
        training.stop()
    if not fine:
        sys.exit(f"a replica failed; the logs are in {folder}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    first, last = seen[0], seen[-1]
    steps = last.step - first.step
    return {
        "steps": training.step(),
        "start": round(first.seconds, 1),
        "rate": round(steps / (last.seconds - first.seconds), 2),
        "cpu": round(used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime),
        "cpu_per_step": {
            f"{replica.role} {replica.index}": round((last.cpu[replica] - first.cpu[replica]) / steps, 4)
            for replica in replicas
        },
        "server_bytes_per_step": [round((last.sent - first.sent) / steps), round((last.received - first.received) / steps)],
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "metrics": training.metrics(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits,voc", help="default: digits,voc")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--folder", type=Path, help="default: a new one")
    options = parser.parse_args()
    top = options.folder or Path(tempfile.mkdtemp(prefix="odcloud-strategies-"))
    rows = []
    for data in options.data.split(","):
        config = configure(data, (top / data).resolve(), options.steps)
        for number, (name, replicas) in enumerate(STRATEGIES.items()):
            kept = top / data / f"{number}.json"
            if not kept.exists():
                shutil.rmtree(config.parent / f"run-{number}", ignore_errors=True)
                kept.write_text(json.dumps(train(config, config.parent / f"run-{number}", replicas)))
            found = json.loads(kept.read_text())
            print(json.dumps({"data": data, "strategy": name, **found}), file=sys.stderr, flush=True)
            scores = [
                f"{found['metrics'][key]:.3f}" if key in found["metrics"] else "" for key in ("AP", "AP50", "VOC07", "VOC10")
            ]
            rows.append([data, name, str(found["steps"]), *scores, f"{found['rate']:.1f}", f"{found['cpu']} s"])
    print("| data | trained by | steps | AP | AP50 | VOC07 | VOC10 | steps/s | CPU |\n" + "| --- " * 9 + "|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
