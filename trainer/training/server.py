"""A worker or a parameter server: serves until the chief says that training is over.

Nothing of the model is known here: the chief sends the graphs. Only TensorFlow is imported, so that the replica is up quickly.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from typing import NoReturn

from trainer import progress
from trainer.errors import InputError
from trainer.training import gpus
from trainer.training.cluster import WORKER, Cluster
from trainer.training.finish import FAILED, FinishMarker

_POLL_SECONDS = 1.0
# A lost chief is restarted by whoever runs the job; one that stays away so long is not coming back.
_CHIEF_LOST_SECONDS = 15 * 60
_CHIEF_LOST_EXIT_CODE = 1


def serve(cluster: Cluster, train_dir: str) -> NoReturn:
    """Starts this replica's server and ends the process when the chief is done. Never returns.

    Exits 0 when the chief has left its finish marker, 1 when no chief has answered for a quarter of an hour.
    Raises InputError when the address is taken.
    """
    marker = FinishMarker(train_dir)
    import tensorflow as tf

    if cluster.role == WORKER:
        gpus.warn_if_unseen()
    try:
        server = tf.distribute.Server(tf.train.ClusterSpec(cluster.spec()), job_name=cluster.role, task_index=cluster.index)
    except tf.errors.OpError as error:
        address = cluster.addresses[cluster.role][cluster.index]
        raise InputError(f"{cluster.name} cannot listen on {address}: {error.message}") from error
    progress.log(f"{cluster.name} serves on {server.target.removeprefix('grpc://')}")
    watch = _ChiefWatch(cluster.chief)
    while True:
        outcome = marker.read()
        if outcome:
            progress.log(f"{cluster.name} ends: training has {outcome}")
            leave(0)
        if watch.lost_for() > _CHIEF_LOST_SECONDS:
            progress.log(f"{cluster.name} ends: no chief at {cluster.chief} for {progress.duration(watch.lost_for())}", "ERROR")
            leave(_CHIEF_LOST_EXIT_CODE)
        time.sleep(_POLL_SECONDS)


def leave_when_failed(cluster: Cluster, train_dir: str) -> None:
    """Ends this process, from a thread of its own, once the chief says that training has failed."""
    marker = FinishMarker(train_dir)

    def watch() -> None:
        while marker.read() != FAILED:
            time.sleep(_POLL_SECONDS)
        progress.log(f"{cluster.name} ends: training has {FAILED}")
        leave(0)

    threading.Thread(target=watch, daemon=True).start()


def wait_for(addresses: list[str], seconds: float) -> None:
    """Waits until each of the replicas "host:port" accepts connections. Raises TimeoutError naming those that don't."""
    deadline = time.monotonic() + seconds
    missing = list(addresses)
    while missing:
        missing = [address for address in missing if not reachable(address)]
        if missing and time.monotonic() > deadline:
            raise TimeoutError(", ".join(missing))
        if missing:
            time.sleep(0.2)


def reachable(address: str) -> bool:
    """Whether something accepts connections at "host:port"."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return True
    except OSError:
        return False


def leave(code: int) -> NoReturn:
    """Ends the process at once: TensorFlow's servers have no way to be stopped, and a plain exit waits for their threads."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class _ChiefWatch:
    """Knocks at the chief's door from a thread of its own (a connection attempt may take seconds)."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._seen = time.monotonic()
        threading.Thread(target=self._run, daemon=True).start()

    def lost_for(self) -> float:
        """Seconds since the chief last answered, or since the start."""
        return time.monotonic() - self._seen

    def _run(self) -> None:
        while True:
            if reachable(self._address):
                self._seen = time.monotonic()
            time.sleep(10)
