"""Quotas of Vertex AI's custom training, for what the job asks, and where its accelerators are.

Metric names: https://cloud.google.com/vertex-ai/docs/quotas (`custom_model_training_cpus` for N1 and E2 machines, `…_n2_cpus`
and the like for other families, `…_nvidia_t4_gpus`, and the same with `preemptible_` for Spot and FLEX_START, see
https://cloud.google.com/vertex-ai/docs/training/schedule-jobs-dws).
Limits: `serviceusage.services.consumerQuotaMetrics.list`, which is in v1beta1 only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from launcher.cost import prices
from launcher.cost.pricing import strategy
from launcher.doctor.case import Case, Finding, error, ok, skipped
from launcher.google.api import GoogleError

PREFIX = "aiplatform.googleapis.com/custom_model_training_"
PAGE = "https://console.cloud.google.com/iam-admin/quotas"
UNLIMITED = -1
_GPUS = {"NVIDIA_H100_80GB": "h100", "NVIDIA_H100_MEGA_80GB": "h100_mega", "NVIDIA_H200_141GB": "h200"}
"""Accelerators whose metric leaves out the memory that their name has."""


def quotas(case: Case) -> Finding:
    """What the job asks is not above what the project may have; what other jobs use of it now is not known."""
    if case.body is None:
        return skipped("depends on the job: name its file with --config")
    parent = f"projects/{case.outputs.project}/services/aiplatform.googleapis.com"
    metrics = case.session.google.pages(
        "serviceusage.services.consumerQuotaMetrics.list@v1beta1", "metrics", parent=parent, pageSize=500
    )
    try:
        limits = read(metrics, case.session.google.region)
    except GoogleError as failure:
        if failure.status in (404, 501):  # what stands in for Google
            return skipped("the service tells no quotas")
        raise
    wanted = asked(case)
    low = {name: (need, limits[name]) for name, need in wanted.items() if name in limits and limits[name] < need}
    if low:
        said = "; ".join(f"{PREFIX}{name}: {need} asked, {limit} allowed" for name, (need, limit) in low.items())
        return error(
            f"{said} in {case.session.google.region}",
            f"{PAGE}?project={case.outputs.project} (filter: {PREFIX}{next(iter(low))})",
        )
    known = [f"{name} {need}/{_amount(limits[name])}" for name, need in wanted.items() if name in limits]
    unknown = [name for name in wanted if name not in limits]
    if not known:
        return skipped(f"no limit found of {', '.join(unknown)}")
    return ok(", ".join(known) + (f" (no limit found of {', '.join(unknown)})" if unknown else ""))


def asked(case: Case) -> dict[str, int]:
    """{metric without PREFIX: how many} of the job."""
    spot = "preemptible_" if case.body and strategy(case.body) in ("SPOT", "FLEX_START") else ""
    cores: dict[str, float] = {}
    for count, pool in case.pools():
        machine = pool["machineSpec"]["machineType"]
        if size := prices.shape(machine):
            family = machine.partition("-")[0]
            name = f"{spot}cpus" if family in ("n1", "e2") else f"{spot}{family}_cpus"
            cores[name] = cores.get(name, 0) + count * size[0]
    found = {name: math.ceil(number) for name, number in cores.items()}
    for kind, count in case.accelerators().items():
        if kind.startswith("NVIDIA_"):
            name = _GPUS.get(kind, kind.lower().removeprefix("nvidia_").removeprefix("tesla_"))
            found[f"{spot}nvidia_{name}_gpus"] = count
    return found


def read(metrics: Iterable[Mapping[str, Any]], region: str) -> dict[str, float]:
    """{metric without PREFIX: limit in the region} of what the service lists; an unlimited one is infinite."""
    found: dict[str, float] = {}
    for metric in metrics:
        name = str(metric.get("metric", ""))
        for limit in metric.get("consumerQuotaLimits", ()) if name.startswith(PREFIX) else ():
            buckets = {bucket.get("dimensions", {}).get("region"): bucket for bucket in limit.get("quotaBuckets", ())}
            bucket = buckets.get(region, buckets.get(None))
            if bucket and "effectiveLimit" in bucket:
                value = int(bucket["effectiveLimit"])
                found[name.removeprefix(PREFIX)] = math.inf if value == UNLIMITED else value
    return found


def _amount(limit: float) -> str:
    return "unlimited" if limit == math.inf else f"{limit:g}"


def region(case: Case) -> Finding:
    """Compute Engine has the job's accelerators in the region; where it has none, Vertex AI cannot either."""
    asked_for = sorted(case.accelerators())
    wanted = [kind for kind in asked_for if kind.startswith("NVIDIA_")]
    others = ", ".join(kind for kind in asked_for if kind not in wanted)
    if case.body is None:
        return skipped("depends on the job: name its file with --config")
    if not asked_for:
        return ok("the job asks for no accelerator")
    unknown = (
        f"Compute Engine is not asked about {others}: https://cloud.google.com/vertex-ai/docs/general/locations lists where"
    )
    if not wanted:
        return skipped(unknown)
    here = case.session.google.region
    for kind in wanted:
        name = kind.lower().replace("_", "-")
        scopes: dict[str, Any] = case.session.google.call(
            "compute.acceleratorTypes.aggregatedList", project=case.outputs.project, filter=f'name="{name}"', maxResults=500
        ).get("items", {})
        zones = {scope.removeprefix("zones/") for scope, found in scopes.items() if found.get("acceleratorTypes")}
        regions = sorted({zone.rpartition("-")[0] for zone in zones})
        if here not in regions:
            elsewhere = ", ".join(regions[:6]) or "none that your project sees"
            return error(
                f"{here} has no {kind}; regions that have: {elsewhere}", "pulumi config set gcp:region REGION && pulumi up"
            )
    return ok(f"{here} has {', '.join(wanted)}" + (f"; {unknown}" if others else ""))
