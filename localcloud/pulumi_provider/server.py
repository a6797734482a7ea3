"""Pulumi's provider protocol (pulumirpc.ResourceProvider), answered from the table of types.

On the protocol itself rather than on `pulumi.provider.experimental`: that one puts a traceback into every error, drops the
hash of a file asset, and imports the whole SDK, which costs each `pulumi up` half a second.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc  # type: ignore[import-untyped]
from google.protobuf.empty_pb2 import Empty
from pulumi.runtime.proto import plugin_pb2 as plugin
from pulumi.runtime.proto import provider_pb2 as proto
from pulumi.runtime.proto.provider_pb2_grpc import ResourceProviderServicer, add_ResourceProviderServicer_to_server

from localcloud.pulumi_provider import engine
from localcloud.pulumi_provider.errors import ProviderError
from localcloud.pulumi_provider.kinds import (
    Kind,
    Properties,
    auto_name,
    check,
    diff,
    given_or_filled,
    kept,
    previewed,
    refreshed,
)
from localcloud.pulumi_provider.notes import Note
from localcloud.pulumi_provider.resources import FUNCTIONS, kind_of
from localcloud.pulumi_provider.rest import Conflict, Refused
from localcloud.pulumi_provider.values import from_struct, to_struct

LARGEST_MESSAGE = 400 << 20  # as Pulumi's own providers
WORKERS = 32

Method = Callable[["Provider", Any, grpc.ServicerContext], Any]


def reported(method: Method) -> Method:
    """Errors as one line in the words of the one who raised them."""

    @functools.wraps(method)
    def wrapper(self: Provider, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(self, request, context)
        except ProviderError as error:
            message = str(error)
        except Exception as error:
            where = error.__traceback__
            while where and where.tb_next:
                where = where.tb_next
            place = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where else "unknown place"
            message = f"the local cloud's provider failed: {type(error).__name__}: {error} ({place})"
        return context.abort(grpc.StatusCode.UNKNOWN, message)

    return wrapper


def begin(urn: str, kind: Kind, inputs: Properties) -> object:
    """`create`, with a note of it. An equal one that is there already is taken if this very resource began it: a killed
    `pulumi up` may have made it without writing it into the state, and a destroy may have kept it.

    Raises:
        ProviderError: as `create`, or there is one that somebody else made.
    """
    note = Note(urn, kind.identity(inputs))
    begun = note.is_there()
    note.write()
    try:
        return kind.create(inputs)
    except Refused as error:
        if not begun:
            note.drop()
        if not isinstance(error, Conflict):
            raise
        live = kind.read(inputs) if begun else None
        if live is not None and not diff(kind, refreshed(kind, inputs, live), inputs).changes:
            return {}
        raise ProviderError(f"{error} (`pulumi import` takes what is there already into a stack)") from None


def unimplemented(self: Provider, request: Any, context: grpc.ServicerContext) -> NoReturn:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "not implemented by the local cloud's provider")
    raise AssertionError  # abort does not return


class Provider(ResourceProviderServicer):
    """One method per call of the protocol."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.settings = {name: os.environ.get(f"GOOGLE_{name.upper()}", "") for name in ("project", "region")}

    Handshake = Parameterize = GetSchema = GetMapping = GetMappings = Call = Construct = Attach = unimplemented

    def GetPluginInfo(self, request: Any, context: grpc.ServicerContext) -> Any:
        return plugin.PluginInfo(version=self.version)

    def CheckConfig(self, request: Any, context: grpc.ServicerContext) -> Any:
        return proto.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: grpc.ServicerContext) -> Any:
        return proto.DiffResponse(changes=proto.DiffResponse.DIFF_NONE)

    def Configure(self, request: Any, context: grpc.ServicerContext) -> Any:
        given = from_struct(request.args)
        self.settings = {name: given.get(name) or value for name, value in self.settings.items()}
        return proto.ConfigureResponse(supportsPreview=True)

    def Cancel(self, request: Any, context: grpc.ServicerContext) -> Any:
        engine.cancelled.set()
        return Empty()

    @reported
    def Invoke(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.tok not in FUNCTIONS:
            known = ", ".join(sorted(FUNCTIONS))
            raise ProviderError(f"the function {request.tok} is not served by the local cloud's provider; it serves {known}")
        answer = proto.InvokeResponse()
        getattr(answer, "return").CopyFrom(to_struct(FUNCTIONS[request.tok](from_struct(request.args))))
        return answer

    @reported
    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        _, kind = kind_of(request.urn)
        given = {name: value for name, value in from_struct(request.news).items() if value is not None}
        olds, naming = from_struct(request.olds), request.autonaming
        for name in kind.fields.keys() - given.keys():
            field = kind.fields[name]
            if value := self.settings.get(field.setting):
                given[name] = value  # as the real provider: of `gcp:project`, else of the environment
            elif field.auto and naming.mode != naming.DISABLE:
                own = request.urn.split("::", 3)[3]
                given[name] = olds.get(name) or naming.proposed_name or auto_name(own, request.randomSeed, field.auto)
        inputs, failures = check(kind, given)
        return proto.CheckResponse(
            inputs=to_struct(inputs), failures=[proto.CheckFailure(property=name, reason=reason) for name, reason in failures]
        )

    @reported
    def Diff(self, request: Any, context: grpc.ServicerContext) -> Any:
        _, kind = kind_of(request.urn)
        old = given_or_filled(kind, from_struct(request.old_inputs), from_struct(request.olds))
        found = diff(kind, old, from_struct(request.news), frozenset(request.ignoreChanges))
        detailed = {}
        for name, change in found.changes.items():
            suffix = "_REPLACE" if name in found.replaces else ""
            detailed[name] = proto.PropertyDiff(kind=getattr(proto.PropertyDiff, change.value + suffix), inputDiff=True)
        return proto.DiffResponse(
            changes=proto.DiffResponse.DIFF_SOME if found.changes else proto.DiffResponse.DIFF_NONE,
            diffs=list(found.changes),
            replaces=sorted(found.replaces),
            deleteBeforeReplace=found.delete_first,
            detailedDiff=detailed,
            hasDetailedDiff=True,
        )

    @reported
    def Create(self, request: Any, context: grpc.ServicerContext) -> Any:
        _, kind = kind_of(request.urn)
        inputs = from_struct(request.properties)
        if request.preview:
            return proto.CreateResponse(properties=request.properties)
        answer = begin(request.urn, kind, inputs) if kind.unique else kind.create(inputs)
        known = {**inputs, **{name: answer[name] for name in kind.assigned if isinstance(answer, dict)}}
        live = kind.read(known) or {}
        return proto.CreateResponse(id=kind.identity(known), properties=to_struct({**known, **live}))

    @reported
    def Read(self, request: Any, context: grpc.ServicerContext) -> Any:
        token, kind = kind_of(request.urn)
        properties, inputs = from_struct(request.properties), from_struct(request.inputs)
        whole = all(name in properties for name, field in kind.fields.items() if field.required)
        if not properties or (kind.imported and not whole):  # (`get` may give some of them)
            return self._import(token, kind, request.id, properties)
        live = kind.read(properties)
        if live is None:
            if kind.unique:
                Note(request.urn, kind.identity(properties)).drop()
            return proto.ReadResponse()  # without an id: it is gone
        return proto.ReadResponse(
            id=request.id,
            properties=to_struct({**kept(kind, properties, live), **live}),
            inputs=to_struct(refreshed(kind, inputs, live)),
        )

    @staticmethod
    def _import(token: str, kind: Kind, given: str, properties: Properties) -> Any:
        """`pulumi import` and `get`: an id is known, and what `get` was given. What the service says becomes the inputs."""
        if kind.imported is None:
            raise ProviderError(f"{token} cannot be imported, by the real provider neither")
        named = kind.imported(given)
        if named is None:
            raise ProviderError(f'{given!r} is no id of {token}; see "Import" in the type\'s documentation for its form')
        named = {**properties, **named}
        live = kind.read(check(kind, named)[0])
        if live is None:
            return proto.ReadResponse()
        whole, _ = check(kind, {**named, **{name: value for name, value in live.items() if name in kind.fields}})
        inputs = {name: value for name, value in whole.items() if name in kind.fields and value not in ("", {}, [])}
        properties = {**whole, **live}
        return proto.ReadResponse(id=kind.identity(properties), properties=to_struct(properties), inputs=to_struct(inputs))

    @reported
    def Update(self, request: Any, context: grpc.ServicerContext) -> Any:
        token, kind = kind_of(request.urn)
        inputs, olds = from_struct(request.news), from_struct(request.olds)
        if request.preview:
            known = previewed(kind, from_struct(request.old_inputs), olds, inputs)
            return proto.UpdateResponse(properties=to_struct(known))
        if kind.update is None:
            raise ProviderError(f"{token} cannot be changed in place")
        known = {**inputs, **{name: olds[name] for name in kind.assigned if name in olds}}
        kind.update(known)
        return proto.UpdateResponse(properties=to_struct({**known, **(kind.read(known) or {})}))

    @reported
    def Delete(self, request: Any, context: grpc.ServicerContext) -> Any:
        _, kind = kind_of(request.urn)
        properties = from_struct(request.properties)
        kind.delete(properties)
        if kind.unique:
            Note(request.urn, kind.identity(properties)).drop()
        return Empty()


def serve(version: str, address: str) -> None:
    """Answer Pulumi's engine at this address until it goes; the port is told on standard output, as the protocol wants."""
    engine.connect(address)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # for every thread started from here on
    size = [("grpc.max_receive_message_length", LARGEST_MESSAGE), ("grpc.max_send_message_length", LARGEST_MESSAGE)]
    server = grpc.server(ThreadPoolExecutor(WORKERS), options=size)
    add_ResourceProviderServicer_to_server(Provider(version), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    # Pulumi interrupts its providers when it has done with them, and waits. (Ctrl-C on Pulumi reaches only Pulumi: each
    # provider has a process group of its own.)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    os._exit(0)


def end_with_parent(parent: int) -> None:
    """A killed Pulumi leaves no provider behind."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
