"""How long `pulumi up` takes when nothing has changed: the whole stack, and a program of one bucket, by the same command line.

    python benchmarks/infra.py [--rounds N] [--format json]

Both run against one local cloud, in turn, each time as from a shell. The stack is that of Pulumi.local.yaml with the trainer's
real package and a small dataset; `everything` has launchers, GitHub's workflows and a budget, too. The other program is what
`pulumi new gcp-python` makes, a bucket. All that is Python is compiled beforehand, in a first round that is not counted. CPU
seconds are those of Pulumi and its children, in user and system mode; other work on the machine lengthens them far less than
the wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[0] = str(ROOT / "tests" / "e2e")  # and not this folder, where `infra` is this file

from stack_project import BILLING, Project, running  # noqa: E402

ONE = 'from pulumi_gcp import storage\n\nstorage.Bucket("bucket", name="odcloud-benchmark", location="US")\n'
EVERYTHING = {
    "odcloud:githubRepository": "vision/pets",
    "odcloud:billingAccount": BILLING,
    "odcloud:budget": "200",
    "odcloud:launchers[0]": "group:vision@example.com",
}
NAMES = {"one": "one bucket", "stack": "the stack", "everything": "the stack with everything"}


def prepare(project: Project) -> None:
    """The real trainer in place of the tests' tiny package, the second stack's settings, and the small program."""
    shutil.rmtree(project.root / "trainer")
    shutil.copytree(ROOT / "trainer", project.root / "trainer", ignore=shutil.ignore_patterns("__pycache__"))
    project.succeed("stack", "init", "everything")
    local = json.loads(project.succeed("config", "--json", "--stack", "local"))
    settings = {**{key: entry["value"] for key, entry in local.items()}, **EVERYTHING}
    for key, value in settings.items():
        project.succeed("config", "set", "--stack", "everything", "--path", key, value)
    folder = project.root / "one"
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text("name: one\nruntime: python\n")
    (folder / "__main__.py").write_text(ONE)
    up(project, "one", "stack", "init", "one")


def up(project: Project, contender: str, *arguments: str) -> tuple[float, float]:
    """Wall and CPU seconds of Pulumi for a contender; without arguments of `up`, which must end well."""
    whole = project.root
    stack = {"one": "one", "stack": "local", "everything": "everything"}[contender]
    project.root = whole / "one" if contender == "one" else whole
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        project.succeed(*(arguments or ("up", "--yes", "--skip-preview", "--stack", stack)))
    finally:
        project.root = whole
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(rounds: int) -> dict[str, Any]:
    """Wall and CPU seconds of each round by contender."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as project:
        prepare(project)
        found: dict[str, Any] = {name: {"wall": [], "cpu": []} for name in NAMES}
        for number in range(-2, rounds):  # the first makes the resources, the second fills caches
            print(f"round {number + 1} of {rounds}" if number >= 0 else "preparing", end=" …\r", file=sys.stderr, flush=True)
            for name in NAMES:
                wall, cpu = up(project, name)
                if number >= 0:
                    found[name]["wall"].append(wall)
                    found[name]["cpu"].append(cpu)
        found["cores"], found["load"] = os.cpu_count(), round(os.getloadavg()[0], 1)
        return found


def table(found: dict[str, Any]) -> str:
    """The least and the median of each, and their ratio to the one bucket's."""

    def both(values: Sequence[float]) -> tuple[float, float]:
        return min(values), statistics.median(values)

    lines = [
        "| no-op `pulumi up` of | wall, least / median | CPU | wall: ratio to one bucket | CPU: ratio |",
        "|" + " --- |" * 5,
    ]
    for name, title in NAMES.items():
        cells = [title]
        ratios = []
        for kind in ("wall", "cpu"):
            least, median = both(found[name][kind])
            one_least, one_median = both(found["one"][kind])
            cells.append(f"{least:.2f} / {median:.2f} s")
            ratios.append("" if name == "one" else f"{least / one_least:.2f} / {median / one_median:.2f}")
        lines.append(f"| {' | '.join([*cells, *ratios])} |")
    return "\n".join([*lines, "", f"{found['cores']} cores, load average {found['load']} at the end"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    given = parser.parse_args()
    found = measure(given.rounds)
    print(json.dumps(found) if given.format == "json" else table(found))


if __name__ == "__main__":
    main()
