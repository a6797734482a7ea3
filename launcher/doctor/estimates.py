"""Whether disks and memories are large enough: rough sums, each told with what it is made of."""

from __future__ import annotations

from launcher.cost import prices
from launcher.cost.pricing import DEFAULT_DISK, pools
from launcher.doctor.case import Case, Finding, ok, skipped, warning
from launcher.terminal import size

GIB = 2**30
SYSTEM = 30 * GIB
"""Bytes of a boot disk that system and training image take, unpacked."""
UNPACKED = 12
"""How many times its compressed size a package takes while it is unpacked, built and installed, with what it brings along."""
PROGRAM = 2 * GIB
"""Bytes of memory of Python with TensorFlow and Model Garden, before the first image."""
ACTIVATIONS = 64
"""How many times an image's own float32 pixels a step keeps in memory: layers and their gradients."""


def disk(case: Case) -> Finding:
    """Boot disks hold image and packages. Data is read from the bucket and never copied to them."""
    if case.body is None:
        return skipped("depends on the job: name its file with --config")
    resources = [case.object(uri) for uri in case.packages()]
    need = SYSTEM + UNPACKED * sum(int(found.get("size", 0)) for found in resources if found)
    smallest = min(int(pool.get("diskSpec", {}).get("bootDiskSizeGb", DEFAULT_DISK[1])) for _, pool in case.pools()) * GIB
    if smallest < need:
        return warning(
            f"the smallest boot disk has {size(smallest)}, about {size(need)} are needed", "raise its size in the job file"
        )
    return ok(f"about {size(need)} needed, the smallest boot disk has {size(smallest)}")


def memory(case: Case) -> Finding:
    """A training replica holds the program, the shuffle buffer and a step's layers."""
    if case.body is None:
        return skipped("depends on the job: name its file with --config")
    config, record = case.found.get("config"), case.found.get("train record")
    if config is None or record is None:
        return skipped("depends on the data, which was not looked at")
    height, width = config["imageSize"]
    buffer = config["shuffleBuffer"] * record
    step = config["batchSize"] * height * width * 3 * 4 * ACTIVATIONS
    need = PROGRAM + buffer + step
    told = f"about {size(need)} needed (program {size(PROGRAM)}, shuffle buffer {size(buffer)}, a step {size(step)})"
    # Parameter servers hold variables alone.
    machines = {pool["machineSpec"]["machineType"]: pool for role, _, pool in pools(case.body) if role != "ps"}
    sizes = {name: shape[1] * GIB for name in machines if (shape := prices.shape(name))}
    if not sizes:
        return skipped(f"{told}; the memory of {', '.join(machines)} is not known")
    name = min(sizes, key=lambda one: sizes[one])
    if sizes[name] < need:
        return warning(
            f"{told}, {name} has {size(sizes[name])}", "a larger machine type, a smaller batch_size or shuffle_buffer_size"
        )
    return ok(f"{told}, {name} has {size(sizes[name])}")
