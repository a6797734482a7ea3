"""The one place that talks to Google.

Methods are called by their discovery id; path, verb and parameters come from the discovery documents that
`google-api-python-client` carries (`googleapiclient/discovery_cache/documents`). Only the documents are used, not the client
built upon them, for two reasons: its transport repeats requests on its own (see transport.py), and importing it costs more time
than all the rest of a launch.

Endpoints: $CLOUDSDK_API_ENDPOINT_OVERRIDES_<SERVICE>, else the stack's output `endpoints`, else Google's.
Credentials: $GOOGLE_OAUTH_ACCESS_TOKEN, else Application Default Credentials.
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import random
import re
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from launcher.transport import Response, Transport

VERSIONS = {
    "aiplatform": "v1",
    "artifactregistry": "v1",
    "cloudbilling": "v1",
    "cloudresourcemanager": "v1",
    "compute": "v1",
    "iam": "v1",
    "logging": "v2",
    "serviceusage": "v1",
    "storage": "v1",
}
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
ATTEMPTS = 5
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


class GoogleError(Exception):
    """A call that failed. `status` is the HTTP status, or None when no answer came; `reason` is Google's word for it."""

    def __init__(self, method: str, url: str, status: int | None, reason: str, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.method, self.url, self.status, self.reason, self.message = method, url, status, reason, message
        self.retry_after = retry_after

    @property
    def transient(self) -> bool:
        """Whether the same call may succeed later."""
        return self.status is None or self.status in TRANSIENT

    @property
    def service(self) -> str:
        return self.method.partition(".")[0]

    def __str__(self) -> str:
        host = "/".join(self.url.split("/")[:3])
        if self.status is None:
            source = override_name(self.service)
            where = f" (that address is ${source})" if os.environ.get(source) else ""
            return f"cannot reach {host}{where}: {self.message}; check that it is up (the local cloud: odcloud local status)"
        return f"{host} answered {self.status} {self.reason} to {self.method}: {self.message}{_advice(self)}"


def _advice(error: GoogleError) -> str:
    if error.status == 401:
        return (
            "; the credentials are missing or out of date: on Google Cloud run `gcloud auth application-default login`, "
            'for the local cloud `eval "$(odcloud local env)"`'
        )
    if error.status == 403:
        return "; the account in use lacks that permission, or the API is not enabled: `pulumi up` enables it"
    if error.status == 429:
        return "; a quota is used up: wait, ask for less, or raise it at https://console.cloud.google.com/iam-admin/quotas"
    if error.transient:
        return "; that is the service's own trouble: try again later"
    return ""


def override_name(service: str) -> str:
    """The environment variable, gcloud's own, that moves a service to another address."""
    return f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service.upper()}"


@functools.cache
def document(service: str, version: str = "") -> dict[str, Any]:
    """The bundled discovery document of a service, by default of the version in VERSIONS."""
    import googleapiclient.discovery_cache as bundled

    path = Path(bundled.__file__).parent / "documents" / f"{service}.{version or VERSIONS[service]}.json"
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def discovered(method_id: str) -> dict[str, Any]:
    """The discovery document's description of a method, e.g. `storage.objects.get`. KeyError when there is none.

    A version that is not the one in VERSIONS stands behind the id: `serviceusage.services.list@v1beta1`.
    """
    plain, _, version = method_id.partition("@")
    service, *resources, name = plain.split(".")
    node = document(service, version) if version else document(service)  # one and the same entry of the cache
    for resource in resources:
        node = node["resources"][resource]
    method: dict[str, Any] = node["methods"][name]
    return method


class Google:
    """Google's services, as one project in one region uses them."""

    def __init__(self, region: str, endpoints: Mapping[str, str] | None = None, transport: Transport | None = None) -> None:
        self.region = region
        self._endpoints = endpoints or {}
        self._transport = transport or Transport()
        self._credentials: Any = None

    def base_url(self, service: str) -> str:
        """The root of a service's addresses, ending in a slash."""
        chosen = os.environ.get(override_name(service)) or self._endpoints.get(service)
        if chosen:
            # gcloud's users write some overrides with the service's path (…/storage/v1/); the documents' paths have it already.
            return chosen.rstrip("/").removesuffix(document(service)["servicePath"].rstrip("/")).rstrip("/") + "/"
        root: str = document(service)["rootUrl"]
        return f"https://{self.region}-aiplatform.googleapis.com/" if service == "aiplatform" else root

    def call(self, method_id: str, *, body: Mapping[str, Any] | None = None, repeat: bool | None = None, **params: Any) -> Any:
        """Calls a method and returns its JSON answer.

        `repeat`: whether the call may be sent again after an unclear answer; by default only reads (GET) may.
        Raises GoogleError.
        """
        verb = discovered(method_id)["httpMethod"]
        content = None if body is None else json.dumps(body).encode()
        answer = self._send(method_id, params, content, "application/json", verb == "GET" if repeat is None else repeat)
        return json.loads(answer.body or b"{}")

    def pages(self, method_id: str, field: str, **params: Any) -> Iterator[dict[str, Any]]:
        """The items of a list method (GET), over all its pages."""
        while True:
            page = self.call(method_id, **params)
            yield from page.get(field, ())
            if not page.get("nextPageToken"):
                return
            params["pageToken"] = page["nextPageToken"]

    def download(self, bucket: str, name: str) -> bytes:
        """An object's bytes."""
        return self._send("storage.objects.get", {"bucket": bucket, "object": name, "alt": "media"}, None, "", True).body

    def upload(self, bucket: str, name: str, content: bytes, content_type: str, *, if_generation: int) -> Any:
        """Writes an object if its generation is `if_generation` (0: if there is none), else raises GoogleError with status 412.

        The condition makes it safe to send again; a 412 may then be the echo of one's own write, so look at what is there.
        """
        params = {"bucket": bucket, "name": name, "uploadType": "media", "ifGenerationMatch": str(if_generation)}
        return json.loads(self._send("storage.objects.insert", params, content, content_type, True, media=True).body)

    def _send(
        self,
        method_id: str,
        params: Mapping[str, Any],
        body: bytes | None,
        content_type: str,
        repeat: bool,
        media: bool = False,
    ) -> Response:
        method = discovered(method_id)
        url = self._url(method_id, method, params, media)
        headers = {"Authorization": f"Bearer {self._token()}", "User-Agent": "odcloud", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._once(method_id, method["httpMethod"], url, headers, body, fresh=not repeat)
            except GoogleError as error:
                # Nobody listens there: waiting long helps no one.
                allowed = 3 if error.reason == "REFUSED" else ATTEMPTS
                if not (repeat and error.transient and attempt < allowed):
                    raise
                time.sleep(error.retry_after or random.uniform(0.5, 1.0) * 0.4 * 2**attempt)

    def _once(
        self, method_id: str, verb: str, url: str, headers: Mapping[str, str], body: bytes | None, *, fresh: bool
    ) -> Response:
        try:
            answer = self._transport.send(verb, url, headers, body, fresh=fresh)
        except (OSError, http.client.HTTPException) as error:
            refused = isinstance(error, (ConnectionRefusedError, socket.gaierror))
            text = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise GoogleError(method_id, url, None, "REFUSED" if refused else "LOST", text) from error
        if answer.status >= 300:
            reason, message = _said(answer)
            after = answer.headers.get("retry-after", "")
            raise GoogleError(
                method_id, url, answer.status, reason, message, min(float(after), 30.0) if after.isdigit() else 0.0
            )
        return answer

    def _url(self, method_id: str, method: Mapping[str, Any], params: Mapping[str, Any], media: bool) -> str:
        service = method_id.partition(".")[0]
        known = {**document(service)["parameters"], **method["parameters"]}
        unknown = set(params) - set(known)
        if unknown:
            raise TypeError(f"{method_id} has no parameter {', '.join(sorted(unknown))}")
        path = method["mediaUpload"]["protocols"]["simple"]["path"].lstrip("/") if media else None
        path = path or document(service)["servicePath"] + method["path"]

        def fill(match: re.Match[str]) -> str:
            # RFC 6570: {+name} keeps slashes and colons, {name} keeps nothing.
            return quote(str(params[match[2]]), safe="/:" if match[1] else "")

        path = re.sub(r"\{(\+?)(\w+)\}", fill, path)
        query = [(name, value) for name, value in params.items() if known[name]["location"] == "query"]
        return self.base_url(service) + path + ("?" + urlencode(query, doseq=True) if query else "")

    def _token(self) -> str:
        given = os.environ.get("GOOGLE_OAUTH_ACCESS_TOKEN")
        if given:
            return given
        from launcher import credentials

        self._credentials, token = credentials.default_token(self._credentials, SCOPE)
        return token


def _said(answer: Response) -> tuple[str, str]:
    """Google's reason and message in an error's body."""
    try:
        error = json.loads(answer.body)["error"]
        return str(error.get("status") or http.client.responses.get(answer.status, "")), str(error["message"]).strip()
    except (ValueError, KeyError, TypeError, AttributeError):
        text = answer.body.decode("utf-8", "replace").strip()
        return http.client.responses.get(answer.status, ""), text[:300] or "(no explanation)"
