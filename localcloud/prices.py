"""The project's dated table of list prices (`launcher/prices.yaml`), read as a file beside this package: data, no import."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_TABLE = Path(__file__).parents[1] / "launcher" / "prices.yaml"


@cache
def table() -> Mapping[str, Any]:
    """The table of prices, with the `date` of its prices and their `region`."""
    from ruamel.yaml import YAML

    loaded: Mapping[str, Any] = YAML(typ="safe").load(_TABLE)
    return loaded
