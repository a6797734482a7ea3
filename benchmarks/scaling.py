"""What 1 to 100 workers cost and where they stop being faster: a sheet, computed from measured and published numbers.

    python benchmarks/scaling.py [--format text|json] [--write docs/scaling.md]

Pure arithmetic on benchmarks/scaling.yaml (each number with where it comes from) and launcher/prices.yaml. --write puts the
tables into the page, between its marks; a test holds the page to the sheet.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
WORKERS = (1, 2, 4, 8, 16, 32, 64, 100)
SERVERS = range(1, 9)
SERVER, CHIEF = "n1-highcpu-16", "n1-standard-4"  # the machines of parameter servers and of a chief beside workers
MONTH = 730.0  # hours
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """A job. images: a second; bound: what keeps it from being faster; hourly: US dollars; cores: virtual CPUs in all."""

    workers: int
    servers: int
    images: float
    bound: str
    hourly: float
    cores: int


@dataclass(frozen=True)
class Table:
    """Rows under a heading each, as text."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        lines = [self.headings, ["---"] * len(self.headings), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def load() -> tuple[Facts, Facts]:
    """The facts, the prices."""
    yaml = YAML(typ="safe")
    return yaml.load(ROOT / "benchmarks/scaling.yaml"), yaml.load(ROOT / "launcher/prices.yaml")


def cores(machine: str) -> int:
    """A machine type's virtual CPUs: n1-standard-8's 8."""
    return int(machine.rpartition("-")[2])


def hourly(machine: str, accelerator: str | None, facts: Facts, prices: Facts) -> float:
    """US dollars of an hour of a machine with its disk and at most one accelerator, Vertex AI's fee included."""
    family, kind, _ = machine.split("-")
    ratio = prices["memory"][kind]
    memory = cores(machine) * ratio.get(family, ratio["default"])
    price = cores(machine) * prices["families"][family]["core"] + memory * prices["families"][family]["memory"]
    price += facts["assumed"]["disk"] * prices["disks"]["pd-ssd"] / MONTH
    price += prices["accelerators"][accelerator] if accelerator else 0.0
    return float(price * (1 + prices["trainingFee"]))


def bandwidth(machine: str, facts: Facts) -> float:
    """Bytes a second that a machine is taken to send."""
    return float(facts["egress"][machine] * 1e9 / 8 * facts["assumed"]["network"])


def served(model: Facts, servers: int, facts: Facts, machine: str = SERVER) -> float:
    """Steps a second, of all workers, that so many parameter servers can send the variables for: the fullest one's limit."""
    return bandwidth(machine, facts) / (model["fullest"][servers - 1] * facts["measured"]["pull"])


def asynchronous(scenario: Facts, workers: int, facts: Facts, prices: Facts) -> Plan:
    """Parameter servers, as few as can feed the workers or, where none can, as come nearest; the chief computes nothing."""
    model, wanted = facts["models"][scenario["model"]], workers * scenario["rate"] / scenario["batch"]
    best = max(served(model, number, facts) for number in SERVERS)
    servers = next(number for number in SERVERS if served(model, number, facts) >= min(wanted, best))
    limits = {
        "workers": wanted,
        "servers' network": served(model, servers, facts),
        "servers' CPUs": servers * cores(SERVER) / (facts["measured"]["server"] * model["variables"]),
        "workers' network": workers * bandwidth(scenario["machine"], facts) / model["trainable"],
        "chief": 1 / facts["measured"]["chief"],
    }
    bound = min(limits, key=limits.__getitem__)
    each = hourly(scenario["machine"], scenario.get("accelerator"), facts, prices)
    price = hourly(CHIEF, None, facts, prices) + workers * each + servers * hourly(SERVER, None, facts, prices)
    used = cores(CHIEF) + workers * cores(scenario["machine"]) + servers * cores(SERVER)
    return Plan(workers, servers, limits[bound] * scenario["batch"], bound, price, used)


def synchronous(scenario: Facts, workers: int, facts: Facts, prices: Facts, batch: int | None = None) -> Plan:
    """MultiWorkerMirrored: in each step every worker sends 2 (n - 1) / n times the gradients, in a ring, after its computation.

    batch: images of each worker in a step, if not the scenario's.
    """
    model, own = facts["models"][scenario["model"]], batch or scenario["batch"]
    computing = own / scenario["half"]
    sending = 2 * (workers - 1) / workers * model["trainable"] / bandwidth(scenario["machine"], facts)
    price = workers * hourly(scenario["machine"], scenario.get("accelerator"), facts, prices)
    bound = "workers" if computing >= sending else "workers' network"
    return Plan(workers, 0, workers * own / (computing + sending), bound, price, workers * cores(scenario["machine"]))


def minutes(plan: Plan, scenario: Facts) -> float:
    """Of an epoch."""
    return float(scenario["images"] / plan.images / 60)


def cost(plan: Plan, scenario: Facts) -> float:
    """US dollars of an epoch, start-up not counted."""
    return plan.hourly * minutes(plan, scenario) / 60


def number(value: float) -> str:
    """Three digits that count: 0.0123, 1.23, 12.3, 123, 1,230."""
    if value <= 0:
        return "0"
    places = 2 - math.floor(math.log10(value))
    return f"{round(value, places):,.{max(0, places)}f}"


def dollars(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 1 else f"${number(amount)}"


def models(facts: Facts) -> Table:
    """Sizes, checkpoints, and how often these are written when the bucket takes them at a machine's bandwidth."""
    rows = []
    for model in facts["models"].values():
        seconds = model["checkpoint"] / bandwidth(CHIEF, facts)
        every = max(facts["measured"]["interval"], seconds / facts["measured"]["share"])
        sizes = [f"{model[key] / 2**20:.1f} MiB" for key in ("bytes", "trainable", "checkpoint")]
        kept = f"{model['checkpoint'] * facts['measured']['kept'] / 2**20:,.0f} MiB"
        rows.append([model["title"], *sizes, kept, f"{number(seconds)} s", f"{every:.0f} s"])
    headings = [
        "model",
        "variables",
        "of these trainable",
        "checkpoint",
        f"{facts['measured']['kept']} kept",
        "written in",
        "every",
    ]
    return Table(headings, rows)


def feeding(facts: Facts) -> Table:
    """Steps a second by number and machine of the parameter servers."""
    rows = []
    for model in facts["models"].values():
        for machine in ("n1-standard-4", SERVER):
            rates = [number(served(model, servers, facts, machine)) for servers in SERVERS]
            rows.append([model["title"], machine, *rates])
    return Table(["model", "servers' machine", *map(str, SERVERS)], rows)


def epochs(name: str, facts: Facts, prices: Facts) -> Table:
    """An epoch by number of workers, by both strategies."""
    scenario, rows = facts["scenarios"][name], []
    for workers in WORKERS:
        plan, mirrored = asynchronous(scenario, workers, facts, prices), synchronous(scenario, workers, facts, prices)
        row = [str(workers), str(plan.servers), number(plan.images), plan.bound]
        row += [number(minutes(plan, scenario)), dollars(cost(plan, scenario)), number(mirrored.images), mirrored.bound]
        row += [number(minutes(mirrored, scenario)), dollars(cost(mirrored, scenario))]
        rows.append(row)
    both = ["min", "an epoch"]
    return Table(["workers", "servers", "images/s", "bound by", *both, "synchronous: images/s", "bound by", *both], rows)


def batches(facts: Facts, prices: Facts) -> Table:
    """How much of n workers' speed synchronous training keeps, by the images of each worker in a step."""
    rows = []
    for name, sizes in (("digits", (4, 8, 32)), ("ssd", (8, 32, 64)), ("faster_rcnn", (1, 2, 4, 8))):
        scenario = facts["scenarios"][name]
        for size in sizes:
            plans = [synchronous(scenario, workers, facts, prices, size) for workers in WORKERS[1:]]
            kept = [f"{100 * plan.images / plan.workers / scenario['half']:.0f} %" for plan in plans]
            rows.append([scenario["title"], str(size), *kept])
    return Table(["", "images of each", *(f"{workers} workers" for workers in WORKERS[1:])], rows)


def bucket(facts: Facts, prices: Facts) -> Table:
    """What the fastest of both strategies asks of the bucket, and how many workers would use it up."""
    rows, limit = [], facts["bucket"]
    for scenario in facts["scenarios"].values():
        plan = max(
            (way(scenario, WORKERS[-1], facts, prices) for way in (asynchronous, synchronous)), key=lambda plan: plan.images
        )
        each = scenario["half"] * scenario["size"]  # bytes a second of a worker that nothing holds up
        data = plan.images * scenario["size"]
        most = min(limit["gbits"] * 1e9 / 8 / each, limit["reads"] * facts["assumed"]["request"] / each)
        written = facts["models"][scenario["model"]]["checkpoint"] / facts["measured"]["interval"]
        rows.append(
            [
                scenario["title"],
                f"{number(data * 8 / 1e9)} Gbit/s",
                number(data / facts["assumed"]["request"]),
                f"{number(written * 8 / 1e9)} Gbit/s",
                f"{most:,.0f}",
            ]
        )
    headings = [
        "",
        f"{WORKERS[-1]} workers read",
        "requests/s",
        "checkpoints at most",
        "workers at which its first limit is reached",
    ]
    return Table(headings, rows)


def quotas(facts: Facts, prices: Facts) -> Table:
    """Virtual CPUs and GPUs of the jobs, and how many workers fit into what a project has."""
    rows, limits = [], facts["quotas"]
    for scenario in facts["scenarios"].values():
        plans = [asynchronous(scenario, workers, facts, prices) for workers in range(1, WORKERS[-1] + 1)]
        fit = [max((plan.workers for plan in plans if plan.cores <= limits[key]), default=0) for key in ("new", "typical")]
        gpus = "one each" if "accelerator" in scenario else "none"
        rows.append(
            [scenario["title"], scenario["machine"], gpus, *(str(plans[n - 1].cores) for n in (4, 16, 100)), *map(str, fit)]
        )
    headings = ["", "machine", "GPUs", "CPUs of 4 workers", "of 16", "of 100"]
    return Table([*headings, f"workers within {limits['new']}", f"within {limits['typical']}"], rows)


def tables(facts: Facts, prices: Facts) -> dict[str, Table]:
    """All of them, by the name that the page's marks have."""
    return {
        "models": models(facts),
        "feeding": feeding(facts),
        **{f"epochs {name}": epochs(name, facts, prices) for name in facts["scenarios"]},
        "batches": batches(facts, prices),
        "bucket": bucket(facts, prices),
        "quotas": quotas(facts, prices),
    }


def fill(page: str, made: Mapping[str, Table]) -> str:
    """The page with its tables, each between `<!-- sheet: NAME -->` and `<!-- end -->`, made anew."""
    return re.sub(
        r"(<!-- sheet: ([\w ]+) -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}\n{made[match[2]].markdown()}\n\n{match[3]}",
        page,
        flags=re.DOTALL,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables into this page")
    options = parser.parse_args()
    made = tables(*load())
    if options.write:
        options.write.write_text(fill(options.write.read_text(), made))
    elif options.format == "json":
        print(
            json.dumps(
                {name: [dict(zip(table.headings, row, strict=True)) for row in table.rows] for name, table in made.items()}
            )
        )
    else:
        print("\n\n".join(f"{name}\n\n{table.markdown()}" for name, table in made.items()))


if __name__ == "__main__":
    main()
