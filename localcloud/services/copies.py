"""Cloud Storage, objects made of others: copy, rewrite, move, compose."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, BinaryIO

from localcloud.api import Call, invalid, method
from localcloud.cloud import Cloud
from localcloud.services.object_messages import (
    asked_generation,
    check_acl,
    merge,
    no_object,
    preconditions,
    replaceable,
    resource,
    writable,
)
from localcloud.services.objects import store
from localcloud.services.retention import bucket_settings, check_own_retention, check_removable, has_versioning
from localcloud.storage.digests import CHUNK, Digests
from localcloud.storage.objects import NameRefused, no_check
from localcloud.storage.stored import StoredObject

MAX_COMPOSED = 32


@method("storage.objects.copy")
def copy(call: Call) -> dict[str, Any]:
    return _copy(call)[1]


@method("storage.objects.rewrite")
def rewrite(call: Call) -> dict[str, Any]:
    copied, message = _copy(call)
    return {
        "kind": "storage#rewriteResponse",
        "done": True,
        "objectSize": str(copied.size),
        "totalBytesRewritten": str(copied.size),
        "resource": message,
    }


@method("storage.objects.move")
def move(call: Call) -> dict[str, Any]:
    bucket, source, target = call.params["bucket"], call.params["sourceObject"], call.params["destinationObject"]
    settings = bucket_settings(call.cloud, bucket)
    if source == target:
        raise invalid("The source and the destination of a move are the same object.")
    found, file = _open(call.cloud, bucket, source, call.params, "ifSource")
    with file:
        check_removable(call.cloud, settings, found)
        moved = _write(call, bucket, target, [file], found.metadata)
    # what was written in the meantime is another object, and stays
    unchanged = preconditions({"ifGenerationMatch": str(found.generation)})
    store(call.cloud).delete(bucket, source, unchanged, keep=has_versioning(settings))
    return resource(call.cloud, moved, settings)


@method("storage.objects.compose")
def compose(call: Call) -> dict[str, Any]:
    bucket, name = call.params["destinationBucket"], call.params["destinationObject"]
    settings = bucket_settings(call.cloud, bucket)
    sources = call.body.get("sourceObjects", [])
    if not 1 <= len(sources) <= MAX_COMPOSED:
        raise invalid(f"The number of source objects must be between 1 and {MAX_COMPOSED}.")
    with ExitStack() as opened:
        files: list[BinaryIO] = []
        for source in sources:
            conditions = {"generation": source.get("generation"), **source.get("objectPreconditions", {})}
            given = {key: value for key, value in conditions.items() if value is not None}
            files.append(opened.enter_context(_open(call.cloud, bucket, source.get("name", ""), given)[1]))
        composed = _write(call, bucket, name, files, writable(call.body.get("destination", {})))
    if call.body.get("deleteSourceObjects"):
        for source in sources:
            if source["name"] != name:
                store(call.cloud).delete(bucket, source["name"], no_check, keep=has_versioning(settings))
    return resource(call.cloud, composed, settings) | {"componentCount": len(sources)}


def _copy(call: Call) -> tuple[StoredObject, dict[str, Any]]:
    params = dict(call.params)
    bucket, name = params["destinationBucket"], params["destinationObject"]
    settings = bucket_settings(call.cloud, bucket)
    if "sourceGeneration" in params:
        params["generation"] = params["sourceGeneration"]
    found, file = _open(call.cloud, params["sourceBucket"], params["sourceObject"], params, "ifSource")
    with file:
        # holds and retention belong to the object that has them, the class to its bucket
        kept = {
            key: value for key, value in found.metadata.items() if key not in ("temporaryHold", "retention", "storageClass")
        }
        copied = _write(call, bucket, name, [file], writable(call.body) or kept)
    return copied, resource(call.cloud, copied, settings)


def _open(cloud: Cloud, bucket: str, name: str, params: Mapping[str, Any], prefix: str = "if") -> tuple[StoredObject, BinaryIO]:
    bucket_settings(cloud, bucket)
    opened = store(cloud).open(bucket, name, asked_generation(params))
    if opened is None:
        raise no_object(bucket, name)
    found, file = opened
    try:
        preconditions(params, prefix)(found)
    except BaseException:
        file.close()
        raise
    return found, file


def _write(call: Call, bucket: str, name: str, sources: list[BinaryIO], metadata: Mapping[str, Any]) -> StoredObject:
    objects = store(call.cloud)
    settings = bucket_settings(call.cloud, bucket)
    check_acl(settings, call.params)
    metadata = merge({"storageClass": settings["storageClass"]}, metadata)
    check_own_retention(call.cloud, settings, {}, metadata, override=False)
    digests = Digests()
    try:
        objects.refuse_name(bucket, name)
        with objects.scratch() as path:
            with path.open("wb") as target:
                for source in sources:
                    while chunk := source.read(CHUNK):
                        digests.update(chunk)
                        target.write(chunk)
            check = replaceable(call.cloud, settings, call.params)
            return objects.commit(bucket, name, path, digests, metadata, check, keep=has_versioning(settings))
    except NameRefused as error:
        raise invalid(str(error)) from error
