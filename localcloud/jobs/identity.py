"""Who calls: the owner, by the token in the state folder, or a job's service account, by a token that the metadata server gave.

A job's token is its number, the time at which it ends and a MAC under the owner's token, so it outlives the server and nothing
is stored. It is good for as long as the job runs.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localcloud.jobs import states, store

if TYPE_CHECKING:
    from localcloud.cloud import Cloud

LIFETIME = 3600  # seconds of a job's token


@dataclass(frozen=True)
class Caller:
    """`email` of the service account that calls; None: the owner, who may do everything."""

    email: str | None = None


OWNER = Caller()


def account_of(cloud: Cloud, spec: Mapping[str, Any]) -> str:
    """The account that a job of this CustomJobSpec runs as."""
    return str(spec.get("serviceAccount") or cloud.service_agent)


def issue(cloud: Cloud, number: str) -> str:
    """An access token of a job."""
    end = int(cloud.now().timestamp()) + LIFETIME
    return f"{number}.{end}.{_mac(cloud, f'token {number} {end}')}"


def is_owner(cloud: Cloud, token: str) -> bool:
    """Whether it is the token in the state folder."""
    return _same(token, cloud.token)


def caller_of_job(cloud: Cloud, token: str) -> Caller | None:
    """The account that a job's token stands for; None when it is nobody's, has expired, or its job has ended."""
    number, _, rest = token.partition(".")
    end, _, mac = rest.partition(".")
    if not _same(mac, _mac(cloud, f"token {number} {end}")) or int(end) < cloud.now().timestamp():
        return None
    email = running_as(cloud, number)
    return Caller(email) if email else None


def metadata_key(cloud: Cloud, number: str) -> str:
    """What tells a job's replicas from anybody else at the metadata server: a part of the address that only they are given."""
    return f"{number}.{_mac(cloud, f'metadata {number}')}"


def job_of_key(cloud: Cloud, key: str) -> str | None:
    """The number of the job whose replicas were given the key, as long as it runs."""
    number, _, mac = key.partition(".")
    return number if _same(mac, _mac(cloud, f"metadata {number}")) and running_as(cloud, number) else None


def running_as(cloud: Cloud, number: str) -> str | None:
    """The account of a job that has not ended."""
    row = store.job(cloud.db, number)
    return account_of(cloud, json.loads(row["body"])["jobSpec"]) if row and row["state"] not in states.ENDED else None


def _mac(cloud: Cloud, text: str) -> str:
    return hmac.digest(cloud.token.encode(), text.encode(), "sha256").hex()


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())
