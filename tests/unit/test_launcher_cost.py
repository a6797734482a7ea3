"""What a job costs, and the timeout that keeps it below a sum."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_launcher_vertex import OUTPUTS, RUN

from launcher import vertex
from launcher.cost import prices, pricing, quote
from launcher.errors import UserError
from launcher.jobfile import machines, reading, resolve
from launcher.stack.session import attach

ROOT = Path(__file__).parents[2]


def body(*pools: tuple[str, int], timeout: str | None = None, strategy: str | None = None) -> dict[str, Any]:
    specs = [{"machineSpec": {"machineType": kind}, "replicaCount": str(count)} if count else {} for kind, count in pools]
    scheduling = {key: value for key, value in (("timeout", timeout), ("strategy", strategy)) if value}
    return {"displayName": "x", "jobSpec": {"workerPoolSpecs": specs, "scheduling": scheduling}}


# Vertex AI's own price list for training in us-central1, per hour: what the parts and the fee must add up to.
@pytest.mark.parametrize(
    ("machine", "price"),
    [
        ("n1-standard-4", 0.21849885),
        ("n1-standard-32", 1.7479908),
        ("n1-highmem-8", 0.5441938),
        ("n1-highcpu-16", 0.65180712),
        ("n2-standard-4", 0.2233714),
        ("e2-standard-4", 0.154126276),
    ],
)
def test_a_machine_costs_what_vertex_ai_lists(machine: str, price: float) -> None:
    found = pricing.estimate(body((machine, 1)), prices.listed())
    assert found.items[0].dollars == pytest.approx(price, rel=1e-5)
    assert found.items[1].what == "100 GiB pd-ssd"
    assert found.items[1].dollars == pytest.approx(100 * 0.000267808, rel=1e-4)


def test_the_page_on_google_cloud_says_what_the_table_gives() -> None:
    page = (ROOT / "docs/google-cloud.md").read_text()
    training = body(("n1-standard-8", 1), ("n1-standard-8", 4), ("n1-standard-4", 3))  # examples/pets/job.yaml
    smoke = body(*[("n1-standard-4", 1)] * 3)  # tools/smoke/job.yaml
    said = {
        "4 workers `n1-standard-8`, 3 parameter servers `n1-standard-4`, 100 GB of SSD each | {} |": training,
        "| evaluation: 1 `n1-standard-4` | {} |": body(("n1-standard-4", 1)),
        "`n1-standard-4`, {} an hour in all": smoke,
    }
    for text, job in said.items():
        assert text.format(f"${pricing.estimate(job, prices.listed()).hourly:.2f}") in page


def test_pools_accelerators_and_disks_are_multiplied() -> None:
    job = body(("n1-standard-8", 1), ("n1-standard-8", 9), ("n1-standard-4", 3))
    worker = job["jobSpec"]["workerPoolSpecs"][1]
    worker["machineSpec"] |= {"acceleratorType": "NVIDIA_TESLA_T4", "acceleratorCount": 2}
    worker["diskSpec"] = {"bootDiskType": "pd-standard", "bootDiskSizeGb": 500}
    found = pricing.estimate(job, prices.listed())
    assert [(item.role, item.what, item.count) for item in found.items] == [
        ("chief", "n1-standard-8", 1),
        ("chief", "100 GiB pd-ssd", 1),
        ("worker", "n1-standard-8", 9),
        ("worker", "NVIDIA_TESLA_T4", 18),
        ("worker", "500 GiB pd-standard", 9),
        ("ps", "n1-standard-4", 3),
        ("ps", "100 GiB pd-ssd", 3),
    ]
    assert found.items[3].dollars == pytest.approx(18 * 0.4025)
    assert found.items[4].dollars == pytest.approx(9 * 500 * 0.04 / 730 * 1.15)
    assert found.hourly == pytest.approx(sum(item.dollars for item in found.items))


# The SKUs of a Vertex AI bill: $11.2660332 a GPU, $0.0293227 a core, $0.0025534 a GB; and Compute Engine's sums for the others.
@pytest.mark.parametrize(
    ("machine", "price"),
    [
        ("a3-highgpu-8g", 8 * 11.2660332 + 208 * 0.0293227 + 1872 * 0.0025534),
        ("a2-highgpu-1g", 3.673385 * 1.15),
        ("m1-ultramem-40", (40 * 0.0348 + 961 * 0.0051) * 1.15),
    ],
)
def test_a_large_machine_with_its_accelerators(machine: str, price: float) -> None:
    made, _ = machines.machine(machine)
    job = body((machine, 1))
    if made.accelerator_type:
        accelerators = {"acceleratorType": made.accelerator_type, "acceleratorCount": made.accelerator_count}
        job["jobSpec"]["workerPoolSpecs"][0]["machineSpec"] |= accelerators
    *parts, disk = pricing.estimate(job, prices.listed()).items
    assert sum(item.dollars for item in parts) == pytest.approx(price, rel=1e-5)
    assert disk.what == "100 GiB pd-ssd"


def test_every_machine_and_disk_that_may_be_asked_for_has_a_price() -> None:
    known = prices.listed()
    unpriced = [name for name in machines.names() if not _priced(known, machines.machine(name)[0].machine_type)]
    assert unpriced == ["cloud_tpu", "a4-highgpu-8g"]
    assert all(known.disk(kind) for kind in ("pd-ssd", "pd-standard", "hyperdisk-balanced"))


def _priced(known: prices.Prices, machine: str) -> bool:
    try:
        return known.machine(machine, False)[0] > 0
    except UserError:
        return False


def test_an_unknown_type_is_named() -> None:
    with pytest.raises(UserError, match=r"no price known of machine type cloud-tpu in launcher/prices.yaml \(\d{4}-"):
        pricing.estimate(body(("cloud-tpu", 1)), prices.listed())
    job = body(("n1-standard-8", 1))
    job["jobSpec"]["workerPoolSpecs"][0]["machineSpec"]["acceleratorType"] = "TPU_V2"
    with pytest.raises(UserError, match="no price known of accelerator TPU_V2"):
        pricing.estimate(job, prices.listed())


def test_every_known_machine_has_a_size() -> None:
    assert [name for name in machines.names() if prices.shape(machines.machine(name)[0].machine_type) is None] == []


@pytest.mark.parametrize("strategy", ["SPOT", "FLEX_START"])
def test_a_cheaper_way_without_a_known_price_is_counted_in_full_and_said_to_be(strategy: str) -> None:
    full, other = (pricing.estimate(body(("n1-standard-4", 1), strategy=one), prices.listed()) for one in (None, strategy))
    assert other.upper_bound and not full.upper_bound
    assert other.hourly == full.hourly


def sku(text: str, dollars: float, usage: str = "OnDemand", region: str = "us-central1") -> dict[str, Any]:
    rates = [{"unitPrice": {"units": str(int(dollars)), "nanos": round(dollars % 1 * 1e9)}}]
    return {
        "description": text,
        "category": {"usageType": usage},
        "serviceRegions": [region],
        "pricingInfo": [{"pricingExpression": {"tieredRates": rates}}],
    }


def test_the_catalogue_is_read() -> None:
    found = prices.parsed(
        [
            sku("N1 Predefined Instance Core running in Americas", 0.04),
            sku("N1 Predefined Instance Ram running in Americas", 0.005),
            sku("N1 Predefined Instance Core running in Frankfurt", 9, region="europe-west3"),
            sku("N1 Predefined Instance Core running in Americas", 8, usage="Commit1Yr"),
            sku("Spot Preemptible N1 Predefined Instance Core running in Americas", 0.01, "Preemptible"),
            sku("Spot Preemptible N1 Predefined Instance Ram running in Americas", 0.001, "Preemptible"),
            sku("Nvidia Tesla T4 GPU running in Americas", 1.25),
            sku("Nvidia Tesla T4 GPU attached to Spot Preemptible VMs running in Americas", 0.2, "Preemptible"),
            sku("Compute optimized Core running in Americas", 0.03),
            sku("Memory-optimized Instance Ram running in Americas", 0.006),
            sku("M3 Memory-optimized Instance Ram running in Americas", 0.007),
            sku("Memory Optimized Upgrade Premium for Memory-optimized Instance Ram running in Americas", 0.001),
            sku("SSD backed PD Capacity", 0.2),
            {"description": "without a price", "category": {"usageType": "OnDemand"}, "serviceRegions": ["us-central1"]},
        ],
        "us-central1",
        "2030-01-01",
    )
    assert found.families == {("n1", "core"): 0.04, ("n1", "memory"): 0.005, ("c2", "core"): 0.03, ("m1", "memory"): 0.006}
    assert found.accelerators == {"NVIDIA_TESLA_T4": 1.25}
    job = body(("n1-standard-4", 2), strategy="SPOT")
    job["jobSpec"]["workerPoolSpecs"][0]["machineSpec"] |= {"acceleratorType": "NVIDIA_TESLA_T4", "acceleratorCount": 1}
    spot = pricing.estimate(job, found)
    assert not spot.upper_bound
    assert spot.hourly == pytest.approx(2 * (4 * 0.01 + 15 * 0.001 + 0.2 + 100 * 0.2 / 730) * 1.15)


def test_the_dearest_region_that_a_job_may_run_in_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    file = reading.parse("workerPools: [{role: chief, machineType: n1-standard-4}]\n", "job.yaml")
    job = resolve.training(OUTPUTS, file, RUN).job
    cheap = prices.listed()
    dear = dataclasses.replace(cheap, region="europe-west6", families={key: 2 * one for key, one in cheap.families.items()})

    def best(google: Any, today: str) -> tuple[prices.Prices, None]:
        return dear if google.region == dear.region else dataclasses.replace(cheap, region=google.region), None

    monkeypatch.setattr(prices, "best", best)
    session = attach(OUTPUTS)
    alone, told = quote.held(session, file, job, 2.0, [])
    assert alone.places["scheduling", "timeout"] == "--max-cost"
    assert f"the job ends after {alone.job.scheduling.timeout} at the latest: $2.00 of $2.00" in told
    hourly = pricing.estimate(vertex.custom_job(job), dear).hourly
    held, told = quote.held(session, file, job, 2.0, ["us-east1", "europe-west6"])
    assert held.job.scheduling.timeout == f"{math.floor(2 / hourly * 3600)}s" != alone.job.scheduling.timeout
    assert any("europe-west6" in line for line in told)
    own = reading.parse("scheduling: {timeout: 700s}\n", "job.yaml")
    assert quote.held(session, own, resolve.training(OUTPUTS, own, RUN).job, 2.0, [])[0] == own


@pytest.mark.parametrize(("own", "fallback"), [("europe-west4", []), ("us-central1", ["europe-west4"])])
def test_another_region_s_prices_limit_nothing(own: str, fallback: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    file = reading.parse("workerPools: [{role: chief, machineType: n1-standard-4}]\n", "job.yaml")
    outputs = OUTPUTS.model_copy(update={"region": own})
    job = resolve.training(outputs, file, RUN).job
    monkeypatch.setattr(prices, "best", lambda google, today: (prices.listed(), "The catalogue could not be read: x"))
    with pytest.raises(UserError) as caught:
        quote.held(attach(outputs), file, job, 2.0, fallback)
    assert str(caught.value).startswith(
        "--max-cost 2: no prices of europe-west4 are known (The catalogue could not be read: x), and by those of us-central1"
    )
    assert "enable cloudbilling.googleapis.com" in str(caught.value)


def test_a_sum_becomes_a_timeout() -> None:
    assert pricing.timeout_within(body(("n1-standard-4", 1)), 10.0, 2.5) == "14400s"
    assert pricing.timeout_within(body(("n1-standard-4", 1)), 10.0, 0.001) == "604800s"  # Vertex AI's own limit
    assert pricing.timeout_within(body(("n1-standard-4", 1), timeout="3600s"), 10.0, 2.5) == "3600s"


@pytest.mark.parametrize(
    ("timeout", "most", "said"),
    [
        (None, 0.10, r"costs \$2.50 an hour, so \$0.10 end it after 144 s.*allow at least \$0.42"),
        ("36000s", 10.0, r"timeout of 36000 s costs up to \$25.00; set it to at most 14400s.*or allow \$25.00"),
        (None, 0.0, "must be an amount of US dollars above 0"),
        (None, float("nan"), "must be an amount of US dollars above 0"),
    ],
)
def test_a_plan_that_cannot_fit_is_refused(timeout: str | None, most: float, said: str) -> None:
    with pytest.raises(UserError, match=said):
        pricing.timeout_within(body(("n1-standard-4", 1), timeout=timeout), most, 2.5)


@given(st.floats(0.01, 1e5), st.floats(0.01, 1e4))
def test_a_timeout_never_costs_more_than_allowed(most: float, hourly: float) -> None:
    try:
        text = pricing.timeout_within(body(("n1-standard-4", 1)), most, hourly)
    except UserError:
        assert most / hourly * 3600 < pricing.LEAST
        return
    assert float(text.removesuffix("s")) / 3600 * hourly <= most * (1 + 1e-9)
