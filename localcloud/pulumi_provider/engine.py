"""What the provider tells Pulumi's engine while it works, and hears from it."""

from __future__ import annotations

import threading

cancelled = threading.Event()
"""Set when whoever runs Pulumi wants it to end (Ctrl-C)."""
_address = ""


def connect(address: str) -> None:
    """The engine listens there; it gives the address to each provider that it starts."""
    global _address
    _address = address


def say(message: str) -> None:
    """A line for the user, while a resource is worked on."""
    import grpc  # type: ignore[import-untyped]
    from pulumi.runtime.proto import engine_pb2
    from pulumi.runtime.proto.engine_pb2_grpc import EngineStub

    if _address:
        with grpc.insecure_channel(_address) as channel:
            EngineStub(channel).Log(engine_pb2.LogRequest(severity=engine_pb2.INFO, message=message))
