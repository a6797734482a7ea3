"""The sheet of docs/scaling.md: the page is current, the prices are the launcher's, the arithmetic does what it says."""

from __future__ import annotations

import importlib.util
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.cost import prices, pricing

ROOT = Path(__file__).resolve().parents[2]
SHEET = ROOT / "benchmarks/scaling.py"


def _load() -> Any:
    # By its path: in that folder lies a trainer.py, which must not be found in the package's place.
    spec = importlib.util.spec_from_file_location("scaling_sheet", SHEET)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["scaling_sheet"] = module
    spec.loader.exec_module(module)
    return module


sheet = _load()
FACTS, PRICES = sheet.load()
SCENARIOS = list(FACTS["scenarios"].values())


def test_the_page_has_every_table_as_the_sheet_makes_it() -> None:
    page = (ROOT / "docs/scaling.md").read_text()
    made = sheet.tables(FACTS, PRICES)
    for name, table in made.items():
        assert f"<!-- sheet: {name} -->\n\n{table.markdown()}\n\n<!-- end -->" in page, (
            "benchmarks/scaling.py --write docs/scaling.md"
        )
    assert sheet.fill(page, made) == page


def test_an_old_table_is_made_anew() -> None:
    old = "before\n<!-- sheet: one -->\n\n| x |\n\n<!-- end -->\nafter"
    table = sheet.Table(["a", "b"], [["1", "2"]])
    assert (
        sheet.fill(old, {"one": table})
        == "before\n<!-- sheet: one -->\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n<!-- end -->\nafter"
    )


@pytest.mark.parametrize(
    ("machine", "accelerator"), [("n1-standard-4", None), ("n1-highcpu-16", None), ("n1-standard-8", "NVIDIA_TESLA_V100")]
)
def test_machines_cost_what_the_launcher_says(machine: str, accelerator: str | None) -> None:
    spec = {"machineType": machine} | ({"acceleratorType": accelerator, "acceleratorCount": 1} if accelerator else {})
    body = {"jobSpec": {"workerPoolSpecs": [{"machineSpec": spec, "replicaCount": 1}]}}
    assert sheet.hourly(machine, accelerator, FACTS, PRICES) == pytest.approx(pricing.estimate(body, prices.listed()).hourly)


@pytest.mark.parametrize("model", FACTS["models"].values(), ids=FACTS["models"])
def test_more_servers_hold_less_each_and_never_less_than_an_equal_share(model: Any) -> None:
    fullest = model["fullest"]
    assert fullest[0] == model["bytes"] >= model["trainable"]
    assert fullest == sorted(fullest, reverse=True)
    assert all(held >= model["bytes"] / servers for servers, held in enumerate(fullest, start=1))
    assert model["checkpoint"] > 2 * model["trainable"]  # one slot for each variable at least


def test_a_server_is_fed_by_hand() -> None:
    # 32 Gbit/s, of which half: 2e9 bytes a second.
    facts = {"egress": {"n1-highcpu-16": 32}, "assumed": {"network": 0.5}, "measured": {"pull": 1.0}}
    assert sheet.served({"fullest": [1e9, 4e8]}, 1, facts) == 2
    assert sheet.served({"fullest": [1e9, 4e8]}, 2, facts) == 5


@pytest.mark.parametrize("scenario", SCENARIOS, ids=FACTS["scenarios"])
def test_nobody_is_faster_than_the_workers_and_more_of_them_are_not_slower(scenario: Any) -> None:
    for way, own in ((sheet.asynchronous, scenario["rate"]), (sheet.synchronous, scenario["half"])):
        plans = [way(scenario, workers, FACTS, PRICES) for workers in range(1, 101)]
        assert all(plan.images <= plan.workers * own * (1 + 1e-9) for plan in plans)
        assert all(later.images >= earlier.images for earlier, later in itertools.pairwise(plans))
        assert all(later.hourly > earlier.hourly for earlier, later in itertools.pairwise(plans))
        assert plans[0].images == pytest.approx(own)  # alone, neither the network nor a chief holds it up
        assert all(plan.bound == "workers" for plan in plans if plan.images == pytest.approx(plan.workers * own))


def test_a_ring_of_two_sends_the_gradients_once() -> None:
    scenario = {"model": "m", "machine": "n1-standard-8", "batch": 10, "half": 100.0}
    facts = {**FACTS, "models": {"m": {"trainable": 1e8}}, "egress": {"n1-standard-8": 16}, "assumed": {**FACTS["assumed"]}}
    # 0.1 s to compute, 1e8 bytes at 1e9 bytes a second to send: 0.1 s.
    assert sheet.synchronous(scenario, 2, facts, PRICES).images == pytest.approx(2 * 10 / 0.2)


@pytest.mark.parametrize(
    ("value", "text"), [(0.01234, "0.0123"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (1234.0, "1,230"), (0.0, "0")]
)
def test_three_digits_count(value: float, text: str) -> None:
    assert sheet.number(value) == text


def test_json_for_programs() -> None:
    done = subprocess.run([sys.executable, str(SHEET), "--format", "json"], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert set(told) == set(sheet.tables(FACTS, PRICES))
    assert [row["workers"] for row in told["epochs faster_rcnn"]] == [str(number) for number in sheet.WORKERS]
