"""A bucket is deleted with all that is in it: its objects and their old generations, a hundred in a request."""

from __future__ import annotations

from typing import Any

from localcloud.pulumi_provider.common import gone
from localcloud.pulumi_provider.engine import cancelled, say
from localcloud.pulumi_provider.errors import ProviderError
from localcloud.pulumi_provider.rest import STORAGE, NotFound, quote

AT_ONCE = 100  # what a batch may hold
TOLD_AFTER = 1000


def empty(bucket: str) -> None:
    """Delete every generation of every object, also what is written meanwhile; say how far it is.

    Raises:
        ProviderError: one cannot be deleted, or it was cancelled. What is deleted is not there the next time.
    """
    while found := _list(bucket):
        told_after = max(TOLD_AFTER, len(found) // 10 // AT_ONCE * AT_ONCE)
        for start in range(0, len(found), AT_ONCE):
            if start % told_after == 0 and len(found) > TOLD_AFTER:
                say(f"gs://{bucket}: {start:,} of {len(found):,} objects and old generations deleted")
            if cancelled.is_set():
                raise ProviderError(
                    f"gs://{bucket}: interrupted with {len(found) - start:,} objects and old generations left; "
                    "`pulumi destroy` again goes on from there"
                )
            for answer in STORAGE.batch("DELETE", found[start : start + AT_ONCE]):
                if isinstance(answer, ProviderError) and not isinstance(answer, NotFound):
                    raise answer


def _list(bucket: str) -> list[str]:
    """The path of each generation in the bucket."""
    objects = f"b/{quote(bucket)}/o"
    page: dict[str, Any] = {"versions": "true", "fields": "items(name,generation),nextPageToken"}
    found: list[str] = []
    while listing := gone(STORAGE.call, "GET", objects, page):
        found += [f"{objects}/{quote(item['name'])}?generation={item['generation']}" for item in listing.get("items", ())]
        if "nextPageToken" not in listing:
            break
        page["pageToken"] = listing["nextPageToken"]
    return found
