"""Google's discovery documents: which path is which method, and what a method accepts.

The documents are those bundled with google-api-python-client. They are read when the server starts (some 50 ms) and turned into
a tree of path segments; nothing else is computed before a method is first called.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import googleapiclient

from localcloud.errors import invalid
from localcloud.messages import MessageError, read_message, read_parameter

DOCUMENTS = (
    "storage.v1",
    "iam.v1",
    "cloudresourcemanager.v1",
    "cloudresourcemanager.v3",
    "serviceusage.v1",
    "artifactregistry.v1",
    "artifactregistry.v1beta2",  # where gcloud asks for the locations
    "aiplatform.v1",
    "ml.v1",
    "logging.v2",
    "cloudbilling.v1",
    "billingbudgets.v1",
    # none of their methods is offered, which a client hears by the method's name
    "iamcredentials.v1",
    "sts.v1",
    "cloudbuild.v1",
)
# Nor is any of Compute Engine's, or of the v1beta1 of Vertex AI and Service Usage. To read their documents would take longer
# than all of these, so a client hears the path.
UNREAD = re.compile(r"(compute|v1beta1)/")


@cache
def load_document(name: str) -> dict[str, Any]:
    """The document `name` is `API.VERSION`, as in `storage.v1`."""
    folder = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
    document: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return document


@dataclass(frozen=True)
class Method:
    """One method of one document."""

    document: dict[str, Any] = field(repr=False, compare=False)
    description: dict[str, Any] = field(repr=False, compare=False)
    id: str
    api: str
    version: str
    http_method: str

    @property
    def is_storage(self) -> bool:
        return self.api == "storage"

    @cached_property
    def _template(self) -> tuple[re.Pattern[str], list[str]]:
        names: list[str] = []

        def group(match: re.Match[str]) -> str:
            names.append(match[2])
            return "(.+)" if match[1] else "([^/]+)"

        # re.escape would also escape the braces, so only what stands between them is escaped
        parts = re.split(r"(\{\+?[^}]+\})", self.document["servicePath"] + self.description["path"])
        pattern = "".join(
            re.sub(r"\{(\+?)([^}]+)\}", group, part) if part.startswith("{") else re.escape(part) for part in parts
        )
        return re.compile(pattern), names

    @cached_property
    def _required(self) -> list[str]:
        known = self.description.get("parameters", {})
        return [name for name, item in known.items() if item.get("required") and item["location"] == "query"]

    def path_parameters(self, raw_path: str) -> dict[str, str]:
        """`{name: value}` of a path without its leading slash, percent-encoding removed after the path is taken apart."""
        pattern, names = self._template
        match = pattern.fullmatch(raw_path)
        return dict(zip(names, map(unquote, match.groups()), strict=True)) if match else {}

    def query_parameters(self, items: list[tuple[str, str]]) -> dict[str, Any]:
        """Typed query parameters; raises ApiError (400) for an unknown one or a wrong value.

        Parameters that every method has (`alt`, `fields`, `prettyPrint` …) are passed on as strings.
        """
        known = self.description.get("parameters", {})
        common = self.document["parameters"]
        found: dict[str, Any] = {}
        for name, text in items:
            name = name if name in known or self.is_storage else _camel(name)
            if name not in known:
                # the storage service disregards what it does not know; the others refuse
                if name in common or name.startswith("$") or self.is_storage:
                    found[name] = text
                    continue
                raise invalid(
                    f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter. '
                    f"Field '{name}' could not be found in request message.",
                    field_path="",
                )
            try:
                value = read_parameter(known[name], text)
            except MessageError as error:
                raise invalid(f"Invalid value at '{name}' ({error.kind}), {error.shown}", field_path=name) from error
            if known[name].get("repeated"):
                found.setdefault(name, []).append(value)
            else:
                found[name] = value
        for name in self._required:
            if name not in found:
                raise invalid(f"Required parameter: {name}", field_path=name)
        return found

    def read_body(self, body: Any) -> dict[str, Any]:
        """The request message in canonical form (camelCase names, int64 as strings); raises ApiError 400 in Google's words."""
        reference = self.description.get("request", {}).get("$ref")
        if reference is None:
            return {}
        if not isinstance(body, dict):
            raise invalid("Invalid JSON payload received. Root element must be a message.", field_path="")
        try:
            read: dict[str, Any] = read_message(
                self.document["schemas"], reference, body, proto=not self.is_storage, lenient=self.is_storage
            )
        except MessageError as error:
            raise invalid(str(error), field_path=error.path) from error
        return read


@dataclass
class _Node:
    literal: dict[str, _Node] = field(default_factory=dict)
    variable: _Node | None = None
    methods: dict[tuple[str, str], list[Method]] = field(default_factory=dict)


class Router:
    """Finds the method of a request. A path may belong to methods of several APIs, since here they share one host: the one that
    `preferred` accepts wins, else the first."""

    def __init__(self, names: tuple[str, ...], preferred: Callable[[Method], bool]) -> None:
        self._root = _Node()
        self._preferred = preferred
        self.methods: list[Method] = []
        for name in names:
            document = load_document(name)
            self._add(document, document)

    def _add(self, document: dict[str, Any], resource: dict[str, Any]) -> None:
        for description in resource.get("methods", {}).values():
            found = Method(
                document, description, description["id"], document["name"], document["version"], description["httpMethod"]
            )
            self.methods.append(found)
            path = document["servicePath"] + description.get("flatPath", description["path"])
            *segments, last = path.split("/")
            last, _, verb = last.partition(":")
            node = self._root
            for segment in (*segments, last):
                if segment.startswith("{"):
                    node.variable = node.variable or _Node()
                    node = node.variable
                else:
                    node = node.literal.setdefault(segment, _Node())
            node.methods.setdefault((found.http_method, verb), []).append(found)
        for child in resource.get("resources", {}).values():
            self._add(document, child)

    def find(self, http_method: str, raw_path: str) -> Method | None:
        """`raw_path` without leading slash, still percent-encoded."""
        *segments, last = raw_path.split("/")
        head, colon, verb = last.rpartition(":")
        # a colon begins a custom verb, but for the storage API, where it may stand in a name
        if colon and segments[:1] != ["storage"]:
            found = self._collect(self._root, [*segments, head], (http_method, verb))
        else:
            found = self._collect(self._root, [*segments, last], (http_method, ""))
        return next(filter(self._preferred, found), found[0]) if found else None

    def _collect(self, node: _Node, segments: list[str], key: tuple[str, str]) -> list[Method]:
        if not segments:
            return node.methods.get(key, [])
        head, *rest = segments
        literal = node.literal.get(head)
        found = self._collect(literal, rest, key) if literal else []
        if node.variable and head:
            found = found + self._collect(node.variable, rest, key)
        return found


def _camel(name: str) -> str:
    """`requested_policy_version` -> `requestedPolicyVersion`: the services take the names of their protocol buffers too."""
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name)
