"""The forms in which the old command line prints a resource: gcloud's `--format`, as far as scripts lean on it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

WORDS = ("text", "json", "yaml")


def keys(form: str) -> list[str] | None:
    """The fields of `value(state)` or `value(jobId,error.message)`, also spelt `get(…)`; None for another form."""
    match = re.fullmatch(r"\s*(?:value|get)\(([^()]*)\)\s*", form)
    found = [key.strip() for key in match[1].split(",")] if match else []
    return found if found and all(re.fullmatch(r"[\w-]+(\.[\w-]+)*", key) for key in found) else None


def write(found: Mapping[str, Any] | Sequence[Mapping[str, Any]], form: str) -> None:
    """Prints a resource or several as `json`, `yaml` or `value(…)`, as gcloud does: no line of `value(…)` is left out."""
    several = [found] if isinstance(found, Mapping) else found
    if form == "json":
        print(json.dumps(found, indent=2))
    elif wanted := keys(form):
        for one in several:
            print("\t".join(_text(_field(one, key)) for key in wanted))
    else:
        from ruamel.yaml import YAML

        yaml = YAML()
        yaml.default_flow_style, yaml.width = False, 4096
        for index, one in enumerate(several):
            if index or not isinstance(found, Mapping):
                print("---")
            yaml.dump(dict(one), sys.stdout)
    sys.stdout.flush()


def _field(found: Any, key: str) -> Any:
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ";".join(f"{key}={_text(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ";".join(_text(one) for one in value)
    return "" if value is None else str(value)
