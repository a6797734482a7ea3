"""A replica as a container of this machine's Docker engine ($DOCKER_HOST, else the engine's usual socket).

The replica's process is `python -m localcloud.jobs.container FILE`: it creates the container, copies what that writes to its
own output, hands SIGTERM on, ends with the container's exit code and removes it. So a container is watched, restarted,
cancelled and adopted as every other replica is. A holder that was killed cannot clean up; `remove` does that for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import DeviceRequest, LogConfig

from localcloud.jobs import cluster
from localcloud.jobs.environments import Interrupted
from localcloud.jobs.limits import DISK_POLL, OUT_OF_DISK, OUT_OF_MEMORY, disk, note, over_disk
from localcloud.jobs.memory import gib
from localcloud.jobs.mounts import Mounts

JOB_LABEL = "odcloud.job"
REPLICA_LABEL = "odcloud.replica"
MOUNT = "/gcs"  # where Vertex AI shows a job its buckets
TIMEOUT = 20  # seconds for an answer of the engine
START_TIMEOUT = 300  # and for a container to be made or started, on a busy machine
# As a shell says it: the program (here: the image or its command) cannot be started.
CANNOT_START = 126


class EngineError(Exception):
    """The engine or the image that a containerSpec needs is not there; the message says what to do."""


def unready(image: str, cancelled: threading.Event) -> str | None:
    """Have the engine hold an image, pulled when it is not there. The reason why that cannot be, else None.

    Raises Interrupted.
    """
    try:
        _fetch(image, cancelled)
    except EngineError as error:
        return str(error)
    return None


def _fetch(image: str, cancelled: threading.Event) -> None:
    client = _engine()
    try:
        client.images.get(image)
        return
    except ImageNotFound:
        pass
    except (DockerException, OSError) as error:
        raise EngineError(f"The Docker engine refuses the image {image}: {_said(error)}") from error
    try:
        repository, _, tag = image.partition("@") if "@" in image else _tagged(image)
        for event in client.api.pull(repository, tag=tag or "latest", stream=True, decode=True):
            if cancelled.is_set():
                raise Interrupted
            if "error" in event:
                raise EngineError(_no_image(image, event["error"]))
    except (DockerException, OSError) as error:
        raise EngineError(_no_image(image, _said(error))) from error
    finally:
        client.close()


@dataclass(frozen=True)
class Limits:
    """What a container may have: bytes of memory and disk, CPUs (None: all of the machine's), and the UUIDs of its GPUs."""

    memory: int
    disk: int
    cpus: int | None
    gpus: Sequence[str]


def volumes(seen: Mounts, buckets: Path) -> dict[str, dict[str, str]]:
    """What is mounted at /gcs: every bucket, or each that the account may see."""
    if seen.everything:
        return {str(buckets): {"bind": MOUNT, "mode": "rw"}}
    return {
        str(path): {"bind": f"{MOUNT}/{name}", "mode": mode}
        for mode, found in (("rw", seen.writable), ("ro", seen.readable))
        for name, path in found.items()
    }


def command(
    spec: Mapping[str, Any],
    replica: cluster.Replica,
    variables: Mapping[str, str],
    *,
    volumes: Mapping[str, Any],
    limits: Limits,
    folder: Path,
    marker: str,
) -> list[str]:
    """The command line of a container replica's process. What the process is to do is written into the replica's folder.

    The container runs as the local cloud's own user, to whom the files in the buckets belong.
    """
    container = spec["workerPoolSpecs"][replica.pool]["containerSpec"]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "container.json"
    wanted = {
        "image": container["imageUri"],
        "entrypoint": container.get("command") or None,
        "command": container.get("args") or None,
        "environment": dict(variables),
        "volumes": dict(volumes),
        "user": f"{os.getuid()}:{os.getgid()}",
        "network_mode": "host",  # the addresses in CLUSTER_SPEC are on this machine's loopback
        "labels": {JOB_LABEL: job_of(marker), REPLICA_LABEL: marker},
    }
    file.touch(mode=0o600)  # the variables may hold secrets
    file.write_text(json.dumps({"create": wanted, "limits": asdict(limits)}))
    return [sys.executable, "-m", __name__, str(file)]


def job_of(marker: str) -> str:
    """The part of a replica's marker that all of a job's replicas share."""
    return marker.rsplit(":", 2)[0]


def remove(marker: str) -> None:
    """Remove the container of a replica that has ended, should it be left. An engine that does not answer is passed over."""
    _remove(f"{REPLICA_LABEL}={marker}", frozenset())


def remove_all(job: str, keep: frozenset[str] = frozenset()) -> None:
    """Remove every container of a job, but for those whose replica's marker is to be kept."""
    _remove(f"{JOB_LABEL}={job}", keep)


def _remove(label: str, keep: frozenset[str]) -> None:
    try:
        client = docker.from_env(timeout=TIMEOUT)
        try:
            for container in client.containers.list(all=True, ignore_removed=True, filters={"label": label}):
                if container.labels.get(REPLICA_LABEL) not in keep:
                    _discard(container)
        finally:
            client.close()
    except (DockerException, OSError):
        pass


def _discard(container: Any) -> None:
    try:
        container.remove(force=True, v=True)
    except NotFound:
        pass
    except APIError as error:
        if error.status_code != 409:  # its removal is under way already
            raise


def _engine() -> Any:
    try:
        client = docker.from_env(timeout=TIMEOUT)
        client.ping()
        return client
    except (DockerException, OSError) as error:
        where = os.environ.get("DOCKER_HOST") or "its usual socket"
        raise EngineError(
            f"containerSpec needs a Docker engine, and none answers at {where}: start one (and set DOCKER_HOST for "
            f"`odcloud local start`, where it listens elsewhere), or use pythonPackageSpec. ({_said(error)})"
        ) from error


def _tagged(image: str) -> tuple[str, str, str]:
    """An image's name without and with its tag, which stands behind the last colon that is no port's."""
    name, _, tag = image.rpartition(":")
    return (name, ":", tag) if name and "/" not in tag else (image, "", "")


def _no_image(image: str, said: str) -> str:
    return f"The image {image} is not on the Docker engine and cannot be pulled: {said} Build it with `odcloud image build`."


def _said(error: Exception) -> str:
    text = str(getattr(error, "explanation", None) or error).strip().splitlines() or [type(error).__name__]
    return text[0].rstrip(".") + "."


def resources(limits: Limits, engine: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a container for its limits, as far as the engine (by its /info) can hold a container to them."""
    wanted: dict[str, Any] = {}
    if engine.get("MemoryLimit"):
        wanted["mem_limit"] = limits.memory
        if engine.get("SwapLimit"):
            wanted["memswap_limit"] = limits.memory  # memory and swap together: no swap
    if limits.cpus and engine.get("CpuCfsQuota") and limits.cpus < engine.get("NCPU", 0):
        wanted["nano_cpus"] = limits.cpus * 10**9
    if limits.gpus:
        wanted["device_requests"] = [DeviceRequest(device_ids=list(limits.gpus), capabilities=[["gpu"]])]
    return wanted


def hold(wanted: dict[str, Any], limits: Limits, folder: Path) -> int:
    """Run a container to its end; its exit code. SIGTERM is handed on to it.

    That it ran out of memory, or was killed since its disk would be full, is noted in `folder`."""
    client = docker.from_env(timeout=START_TIMEOUT)
    stop = threading.Event()
    wanted = {**wanted, **resources(limits, client.info())}
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    # Output is kept by the local cloud, so the engine need not.
    container = client.containers.create(**wanted, detach=True, log_config=LogConfig(type=LogConfig.types.NONE))
    try:
        output = container.attach(stdout=True, stderr=True, stream=True, demux=True)
        if stop.is_set():
            return 128 + signal.SIGTERM
        container.start()
        threading.Thread(target=_hand_on, args=(stop, container.id), daemon=True).start()
        threading.Thread(target=_watch_disk, args=(container.id, limits.disk, folder), daemon=True).start()
        for out, err in output:
            for data, stream in ((out, sys.stdout.buffer), (err, sys.stderr.buffer)):
                if data:
                    stream.write(data)
                    stream.flush()
        status = int(container.wait(timeout=None)["StatusCode"])
        container.reload()
        if container.attrs["State"].get("OOMKilled"):
            note(folder, OUT_OF_MEMORY, f"Its container may take {gib(limits.memory)}.")
        return status
    finally:
        _discard(container)


def _hand_on(stop: threading.Event, container: str) -> None:
    stop.wait()
    client = docker.from_env(timeout=START_TIMEOUT)  # of its own: the other one is busy with the output
    with contextlib.suppress(APIError):  # it may have ended meanwhile
        client.api.kill(container, "SIGTERM")


def _watch_disk(container: str, limit: int, folder: Path) -> None:
    """Kill a container when what it wrote outside the buckets takes more bytes than the limit, by the engine's own count."""
    client = docker.from_env(timeout=3 * TIMEOUT)  # which goes through all its files
    wait = 1.0  # less at the beginning, when most is written
    while True:
        time.sleep(wait)
        wait = min(2 * wait, DISK_POLL)
        with contextlib.suppress(DockerException, OSError):  # it is asked again
            taken = disk(folder) + sum(
                found.get("SizeRw") or 0 for found in client.api.containers(size=True, filters={"id": container})
            )
            if taken > limit:
                note(folder, OUT_OF_DISK, over_disk(taken, limit))
                client.api.kill(container)
                return


def main(argv: list[str]) -> int:
    """The process of a container replica."""
    file = Path(argv[0])
    given = json.loads(file.read_text())
    try:
        return hold(given["create"], Limits(**given["limits"]), file.parent)
    except (DockerException, OSError) as error:
        print(f"The container of {given['create']['image']} cannot be run: {_said(error)}", file=sys.stderr, flush=True)
        return CANNOT_START


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
