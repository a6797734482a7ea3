"""What machine types have, what replicas take, and how GPUs are dealt out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localcloud.cloud import Cloud, open_cloud
from localcloud.home import Home
from localcloud.jobs import container, gpus, launch, limits, machines, states, store
from localcloud.jobs.cluster import Replica
from localcloud.server import load_services


@pytest.mark.parametrize(
    ("machine_type", "cpus", "gib"),
    [
        ("n1-standard-4", 4, 15),
        ("n1-highmem-8", 8, 52),
        ("n1-highcpu-16", 16, 14.4),
        ("e2-standard-2", 2, 8),
        ("n2-highmem-4", 4, 32),
        ("g2-standard-12", 12, 48),
        ("a2-highgpu-1g", 12, 85),
        ("a2-megagpu-16g", 96, 1360),
        ("a2-ultragpu-2g", 24, 340),
        ("a3-highgpu-8g", 208, 1872),
        ("c3-standard-4-lssd", 4, 16),
        ("a3-ultragpu-8g", 224, 2952),
        ("n1-standard-3", None, None),
        ("a2-highgpu-3g", None, None),
        ("cloud-tpu", None, None),
        ("m1-ultramem-40", None, None),
        ("", None, None),
    ],
)
def test_machine_types(machine_type: str, cpus: int | None, gib: float | None) -> None:
    size = machines.size_of(machine_type)
    assert (size.cpus, size.memory) == (cpus, None if gib is None else pytest.approx(gib * 2**30, abs=1))


@pytest.mark.parametrize(
    ("machine_type", "there"),
    [
        ("n1-standard-1", True),
        ("n1-highmem-1", False),
        ("n1-standard-3", False),
        ("n1-standard", False),
        ("e2-highmem-32", False),
        ("n2d-standard-224", True),
        ("c3-standard-4-lssd", True),
        ("g2-standard-12", True),
        ("g2-standard-64", False),
        ("a2-megagpu-16g", True),
        ("a2-megagpu-8g", False),
        ("a2-highgpu-8", False),
        ("a3-ultragpu-8g", True),
        ("a4-highgpu-8g", True),
        ("m1-ultramem-40", True),  # of families whose sizes are not known
        ("g4-standard-48", True),
        ("cloud-tpu", True),
    ],
)
def test_types_of_sizes_that_do_not_exist(machine_type: str, there: bool) -> None:
    assert machines.exists(machine_type) == there


@pytest.mark.parametrize(
    ("machine_type", "accelerator", "fits"),
    [
        ("n1-standard-8", "NVIDIA_TESLA_T4", True),
        ("n1-highmem-8", "NVIDIA_TESLA_K80", True),
        ("n1-standard-8", "NVIDIA_TESLA_A100", False),
        ("n2-standard-8", "NVIDIA_TESLA_T4", False),
        ("g2-standard-12", "NVIDIA_L4", True),
        ("g2-standard-12", "NVIDIA_TESLA_T4", False),
        ("a2-highgpu-1g", "NVIDIA_TESLA_A100", True),
        ("a2-ultragpu-1g", "NVIDIA_TESLA_A100", False),
        ("a2-ultragpu-1g", "NVIDIA_A100_80GB", True),
        ("a3-highgpu-8g", "NVIDIA_H100_80GB", True),
        ("a3-megagpu-8g", "NVIDIA_H100_MEGA_80GB", True),
        ("a3-ultragpu-8g", "NVIDIA_H200_141GB", True),
        ("a4-highgpu-8g", "NVIDIA_B200", True),
        ("a9-newgpu-1g", "NVIDIA_NEW", True),
        ("g4-standard-48", "NVIDIA_TESLA_T4", False),
        ("n1-standard-8", "ACCELERATOR_TYPE_UNSPECIFIED", True),
        ("cloud-tpu", "TPU_V3", True),
    ],
)
def test_accelerators_that_a_machine_can_have(machine_type: str, accelerator: str, fits: bool) -> None:
    assert machines.can_have(machine_type, accelerator) == fits


def test_disks_and_gpus_of_a_pool() -> None:
    assert machines.disk_of({}) == 100 * 2**30
    assert machines.disk_of({"diskSpec": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": 250}}) == 250 * 2**30
    assert machines.gpus_of({"machineSpec": {"machineType": "n1-standard-4"}}) == 0
    assert machines.gpus_of({"machineSpec": {"acceleratorType": "NVIDIA_TESLA_T4", "acceleratorCount": 2}}) == 2
    assert machines.gpus_of({"machineSpec": {"acceleratorType": "TPU_V3", "acceleratorCount": 8}}) == 0


def test_memory_of_a_session_with_its_children() -> None:
    grow = "import os, time; held = bytearray(os.urandom(1)) * (64 * 2**20); print('up', flush=True); time.sleep(600)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grow!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        for taken in (limits.memory([process.pid])[process.pid], limits.memory_exactly(process.pid)):
            assert 64 * 2**20 < taken < 128 * 2**20
    finally:
        os.killpg(process.pid, 9)
        process.communicate()
    assert limits.memory([process.pid]) == {process.pid: 0}


def test_what_forked_processes_share_counts_once() -> None:
    fork = (
        "import os, time; held = bytearray(os.urandom(1)) * (64 * 2**20)\n"
        "for _ in range(3):\n"
        "    if not os.fork(): time.sleep(600)\n"
        "print('up', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", fork], stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        assert limits.memory([process.pid])[process.pid] > 4 * 64 * 2**20
        assert 64 * 2**20 < limits.memory_exactly(process.pid) < 128 * 2**20
    finally:
        os.killpg(process.pid, 9)
        process.communicate()


def test_disk_that_files_take(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "file").write_bytes(os.urandom(300_000))
    (tmp_path / "out").symlink_to("/")
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(10**9)
    assert 300_000 <= limits.disk(tmp_path) < 400_000
    assert limits.disk(tmp_path / "none") == 0


def test_why_a_replica_was_stopped(tmp_path: Path) -> None:
    assert limits.noted(tmp_path) is None
    limits.note(tmp_path, limits.OUT_OF_MEMORY, "It took 2.0 GiB.")
    assert limits.noted(tmp_path) == ("out-of-memory", "It took 2.0 GiB.")
    message = states.failure_message("workerpool1-0", 137, ["last words"], limits.noted(tmp_path))
    expected = "The replica workerpool1-0 ran out-of-memory and exited with a non-zero status of 137(SIGKILL). It took 2.0 GiB."
    assert message == f"{expected}\nlast words"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_a_replica_has_no_more_cpus_than_its_machine() -> None:
    every = os.sched_getaffinity(0)
    seen = []
    for place in (7, 8):
        with launch.on_cpus(1, place):
            seen.append(os.sched_getaffinity(0))
        assert os.sched_getaffinity(0) == every
    assert [len(cpus) for cpus in seen] == [1, 1] and seen[0] != seen[1]
    for count in (None, len(every), 1000):
        with launch.on_cpus(count, 0):
            assert os.sched_getaffinity(0) == every


def test_limits_of_a_container_as_far_as_the_engine_can() -> None:
    wanted = container.Limits(memory=15 * 2**30, disk=2**30, cpus=1, gpus=["GPU-1"])
    able = {"MemoryLimit": True, "SwapLimit": True, "CpuCfsQuota": True, "NCPU": 2}
    told = container.resources(wanted, able)
    (request,) = told.pop("device_requests")
    assert request["DeviceIDs"] == ["GPU-1"] and request["Capabilities"] == [["gpu"]]
    assert told == {"mem_limit": 15 * 2**30, "memswap_limit": 15 * 2**30, "nano_cpus": 10**9}
    assert container.resources(container.Limits(2**30, 2**30, 4, []), {**able, "SwapLimit": False}) == {"mem_limit": 2**30}
    assert container.resources(container.Limits(2**30, 2**30, 1, []), {}) == {}


# GPUs. There are none where these tests run: a program of the same name stands in for NVIDIA's.


def fake_nvidia_smi(folder: Path, text: str, code: int = 0) -> str:
    folder.mkdir(exist_ok=True)
    path = folder / "nvidia-smi"
    path.write_text(
        f"#!/bin/sh\n[ \"$*\" = '--query-gpu=uuid --format=csv,noheader' ] || exit 2\nprintf '{text}'\nexit {code}\n"
    )
    path.chmod(0o755)
    return str(folder)


@pytest.mark.parametrize(
    ("text", "code", "found"),
    [
        ("GPU-aa\\nGPU-bb\\n", 0, ["GPU-aa", "GPU-bb"]),
        ("", 0, []),
        ("No devices were found\\n", 0, []),
        ("NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.\\n", 9, []),
    ],
)
def test_detection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, code: int, found: list[str]) -> None:
    monkeypatch.setenv("PATH", fake_nvidia_smi(tmp_path, text, code), prepend=os.pathsep)
    assert gpus.detect() == found


def test_no_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.detect() == []


def spec_of(*wanted: tuple[int, int]) -> dict[str, Any]:
    """Pools as (replicas, GPUs of each)."""
    return {
        "workerPoolSpecs": [
            {
                "replicaCount": str(count),
                "machineSpec": {"acceleratorType": "NVIDIA_TESLA_T4", "acceleratorCount": each} if each else {},
            }
            for count, each in wanted
        ]
    }


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    load_services()
    home = Home(tmp_path / "home")
    home.prepare()
    cloud = open_cloud(home, "")
    yield cloud
    cloud.close()


def insert(cloud: Cloud, number: str) -> None:
    store.insert_job(cloud.db, number, "us-central1", {}, "2026-01-01T00:00:00.000000Z")


def test_no_gpu_is_dealt_twice(cloud: Cloud) -> None:
    present = ["GPU-a", "GPU-b", "GPU-c"]
    insert(cloud, "1")
    insert(cloud, "2")
    first, second = spec_of((1, 1), (1, 1)), spec_of((1, 2))
    assert gpus.needed(first) == 2
    assert gpus.deal(cloud.db, "1", first, present) == 0
    assert gpus.deal(cloud.db, "2", second, present) == 1
    dealt = [gpus.of(cloud.db, *each) for each in (("1", Replica(0, 0)), ("1", Replica(1, 0)), ("2", Replica(0, 0)))]
    assert dealt == [["GPU-a"], ["GPU-b"], ["GPU-c"]]
    assert gpus.free(cloud.db, present) == []
    store.end_job(cloud.db, "1", states.SUCCEEDED, None, "2026-01-01T00:00:01.000000Z")
    assert gpus.free(cloud.db, present) == ["GPU-a", "GPU-b"]
    store.delete_job(cloud.db, "2")
    assert gpus.free(cloud.db, present) == present


def test_what_a_replica_sees() -> None:
    assert gpus.variables(["GPU-a", "GPU-b"]) == {
        "NVIDIA_VISIBLE_DEVICES": "GPU-a,GPU-b",
        "CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b",
    }
    assert gpus.variables([]) == {"NVIDIA_VISIBLE_DEVICES": "none", "CUDA_VISIBLE_DEVICES": ""}
