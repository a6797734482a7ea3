"""Property values between protobuf's Struct and plain Python (asset, secret and unknown markers stay as they are sent)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.struct_pb2 import Struct, Value


def from_struct(struct: Struct) -> dict[str, Any]:
    return {name: from_value(value) for name, value in struct.fields.items()}


def from_value(value: Value) -> Any:
    """Whole numbers become int: Struct knows only floating point."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return from_struct(value.struct_value)
    if kind == "list_value":
        return [from_value(item) for item in value.list_value.values]
    if kind == "number_value":
        return int(value.number_value) if value.number_value.is_integer() else value.number_value
    return None if kind in (None, "null_value") else getattr(value, kind)


def to_struct(values: Mapping[str, Any]) -> Struct:
    struct = Struct()
    struct.update(dict(values))
    return struct
