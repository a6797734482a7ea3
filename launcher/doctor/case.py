"""What a check is given, and what it gives back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from launcher.google.api import GoogleError, split
from launcher.launch import inputs
from launcher.stack.session import Session

if TYPE_CHECKING:
    from infra.outputs import StackOutputs

OK, WARNING, ERROR, SKIPPED = "ok", "warning", "error", "skipped"


@dataclass(frozen=True)
class Finding:
    """One check's answer: its state (ok, warning, error, skipped), a sentence, and the command that mends it."""

    state: str
    text: str
    fix: str | None = None


Check = Callable[["Case"], Finding]


def ok(text: str) -> Finding:
    """All is well."""
    return Finding(OK, text)


def warning(text: str, fix: str) -> Finding:
    """It works, but."""
    return Finding(WARNING, text, fix)


def error(text: str, fix: str) -> Finding:
    """A job would fail, or not start."""
    return Finding(ERROR, text, fix)


def skipped(reason: str, fix: str | None = None) -> Finding:
    """Nobody knows, for this reason; `fix` is what would let one know."""
    return Finding(SKIPPED, reason, fix)


@dataclass(frozen=True)
class Case:
    """A stack, and the job that is to be launched on it: `body` is that of `customJobs.create`, None when no job is given."""

    session: Session
    body: Mapping[str, Any] | None = None
    run: str | None = None
    local: tuple[str, ...] = ()
    """Packages that a launch uploads from this machine."""
    found: dict[str, Any] = field(default_factory=dict, compare=False)
    """What one check leaves for a later one."""

    @property
    def outputs(self) -> StackOutputs:
        return self.session.outputs

    @property
    def account(self) -> str:
        """The email of the account that the job runs as: its own, or the stack's."""
        return (self.body or {}).get("jobSpec", {}).get("serviceAccount") or self.outputs.service_account

    def pools(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """(replicas, worker pool) of each pool of the job that is not empty."""
        for pool in self.body["jobSpec"]["workerPoolSpecs"] if self.body else ():
            if count := int(pool.get("replicaCount", 0)):
                yield count, pool

    def packages(self) -> list[str]:
        """The packages that replicas install: the job's, or the stack's when no job is given."""
        if self.body is None:
            return list(self.outputs.package_uris)
        found = (uri for _, pool in self.pools() for uri in pool.get("pythonPackageSpec", {}).get("packageUris", ()))
        return list(dict.fromkeys(found))

    def images(self) -> list[str]:
        """The images that replicas run."""
        if self.body is None:
            return [self.outputs.executor_image_uri]
        specs = ({**pool.get("pythonPackageSpec", {}), **pool.get("containerSpec", {})} for _, pool in self.pools())
        return list(dict.fromkeys(str(spec.get("imageUri") or spec.get("executorImageUri")) for spec in specs))

    def pipeline_config(self) -> str | None:
        """The URI of the pipeline configuration: the program's argument, or the stack's; None if the job names none."""
        if self.body is None:
            return self.outputs.pipeline_config_path
        return next((uri for _, pool in self.pools() if (uri := inputs.configuration(pool))), None)

    def accelerators(self) -> dict[str, int]:
        """How many of each accelerator the job asks for."""
        found: dict[str, int] = {}
        for count, pool in self.pools():
            machine = pool.get("machineSpec", {})
            if kind := machine.get("acceleratorType"):
                found[kind] = found.get(kind, 0) + count * int(machine.get("acceleratorCount", 1))
        return found

    def matching(self, pattern: str) -> list[dict[str, Any]]:
        """The objects that a `gs://` pattern means (`*` and `?` not across slashes). Raises GoogleError."""
        bucket, name = split(pattern)
        prefix = re.split(r"[*?\[]", name, maxsplit=1)[0]
        items = self.session.google.pages("storage.objects.list", "items", bucket=bucket, prefix=prefix)
        depth = len(PurePosixPath(name).parts)
        return [
            item
            for item in items
            if len(PurePosixPath(item["name"]).parts) == depth and PurePosixPath(item["name"]).match(name)
        ]

    def object(self, uri: str) -> dict[str, Any] | None:
        """An object's resource, or None when there is none. Raises GoogleError."""
        bucket, name = split(uri)
        try:
            found: dict[str, Any] = self.session.google.call("storage.objects.get", bucket=bucket, object=name)
        except GoogleError as failure:
            if failure.status == 404:
                return None
            raise
        return found
