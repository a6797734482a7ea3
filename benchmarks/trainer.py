"""The trainer's own tools against Model Garden's, on the same work on the same machine, start-up in the race.

    python benchmarks/trainer.py [ROW …] [--rounds N] [--images N] [--format json]

A row is one race: the same inputs, no more processes for the one than for the other, each started anew as from a shell, in
turn, with everything that is Python compiled by a first round that does not count. Told are the least and the median of the
rounds, the CPU's seconds of the command with its children, the largest resident memory of one of its processes, and the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

ROOT = Path(__file__).parents[1]
PROCESSES = 2


@dataclass(frozen=True)
class Race:
    """Two commands for the same work: `amount` of `unit`. Each may use the folder, and leaves it as it was for the other."""

    unit: str
    amount: int
    ours: Sequence[str]
    theirs: Sequence[str]
    reset: Callable[[], None]


@dataclass(frozen=True)
class Run:
    """wall, cpu: seconds. memory: bytes, of the largest process."""

    wall: float
    cpu: float
    memory: int


def converting(folder: Path, images: int) -> Race:
    """COCO to TFRecord shards: `odcloud data convert` against official/vision/data/create_coco_tf_record.py."""
    source = coco(folder / "coco", images)
    ours, theirs = folder / "ours", folder / "theirs"

    def reset() -> None:
        for path in (ours, theirs):
            subprocess.run(["rm", "-rf", str(path)], check=True)
        theirs.mkdir()

    return Race(
        unit="images",
        amount=images,
        ours=[
            *(sys.executable, "-m", "trainer.data", "convert", "--format=coco", str(source), str(ours)),
            *(f"--processes={PROCESSES}", "--shards=8"),
        ],
        theirs=[
            *(sys.executable, "-m", "official.vision.data.create_coco_tf_record", f"--image_dir={source / 'val2017'}"),
            *(f"--object_annotations_file={source / 'annotations/instances_val2017.json'}", "--num_shards=8"),
            *(f"--output_file_prefix={theirs / 'val2017'}", f"--num_processes={PROCESSES}"),
        ],
        reset=reset,
    )


ROWS: dict[str, Callable[[Path, int], Race]] = {"convert": converting}
"""What can be raced, by name: to add one is to add it here."""


def coco(folder: Path, images: int) -> Path:
    """A dataset in COCO's layout: 640 × 480 JPEGs of some 90 KB with seven objects each, as COCO's are on average."""
    chance = np.random.RandomState(0)
    (folder / "val2017").mkdir(parents=True)
    (folder / "annotations").mkdir()
    entries: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    for number in range(1, images + 1):
        noise = Image.fromarray(chance.randint(0, 256, (480, 640, 3), np.uint8)).filter(ImageFilter.GaussianBlur(1.1))
        name = f"{number:012d}.jpg"
        noise.save(folder / "val2017" / name, quality=92)
        entries["images"].append({"id": number, "file_name": name, "height": 480, "width": 640})
        for _ in range(7):
            x, y, width, height = (float(value) for value in chance.uniform((0, 0, 10, 10), (400, 300, 200, 150)).round(2))
            polygon = [x, y, x + width, y, x + width, y + height]
            entries["annotations"].append(
                {
                    "id": len(entries["annotations"]) + 1,
                    "image_id": number,
                    "category_id": int(chance.randint(1, 81)),
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                    "segmentation": [polygon],
                }
            )
    categories = [{"id": number, "name": f"class {number}", "supercategory": "any"} for number in range(1, 81)]
    content = {"info": {}, "licenses": [], **entries, "categories": categories}
    (folder / "annotations/instances_val2017.json").write_text(json.dumps(content))
    return folder


def timed(command: Sequence[str]) -> Run:
    """Runs a command to its end. Raises SystemExit with its last words when it fails."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}\n{output.read()[-2000:]}")
    return Run(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def raced(race: Race, rounds: int) -> dict[str, Any]:
    """Rounds in turn, after one that does not count."""
    runs: dict[str, list[Run]] = {"ours": [], "theirs": []}
    for number in range(rounds + 1):
        for name, command in (("ours", race.ours), ("theirs", race.theirs)):
            race.reset()
            run = timed(command)
            print(
                f"  {name}: {run.wall:.1f} s, CPU {run.cpu:.1f} s" + (" (not counted)" if not number else ""), file=sys.stderr
            )
            if number:
                runs[name].append(run)
    race.reset()
    told = {name: _told(found, race.amount) for name, found in runs.items()}
    keys = ("wall", "wallMedian", "cpu", "cpuMedian", "memory")
    ratio = {key: round(told["theirs"][key] / told["ours"][key], 2) for key in keys}
    every = {name: [asdict(run) for run in found] for name, found in runs.items()}
    return {"unit": race.unit, "amount": race.amount, **told, "ratio": ratio, "runs": every}


def _told(runs: Sequence[Run], amount: int) -> dict[str, float]:
    wall, cpu = [run.wall for run in runs], [run.cpu for run in runs]
    return {
        "wall": min(wall),
        "wallMedian": statistics.median(wall),
        "cpu": min(cpu),
        "cpuMedian": statistics.median(cpu),
        "memory": max(run.memory for run in runs),
        "rate": amount / min(wall),
    }


def shown(name: str, found: dict[str, Any]) -> str:
    """A Markdown table of one race."""
    rounds = len(found["runs"]["ours"])
    lines = [
        f"### {name}: {found['amount']} {found['unit']}, {rounds} rounds, load average {os.getloadavg()[0]:.1f}",
        "",
        f"| | wall, least / median | CPU | {found['unit']}/s | largest process |",
        "| --- | --- | --- | --- | --- |",
    ]
    for who in ("ours", "theirs"):
        f = found[who]
        times = f"{f['wall']:.1f} / {f['wallMedian']:.1f} s | {f['cpu']:.1f} / {f['cpuMedian']:.1f} s"
        lines.append(f"| {who} | {times} | {f['rate']:.0f} | {f['memory'] / 2**20:.0f} MiB |")
    r = found["ratio"]
    times = f"{r['wall']:.1f} / {r['wallMedian']:.1f} | {r['cpu']:.1f} / {r['cpuMedian']:.1f}"
    lines.append(f"| ratio | {times} | {r['wall']:.1f} | {r['memory']:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"default: all of {', '.join(ROWS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=2000, help="size of the data (default: 2000)")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args()
    unknown = [row for row in options.rows if row not in ROWS]
    if unknown or options.rounds < 1 or options.images < 16:
        parser.error(f"unknown row {unknown[0]}" if unknown else "--rounds from 1 on, --images from 16 on")
    for name in options.rows or ROWS:
        with tempfile.TemporaryDirectory(prefix="odcloud-benchmark-") as folder:
            print(f"{name}: preparing", file=sys.stderr)
            found = raced(ROWS[name](Path(folder), options.images), options.rounds)
        print(json.dumps({name: found}) if options.format == "json" else shown(name, found), flush=True)


if __name__ == "__main__":
    main()
