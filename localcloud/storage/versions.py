"""Pages of a list of all generations: one of names, each of which stands for all generations of its object."""

from __future__ import annotations

from collections.abc import Sequence

from localcloud.storage.listing import Page
from localcloud.storage.stored import StoredObject

Position = tuple[str, int]
"""After which generation of which name a page ends; 0: after the name (or the prefix) with all that it stands for."""


def cut(page: Page, every: Sequence[StoredObject], limit: int, after: Position) -> tuple[list[StoredObject], Position | None]:
    """The generations on a page of at most `limit` entries, and where it ends if more follow; takes off prefixes beyond that.

    `every`: all generations of the page's names, in order; `after`: where the page before ended.
    """
    found = [each for each in every if (each.name, each.generation) > after]
    entries: list[Position] = sorted([(each.name, each.generation) for each in found] + [(name, 0) for name in page.prefixes])
    if len(entries) <= limit:
        return found, None if page.last is None else (page.last, 0)
    last = entries[limit - 1]
    page.prefixes = [name for name in page.prefixes if (name, 0) <= last]
    return [each for each in found if (each.name, each.generation) <= last], last
