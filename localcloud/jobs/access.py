"""What a job needs of the permissions of its account, and does not have. Each reason names the permission and the binding."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from localcloud import permissions
from localcloud.jobs import cluster, identity

if TYPE_CHECKING:
    from localcloud.cloud import Cloud

_BUCKET = re.compile(r"gs://([a-z0-9][-a-z0-9._]*)")
_IMAGE = re.compile(r"([a-z0-9-]+)-docker\.pkg\.dev/([a-z0-9-]+)/([a-z0-9-]+)/")


def unknown_account(cloud: Cloud, spec: Mapping[str, Any]) -> str | None:
    """Why a job cannot run as the account that it names, in Vertex AI's words; None when it can."""
    email = spec.get("serviceAccount")
    if not email or cloud.db.one("SELECT 1 FROM service_accounts WHERE email = ?", (email,)):
        return None
    return f"You do not have permission to act as service_account: {email}. (or it may not exist)"


def refused_at_start(cloud: Cloud, spec: Mapping[str, Any]) -> list[str]:
    """Why a job cannot start: it may not read its packages, pull its images or write its log."""
    return _unless_allowed(cloud, spec, _needed_at_start(cloud, spec))


def refused_in_buckets(cloud: Cloud, spec: Mapping[str, Any]) -> list[str]:
    """What a job may not do in the buckets that its programs are told of: it runs, and comes to grief there if it tries."""
    needed = [
        (each, permissions.bucket(name))
        for name in sorted(set(_BUCKET.findall(" ".join(_texts(spec)))))
        if (cloud.buckets / name).is_dir()
        for each in (*permissions.READ, *permissions.WRITE)
    ]
    return _unless_allowed(cloud, spec, needed)


def _needed_at_start(cloud: Cloud, spec: Mapping[str, Any]) -> Iterator[tuple[str, permissions.Resource]]:
    for pool in sorted({each.pool for each in cluster.replicas(spec)}):
        if image := cluster.image(spec, pool):
            found = _IMAGE.match(image)
            if found and found[2] == cloud.project:
                name = f"projects/{found[2]}/locations/{found[1]}/repositories/{found[3]}"
                yield permissions.PULL, permissions.repository(name)
        else:
            for uri in cluster.package_uris(spec, pool):
                yield "storage.objects.get", permissions.bucket(uri.removeprefix("gs://").partition("/")[0])
    yield permissions.LOG, permissions.project(cloud)


def _unless_allowed(cloud: Cloud, spec: Mapping[str, Any], needed: Iterable[tuple[str, permissions.Resource]]) -> list[str]:
    """The first refusal on each resource."""
    email = identity.account_of(cloud, spec)
    found: dict[permissions.Resource, str] = {}
    for permission, on in needed:
        if on not in found and (reason := permissions.refusal(cloud, email, permission, on)):
            found[on] = reason
    return list(found.values())


def _texts(spec: Mapping[str, Any]) -> Iterator[str]:
    """Everything in a job's request that tells its programs of a bucket."""
    yield spec.get("baseOutputDirectory", {}).get("outputUriPrefix", "")
    for pool in spec["workerPoolSpecs"]:
        program = pool.get("containerSpec") or pool.get("pythonPackageSpec", {})
        yield from program.get("args", [])
        yield from program.get("command", [])
        yield from (variable.get("value", "") for variable in program.get("env", []))
