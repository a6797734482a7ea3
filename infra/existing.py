"""A bucket that was there before the stack: nothing of it is the stack's but what is under the stack's own prefix."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from infra.errors import StackError
from infra.rest import Api, RestError, message

if TYPE_CHECKING:  # for pydantic behind it would double the start of the process that deletes
    from infra.config import OnDestroy

CONNECTIONS = 8


def storage() -> Api:
    """Cloud Storage's JSON API. Raises RestError: no credentials."""
    return Api("storage", "https://storage.googleapis.com/", "storage/v1")


def existing_location(bucket: str) -> str | None:
    """The bucket's location; None, with a warning, where it may not be looked at.

    Raises:
        StackError: there is no such bucket, or nobody can be asked.
    """
    try:
        status, body = storage().call("GET", f"b/{quote(bucket, safe='')}", fields="location")
    except RestError as error:
        raise StackError(f"odcloud:existingBucket: {error}") from None
    if status == 404:
        raise StackError(
            f"odcloud:existingBucket: there is no bucket gs://{bucket}. Name one that exists, or leave the setting out: then "
            "the stack makes its own."
        )
    if status != 200:
        pulumi.log.warn(f"gs://{bucket} cannot be looked at, so its location is not checked: {message(status, body)}")
        return None
    return str(body["location"])


def empty(bucket: str, prefix: str) -> int:
    """Delete every generation of every object under a prefix; how many there were. One that is gone already is well.

    Raises:
        RestError: refused.
    """
    api = storage()
    path = f"b/{quote(bucket, safe='')}/o"

    def delete(item: Mapping[str, str]) -> None:
        status, body = api.call("DELETE", f"{path}/{quote(item['name'], safe='')}", generation=item["generation"])
        if status not in (200, 204, 404):
            raise RestError(f"gs://{bucket}/{item['name']} cannot be deleted: {message(status, body)}")

    count = 0
    fields = "items(name,generation),nextPageToken"
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for page in api.pages(path, f"the objects of gs://{bucket}", prefix=prefix, versions="true", fields=fields):
            if count:
                print(f"gs://{bucket}/{prefix}: {count:,} objects and old generations deleted so far", flush=True)
            count += len(list(pool.map(delete, page.get("items", []))))
    return count


class ContentsProvider(ResourceProvider):
    """Deleting empties the prefix, unless the results are to be kept; everything else only remembers which it is."""

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult(id_=f"{props['bucket']}/{props['prefix']}", outs=dict(props))

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        replaces = [name for name in ("bucket", "prefix") if _olds.get(name) != _news.get(name)]
        return DiffResult(changes=bool(replaces) or _olds.get("on_destroy") != _news.get("on_destroy"), replaces=replaces)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        return UpdateResult(outs=dict(_news))

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        sys.tracebacklimit = 0  # as in teardown.py: errors go without a traceback
        if _props["on_destroy"] != "keepCheckpoints":
            count = empty(_props["bucket"], _props["prefix"])
            where = f"gs://{_props['bucket']}/{_props['prefix']}"
            print(f"{count:,} object{'' if count == 1 else 's'} under {where} deleted", flush=True)


class Contents(Resource, module="odcloud", name="Contents"):
    """What is under a prefix; `bucket` is known when it may be written there."""

    bucket: pulumi.Output[str]

    def __init__(self, name: str, props: Mapping[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(ContentsProvider(), name, dict(props), opts)


@dataclass(frozen=True)
class ExistingStorageArgs:
    bucket: str
    prefix: str
    """Of the stack's own objects, with a slash at its end."""
    on_destroy: OnDestroy


class ExistingStorage(pulumi.ComponentResource):
    """In place of `Storage`: the bucket itself is neither made, changed nor deleted."""

    bucket: pulumi.Output[str]

    def __init__(self, name: str, args: ExistingStorageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("odcloud:infra:ExistingStorage", name, None, opts)
        props = {"bucket": args.bucket, "prefix": args.prefix, "on_destroy": args.on_destroy}
        self.bucket = Contents("contents", props, pulumi.ResourceOptions(parent=self)).bucket
        self.register_outputs({"bucket": self.bucket})
