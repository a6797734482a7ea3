"""The one place that talks to Google.

Methods are called by their discovery id; path, verb and parameters come from the discovery documents that
`google-api-python-client` carries (`googleapiclient/discovery_cache/documents`). Only the documents are used, not the client
built upon them, for two reasons: its transport repeats requests on its own (see transport.py), and importing it costs more time
than all the rest of a launch.

Endpoints: $CLOUDSDK_API_ENDPOINT_OVERRIDES_<SERVICE>, else the stack's output `endpoints`, else Google's.
Credentials: $GOOGLE_OAUTH_ACCESS_TOKEN, else Application Default Credentials.
Quota: $GOOGLE_CLOUD_QUOTA_PROJECT's, else that of the credentials' quota project; some services refuse a user's calls without.
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
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from launcher.errors import UserError
from launcher.google.transport import NotSent, Response, Transport

if TYPE_CHECKING:
    from launcher.google.explain import Explanation

VERSIONS = {
    "aiplatform": "v1",
    "artifactregistry": "v1",
    "cloudbilling": "v1",
    "cloudbuild": "v1",
    "cloudresourcemanager": "v1",
    "compute": "v1",
    "iam": "v1",
    "logging": "v2",
    "ml": "v1",
    "serviceusage": "v1",
    "storage": "v1",
}
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
QUOTA_PROJECT = "GOOGLE_CLOUD_QUOTA_PROJECT"
ATTEMPTS = 5
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
UNCLEAR = TRANSIENT - {429}
"""Answers after which a call may have been carried out; 429 refuses it before that."""
RESUME_INCOMPLETE = 308
"""Cloud Storage's answer to a part of a resumable upload that is not the last."""
LONGEST_WAIT = 60.0
"""Seconds: whoever asks for more patience (Retry-After) is not asked again."""


STRANGE = "STRANGE"
"""The reason when what came with the status of success is no answer of Google's: a proxy's page, another server's."""


class GoogleError(Exception):
    """A call that failed. `status` is the HTTP status, or None when no answer came; `reason` is Google's word for it.

    `error` is the error object of Google's answer, {} when it had none; `sent` tells whether the request left this machine.
    """

    def __init__(
        self,
        method: str,
        url: str,
        status: int | None,
        reason: str,
        message: str,
        retry_after: float = 0.0,
        error: Mapping[str, Any] | None = None,
        sent: bool = True,
    ) -> None:
        super().__init__(message)
        self.method, self.url, self.status, self.reason, self.message = method, url, status, reason, message
        self.retry_after, self.error, self.sent = retry_after, error or {}, sent

    @property
    def transient(self) -> bool:
        """Whether the same call may succeed later."""
        return self.status is None or self.status in TRANSIENT

    @property
    def unclear(self) -> bool:
        """Whether the call may have been carried out all the same: no answer, or that of a service in trouble."""
        if self.status is None:
            return self.sent
        return self.status in UNCLEAR and not self.elsewhere

    @property
    def elsewhere(self) -> bool:
        """Whether it was refused for want of machines or quota, which another region may have."""
        from launcher.google.explain import ELSEWHERE

        return self.status is not None and self.explanation.kind in ELSEWHERE

    @property
    def service(self) -> str:
        return self.method.partition(".")[0]

    @property
    def explanation(self) -> Explanation:
        """What kind of refusal it is, and what to do."""
        from launcher.google.explain import explain

        return explain(self.status or 0, {"message": self.message, **self.error}, self.method, self.url)

    def __str__(self) -> str:
        host = "/".join(self.url.split("/")[:3])
        if self.status is None:
            source = override_name(self.service)
            where = f" (that address is ${source})" if os.environ.get(source) else ""
            if self.reason == STRANGE:
                return (
                    f"{host}{where} answered {self.method} as Google does not ({self.message}); check that the address is the "
                    "service's, and that no proxy or sign-in page stands before it"
                )
            up = "that it is up (the local cloud: odcloud local status)"
            check = "the network" if host.endswith(".googleapis.com") else up
            return f"cannot reach {host}{where}: {self.message}; check {check}"
        advice = self.explanation.advice
        return f"{host} answered {self.status} {self.reason} to {self.method}: {self.message}{advice and '; ' + advice}"


def split(uri: str) -> tuple[str, str]:
    """Bucket and object name of a `gs://` URI."""
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    return bucket, name


def override_name(service: str) -> str:
    """The environment variable, gcloud's own, that moves a service to another address."""
    return f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service.upper()}"


@functools.cache
def document(service: str, version: str = "") -> dict[str, Any]:
    """The bundled discovery document of a service, by default of the version in VERSIONS.

    Some take 50 ms to read: see `described` first.
    """
    import googleapiclient.discovery_cache as bundled

    path = Path(bundled.__file__).parent / "documents" / f"{service}.{version or VERSIONS[service]}.json"
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


@functools.cache
def _digest() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(__file__).parents[1] / "methods.json").read_bytes())
    return found


def described(service: str) -> Mapping[str, Any]:
    """A service's `rootUrl`, `servicePath` and common `parameters`."""
    return _digest().get(service) or document(service)


def discovered(method_id: str) -> Mapping[str, Any]:
    """A method's `httpMethod`, `path`, `parameters` and `mediaUpload`, by its id, e.g. `storage.objects.get`.

    A version that is not the one in VERSIONS stands behind the id: `serviceusage.services.list@v1beta1`.
    Read from methods.json, which tools/methods.py makes of the discovery documents, or from a document when it isn't there.
    KeyError when there is no such method.
    """
    plain, _, version = method_id.partition("@")
    service, *resources, name = plain.split(".")
    known = _digest().get(service, {}).get("methods", {})
    if method_id in known:
        found: Mapping[str, Any] = known[method_id]
        return found
    node = document(service, version) if version else document(service)  # one and the same entry of the cache
    for resource in resources:
        node = node["resources"][resource]
    method: Mapping[str, Any] = node["methods"][name]
    return method


class Google:
    """Google's services, as one project in one region uses them."""

    def __init__(self, region: str, endpoints: Mapping[str, str] | None = None, transport: Transport | None = None) -> None:
        self.region = region
        self._endpoints = endpoints or {}
        self._transport = transport or Transport()
        self._credentials: Any = None
        self.date: datetime | None = None
        """When the last answer was given, by the clock of the service that gave it."""

    def in_region(self, region: str) -> Google:
        """The same services, Vertex AI in another region. An address of the stack's own stays as it is."""
        return Google(region, self._endpoints, self._transport)

    def base_url(self, service: str) -> str:
        """The root of a service's addresses, ending in a slash."""
        chosen = os.environ.get(override_name(service)) or self._endpoints.get(service)
        if chosen:
            # gcloud's users write some overrides with the service's path (…/storage/v1/); the documents' paths have it already.
            return chosen.rstrip("/").removesuffix(described(service)["servicePath"].rstrip("/")).rstrip("/") + "/"
        root: str = described(service)["rootUrl"]
        return f"https://{self.region}-aiplatform.googleapis.com/" if service == "aiplatform" else root

    def is_google(self, service: str) -> bool:
        """Whether a service is Google's own, and not one that stands in for it."""
        return self.base_url(service).removesuffix("/").endswith(".googleapis.com")

    def call(
        self,
        method_id: str,
        *,
        body: Mapping[str, Any] | None = None,
        repeat: bool | None = None,
        allowed: Callable[[], bool] | None = None,
        **params: Any,
    ) -> Any:
        """Calls a method and returns its JSON answer.

        `repeat`: whether the call may be sent again after an unclear answer; by default only reads (GET) may.
        `allowed`: asked right before the request goes out; if it says no, the error is one of a request that was not sent.
        Raises GoogleError.
        """
        repeat = discovered(method_id)["httpMethod"] == "GET" if repeat is None else repeat
        content = None if body is None else json.dumps(body).encode()
        answer = self._send(method_id, params, content, "application/json", repeat, allowed=allowed)
        return self._decoded(method_id, answer)

    def pages(self, method_id: str, field: str, **params: Any) -> Iterator[dict[str, Any]]:
        """The items of a list method (GET), over all its pages."""
        while True:
            page = self.call(method_id, **params)
            yield from page.get(field, ())
            if not page.get("nextPageToken"):
                return
            params["pageToken"] = page["nextPageToken"]

    def download(self, bucket: str, name: str, generation: int | None = None) -> bytes:
        """An object's bytes, of that generation if one is given."""
        params: dict[str, Any] = {"bucket": bucket, "object": name, "alt": "media"}
        if generation is not None:
            params["generation"] = str(generation)
        return self._send("storage.objects.get", params, None, "", True).body

    def upload(self, bucket: str, name: str, content: bytes, content_type: str, *, if_generation: int) -> Any:
        """Writes an object if its generation is `if_generation` (0: if there is none), else raises GoogleError with status 412.

        The condition makes it safe to send again; a 412 may then be the echo of one's own write, so look at what is there.
        """
        params = {"bucket": bucket, "name": name, "uploadType": "media", "ifGenerationMatch": str(if_generation)}
        answer = self._send("storage.objects.insert", params, content, content_type, True, media=True)
        return self._decoded("storage.objects.insert", answer)

    def begin_upload(self, bucket: str, name: str, content_type: str, *, if_generation: int) -> str:
        """Begins a resumable upload under the same condition; returns the address that its parts go to. Raises GoogleError."""
        params = {"bucket": bucket, "name": name, "uploadType": "resumable", "ifGenerationMatch": str(if_generation)}
        content = json.dumps({"contentType": content_type}).encode()
        answer = self._send("storage.objects.insert", params, content, "application/json", True, media=True)
        if "location" not in answer.headers:
            raise self._strange("storage.objects.insert", answer)
        return answer.headers["location"]

    def upload_part(self, url: str, content: bytes, first: int, total: int) -> dict[str, Any] | int:
        """Sends the part of a resumable upload from byte `first` on; no content asks how far it has come.

        Returns the object when it is complete, else the number of bytes that have arrived. Sent once. Raises GoogleError.
        """
        span = f"{first}-{first + len(content) - 1}" if content else "*"
        headers = {"Content-Range": f"bytes {span}/{total}"}
        answer = self._once("storage.objects.insert", "PUT", url, headers, content, False, None)
        if answer.status != RESUME_INCOMPLETE:
            return self._decoded("storage.objects.insert", answer)
        arrived = answer.headers.get("range", "")  # bytes=0-LAST, absent while there is none
        return int(arrived.rpartition("-")[2]) + 1 if arrived else 0

    def _send(
        self,
        method_id: str,
        params: Mapping[str, Any],
        body: bytes | None,
        content_type: str,
        repeat: bool,
        media: bool = False,
        allowed: Callable[[], bool] | None = None,
    ) -> Response:
        method = discovered(method_id)
        url = self._url(method_id, method, params, media)
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._once(method_id, method["httpMethod"], url, headers, body, not repeat, allowed)
            except GoogleError as error:
                # Nobody listens there: waiting long helps no one.
                most = 3 if error.reason == "REFUSED" else ATTEMPTS
                if not (repeat and error.transient and attempt < most and error.retry_after <= LONGEST_WAIT):
                    raise
                time.sleep(pause(attempt, error.retry_after))

    def _once(
        self,
        method_id: str,
        verb: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        fresh: bool,
        allowed: Callable[[], bool] | None,
    ) -> Response:
        try:
            headers = {**self._signature(), **headers}
            answer = self._transport.send(verb, url, headers, body, fresh=fresh, allowed=allowed)
        except (OSError, http.client.HTTPException) as error:
            cause = error.__cause__ if isinstance(error, NotSent) else error
            refused = isinstance(cause, (ConnectionRefusedError, socket.gaierror))
            text = getattr(error, "strerror", None) or str(error) or type(error).__name__
            word, sent = "REFUSED" if refused else "LOST", not isinstance(error, NotSent)
            raise GoogleError(method_id, url, None, word, text, sent=sent) from error
        self.date = _date(answer.headers.get("date", ""))
        if answer.status >= 300 and answer.status != RESUME_INCOMPLETE:
            reason, message, details = _said(answer)
            after = _seconds(answer.headers.get("retry-after", ""), self.date)
            raise GoogleError(method_id, url, answer.status, reason, message, after, details)
        return answer

    def _decoded(self, method_id: str, answer: Response) -> dict[str, Any]:
        """An answer's JSON object. Without one it is somebody else's: raises GoogleError, as when no answer came."""
        try:
            found = json.loads(answer.body or b"{}")
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self._strange(method_id, answer)
        return found

    def _strange(self, method_id: str, answer: Response) -> GoogleError:
        text = " ".join(answer.body[:300].decode("utf-8", "replace").split())[:80]
        return GoogleError(method_id, self.base_url(method_id.partition(".")[0]), None, STRANGE, f"{answer.status}, {text!r}")

    def _url(self, method_id: str, method: Mapping[str, Any], params: Mapping[str, Any], media: bool) -> str:
        service = method_id.partition(".")[0]
        known = {**described(service)["parameters"], **method["parameters"]}
        unknown = set(params) - set(known)
        if unknown:
            raise TypeError(f"{method_id} has no parameter {', '.join(sorted(unknown))}")
        path = method["mediaUpload"]["protocols"]["simple"]["path"].lstrip("/") if media else None
        path = path or described(service)["servicePath"] + method["path"]

        def fill(match: re.Match[str]) -> str:
            # RFC 6570: {+name} keeps slashes and colons, {name} keeps nothing.
            return quote(str(params[match[2]]), safe="/:" if match[1] else "")

        path = re.sub(r"\{(\+?)(\w+)\}", fill, path)
        query = [(name, value) for name, value in params.items() if known[name]["location"] == "query"]
        return self.base_url(service) + path + ("?" + urlencode(query, doseq=True) if query else "")

    def access_token(self) -> str:
        """A token that is valid now. Raises UserError when there is none."""
        try:
            return self._token()
        except NotSent as error:
            raise UserError(f"{error.strerror}; check the network") from error

    def _token(self) -> str:
        given = os.environ.get("GOOGLE_OAUTH_ACCESS_TOKEN")
        if given:
            return given
        from launcher.google import credentials

        self._credentials = credentials.valid(self._credentials, SCOPE)
        return str(self._credentials.token)

    def _signature(self) -> dict[str, str]:
        """The headers that say who calls, with what program, and against which project's quota. Raises UserError, NotSent."""
        signature = {"Authorization": f"Bearer {self._token()}", "User-Agent": "odcloud"}
        project = os.environ.get(QUOTA_PROJECT) or getattr(self._credentials, "quota_project_id", None)
        return {**signature, "X-Goog-User-Project": project} if project else signature


def pause(attempt: int, retry_after: float = 0.0) -> float:
    """Seconds to wait after the attempt-th failure: 0.4 to 0.8, then twice as long each time, and never less than asked for."""
    return max(retry_after, random.uniform(0.4, 0.8) * 2 ** (attempt - 1)) + (random.uniform(0, 0.5) if retry_after else 0.0)


def _date(text: str) -> datetime | None:
    """An HTTP date."""
    if not text:
        return None
    try:
        return datetime.strptime(text, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def _seconds(retry_after: str, now: datetime | None) -> float:
    """The wait that a Retry-After header asks for, in seconds or until a date; 0 for none."""
    if retry_after.isdigit():
        return float(retry_after)
    until = _date(retry_after)
    return max(0.0, (until - (now or datetime.now(timezone.utc))).total_seconds()) if until else 0.0


def _said(answer: Response) -> tuple[str, str, dict[str, Any]]:
    """Google's reason and message in an error's body, and the error object itself."""
    try:
        error = json.loads(answer.body)["error"]
        return str(error.get("status") or http.client.responses.get(answer.status, "")), str(error["message"]).strip(), error
    except (ValueError, KeyError, TypeError, AttributeError):
        text = answer.body.decode("utf-8", "replace").strip()
        return http.client.responses.get(answer.status, ""), text[:300] or "(no explanation)", {}
