"""The pages on a stack's configuration and outputs, and on the job file: from their pydantic models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.docs import markdown

ROOT = Path(__file__).resolve().parents[2]
Schema = Mapping[str, Any]

_STACK = """\
# A stack's configuration and outputs

## Configuration

Set with `pulumi config set KEY VALUE`, kept in `Pulumi.STACK.yaml`. `odcloud init STACK` writes one from a few answers. All
mistakes are told at once, each with its key, before anything is made.

"""

_STACK_AFTER = """
A list is set item by item: `pulumi config set --path 'odcloud:launchers[0]' group:vision@example.com`.

## Outputs

What `pulumi stack output --json` tells. The launcher reads them back through the same model, `infra/outputs.py`.

"""

_JOB = """\
# Job file

What `odcloud train --config` reads, in one of two forms: native worker pools, or the old page's `trainingInput`. A field that
is not here is an error with its line and the nearest name. Editors complete and check it by `docs/job.schema.json`:

```yaml
# yaml-language-server: $schema=../../docs/job.schema.json
```

## Examples

Worker pools, for [a pet detector](google-cloud.md):

{pets}
The old page's form, of the [demo](tutorial.md):

{digits}
## Flags and environment

A flag goes before its variable in the environment, the variable before the job file, the file before the stack's outputs, these
before the default. `odcloud train --explain` shows which it was.

{overrides}
"""
_TITLES = {
    "NativeJob": "A job of worker pools",
    "WorkerPool": "One worker pool",
    "Scheduling": "scheduling",
    "ReservationAffinity": "reservationAffinity",
    "OldJob": "A job of the old form",
    "TrainingInput": "trainingInput",
    "OldReplica": "masterConfig, workerConfig, …",
    "OldAccelerator": "acceleratorConfig",
    "OldDisk": "diskConfig",
    "OldScheduling": "scheduling, of the old form",
    "OldEncryption": "encryptionConfig",
}


def stack_page() -> str:
    """Configuration keys from `infra.config.StackConfig`, outputs from `infra.outputs.StackOutputs`."""
    from infra.config import NAMESPACE, PROVIDER_KEYS, StackConfig
    from infra.outputs import StackOutputs

    keys = {name: key for key, name in PROVIDER_KEYS.items()}
    schema = StackConfig.model_json_schema()
    rows = []
    for name, field in schema["properties"].items():
        if name == "stack":  # not set, but named: `pulumi stack init NAME`
            continue
        default = "required" if name in schema["required"] and name != "bucket" else _default(field)
        if name == "bucket":  # made of the others by a validator
            default = f"`PROJECT-{NAMESPACE}-STACK`"
        rows.append(
            (f"`{keys.get(name, f'{NAMESPACE}:{name}')}`", _kind(field, {}), default, markdown.text(field["description"]))
        )
    outputs = StackOutputs.model_json_schema()
    return (
        _STACK
        + markdown.table(("key", "value", "default", "meaning"), rows)
        + _STACK_AFTER
        + markdown.table(
            ("output", "value", "meaning"),
            (
                (f"`{name}`", _kind(field, {}), markdown.text(field["description"]))
                for name, field in outputs["properties"].items()
            ),
        )
    )


def job_page() -> str:
    """The job file from the JSON schema of `launcher.jobfile.models`."""
    from launcher.jobfile import models, overrides

    definitions: dict[str, Schema] = models.schema()["$defs"]
    unknown = set(definitions) - set(_TITLES)
    assert not unknown, f"tools/docs/models.py has no title for {unknown}"
    rows = (
        (f"`{flag}`", f"`{overrides.variable(key)}`", f"`{'.'.join(place)}`" if place else "the pool's `replicaCount`")
        for key, (flag, _, place) in overrides._VALUES.items()
    )
    parts = [
        _JOB.format(
            pets=_example("examples/pets/job.yaml"),
            digits=_example("examples/digits/job.yaml"),
            overrides=markdown.table(("flag", "variable", "field"), rows),
        )
    ]
    for name, title in _TITLES.items():
        schema = definitions[name]
        fields = (
            (
                f"`{field}`",
                models.SHAPES.get(field) or _kind(found, _TITLES),
                "required" if field in schema.get("required", ()) else _default(found),
                markdown.text(found.get("description", "")),
            )
            for field, found in schema["properties"].items()
        )
        words = markdown.text(schema.get("description", ""))
        parts.append(
            f"## {title} {{ #{name.lower()} }}\n\n{words}\n\n"
            + markdown.table(("field", "value", "default", "meaning"), fields)
        )
    return "\n".join(parts)


def _example(path: str) -> str:
    return f'```yaml title="{path}"\n{(ROOT / path).read_text(encoding="utf-8").strip()}\n```\n'


def _default(field: Schema) -> str:
    value = field.get("default")
    return (
        ""
        if value is None or isinstance(value, list | dict)
        else markdown.code(value if isinstance(value, str) else json.dumps(value))
    )


def _kind(field: Schema, titles: Mapping[str, str]) -> str:
    """What a field holds, in a few words; models that have a title are linked."""
    for several in ("anyOf", "allOf"):
        if several in field:
            kinds = dict.fromkeys(_kind(option, titles) for option in field[several] if option.get("type") != "null")
            # A number may also come as text ("9"), as Google's own counts do: not worth a word.
            return " or ".join(kind for kind in kinds if kind != "text" or len(kinds) == 1)
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{titles[name]}](#{name.lower()})"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    kind = field.get("type", "")
    if kind == "array":
        return f"list of {_kind(field['items'], titles)}"
    if kind == "object":
        values = field.get("additionalProperties")
        return f"map to {_kind(values, titles)}" if isinstance(values, dict) else "map to text"
    if kind in ("integer", "number"):
        low, high = field.get("minimum"), field.get("maximum")
        least = f" from {low}" if low is not None else ""
        return f"number{least}" + (f" to {high}" if high is not None and high < 2**31 - 1 else "")
    if kind == "boolean":
        return "`true` or `false`"
    if field.get("format") == "path":
        return "path"
    return "`gs://…`" if field.get("pattern", "").startswith("^gs://") else "text"
