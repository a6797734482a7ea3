"""Faults on demand: the next calls of a service fail, are delayed or lose their answer; the disk is full; the clock is wrong;
a replica is killed, pre-empted or finds its disk full.

Faults are kept in the server's memory and end with it. They are set through /_chaos, which wants the token as every call does.
"""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from localcloud.api import ApiError, invalid, not_found
from localcloud.cloud import PROJECT_NUMBER
from localcloud.jobs import store
from localcloud.jobs.dialect import dialect_of
from localcloud.jobs.states import ReplicaState
from localcloud.services.serviceusage import TITLES

if TYPE_CHECKING:
    from localcloud.cloud import Cloud

PATH = "_chaos"
MAX_SKEW = 10 * 366 * 24 * 3600.0  # seconds
KINDS = ("429", "503", "disabled", "reset", "lost", "delay")
STRIKES = ("kill", "preempt", "fill")
# How the names of methods begin that write nothing, though they are sent as POST.
_READS = ("get", "list", "test", "query", "search", "tail")
MAX_SECONDS = 600.0
MAX_CALLS = 1_000_000


class HangUp(Exception):
    """The connection is to be reset without an answer."""


@dataclass
class Fault:
    """What the next `calls` calls meet of the methods whose id is `target` or begins with `target` and a dot.

    429 and 503: an error, and nothing is done. disabled: the same, a 403 as if the service were not switched on. reset: no
    answer, and nothing is done. lost: no answer, but the call is carried out. delay: the call is carried out after `seconds`.
    """

    target: str
    kind: str
    calls: int
    seconds: float = 0.0


class Faults:
    """The faults that are set, in the order in which they were; each call meets the first that is meant for it."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._disk_full = False

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def fill_disk(self) -> None:
        """From now on what is to be written finds no space."""
        self._disk_full = True

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()
            self._disk_full = False
            self._cloud.skew = timedelta()

    def state(self) -> dict[str, Any]:
        """`{"faults", "disk"?, "skew"?}`: what is set; the skew in seconds."""
        with self._lock:
            found: dict[str, Any] = {"faults": [asdict(fault) for fault in self._faults]}
        if self._disk_full:
            found["disk"] = "full"
        if self._cloud.skew:
            found["skew"] = self._cloud.skew.total_seconds()
        return found

    def any(self) -> bool:
        """Whether a call may meet one."""
        return bool(self._faults)

    def check_disk(self, http_method: str, method_id: str) -> None:
        """Raises OSError, as the write of such a call would on a disk that is full."""
        if self._disk_full and http_method in ("POST", "PUT", "PATCH") and not method_id.rpartition(".")[2].startswith(_READS):
            raise OSError(errno.ENOSPC, "a disk filled by `odcloud local chaos`")

    def take(self, method_id: str) -> Fault | None:
        """The fault that a call of a method meets; it counts as one call."""
        with self._lock:
            for fault in self._faults:
                if _within(method_id, fault.target):
                    fault.calls -= 1
                    if not fault.calls:
                        self._faults.remove(fault)
                    return fault
        return None


def read_fault(body: Mapping[str, Any], method_ids: Callable[[], list[str]]) -> Fault:
    """A fault from a request's JSON. Raises ApiError 400 naming what is wrong."""
    target, kind, calls, seconds = body.get("target"), body.get("kind"), body.get("calls", 1), body.get("seconds", 0)
    if kind not in KINDS:
        raise invalid(f"kind must be one of {', '.join(KINDS)}, but is {kind!r}.", field_path="kind")
    if not isinstance(target, str) or not any(_within(each, target) for each in method_ids()):
        message = (
            f"{target!r} is neither a service of the local cloud, such as storage, nor a method, such as storage.objects.get."
        )
        raise invalid(message, field_path="target")
    if type(calls) is not int or not 1 <= calls <= MAX_CALLS:
        raise invalid(f"calls must be a number from 1 to {MAX_CALLS}, but is {calls!r}.", field_path="calls")
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not 0 <= seconds <= MAX_SECONDS or (kind == "delay") != bool(seconds):
        message = (
            f"seconds must be more than 0 and at most {MAX_SECONDS:g} for a delay, and is for a delay only, but is {seconds!r}."
        )
        raise invalid(message, field_path="seconds")
    return Fault(target, kind, calls, float(seconds))


def read_skew(body: Mapping[str, Any]) -> timedelta:
    """By how much the clock is to be wrong. Raises ApiError 400."""
    seconds = body["skew"]
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not -MAX_SKEW <= seconds <= MAX_SKEW:
        raise invalid(
            f"skew must be a number of seconds, at most {MAX_SKEW:g} either way, but is {seconds!r}.", field_path="skew"
        )
    return timedelta(seconds=seconds)


def strike(cloud: Cloud, body: Mapping[str, Any]) -> dict[str, Any]:
    """Kill or pre-empt a running replica, or let it find its disk full. Raises ApiError 400, 404."""
    action = body.get("action")
    if action not in STRIKES:
        raise invalid(f"action must be one of {', '.join(STRIKES)}, but is {action!r}.", field_path="action")
    number = str(body.get("job", "")).rpartition("/")[2]
    row = store.job(cloud.db, number)
    if row is None:
        raise not_found(f"There is no job {number!r}.")
    dialect = dialect_of(json.loads(row["body"]))
    name = str(body.get("replica", ""))
    running = [each.replica for each in store.replicas(cloud.db, number) if each.state is ReplicaState.RUNNING]
    for replica in running:
        if name in (replica.task_name, dialect.task_name(replica)):
            cloud.runner.strike(number, replica, action)
            return {"job": number, "replica": dialect.task_name(replica), "action": action}
    names = ", ".join(dialect.task_name(replica) for replica in running) or "none"
    raise not_found(f"Job {number} has no running replica {name!r}; those that run: {names}.")


def refuse(fault: Fault) -> None:
    """Raises what a call meets before it is carried out, if anything."""
    if fault.kind in ("429", "503"):
        raise ApiError(int(fault.kind), message=f"A fault set by `odcloud local chaos` ({fault.target}).")
    if fault.kind == "disabled":
        raise disabled(fault.target.partition(".")[0])
    if fault.kind == "reset":
        raise HangUp


def disabled(service: str) -> ApiError:
    """What a service says that is switched off in the project, or has not noticed yet that it was switched on."""
    name, project = f"{service}.googleapis.com", f"projects/{PROJECT_NUMBER}"
    page = f"https://console.developers.google.com/apis/api/{name}/overview?project={PROJECT_NUMBER}"
    message = (
        f"{TITLES.get(name, name)} has not been used in project {PROJECT_NUMBER} before or it is disabled. Enable it by "
        f"visiting {page} then retry. If you enabled this API recently, wait a few minutes for the action to propagate to our "
        "systems and retry."
    )
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "SERVICE_DISABLED",
        "domain": "googleapis.com",
        "metadata": {"service": name, "consumer": project},
    }
    return ApiError(403, message=message, details=[info], reason="accessNotConfigured")


def _within(method_id: str, target: str) -> bool:
    return method_id == target or method_id.startswith(f"{target}.")
