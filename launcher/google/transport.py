"""HTTP, plain: kept-alive connections, proxies from the environment, and never a request sent twice.

`httplib2`, under Google's own Python client, sends a request again by itself when a connection breaks before the answer came
(`httplib2.Http._conn_request`). For the call that creates a job that means two jobs, so connections are handled here: whoever
calls decides what may be repeated.
"""

from __future__ import annotations

import base64
import http.client
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass


@dataclass(frozen=True)
class Response:
    """An answer, read to its end. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NotSent(OSError):
    """A request of which not a byte left this machine: it can't have been carried out."""


class Transport:
    """Connections to a few hosts, one per host and thread."""

    def __init__(self, timeout: float = 60.0) -> None:
        """`timeout`: seconds that connecting, and each wait for bytes, may take."""
        self._timeout = timeout
        self._open = threading.local()

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        fresh: bool = False,
        allowed: Callable[[], bool] | None = None,
    ) -> Response:
        """Sends one request, once, and reads the answer.

        `fresh` asks for a new connection: one that lay idle may have been closed by the other side, and then nobody can tell
        whether the request arrived. `allowed` is asked when the connection stands, right before the request goes out.
        Raises NotSent when it did not go out, else OSError or http.client.HTTPException.
        """
        parts = urlsplit(url)
        key = (parts.scheme, parts.netloc)
        pool: dict[tuple[str, str], http.client.HTTPConnection] = self._open.__dict__.setdefault("connections", {})
        connection = pool.pop(key, None)
        if connection is not None and fresh:
            connection.close()
            connection = None
        if connection is None:
            connection = self._connect(parts.scheme, parts.netloc)
        # Through a proxy without a tunnel (http) the proxy is given the whole address.
        target = url if getattr(connection, "odcloud_forward", False) else url[url.index(parts.netloc) + len(parts.netloc) :]
        if connection.sock is None:
            try:
                connection.connect()
            except OSError as error:
                connection.close()
                raise NotSent(error.errno, getattr(error, "strerror", None) or str(error) or type(error).__name__) from error
        if allowed and not allowed():
            connection.close()
            raise NotSent(None, "connecting took too long")
        try:
            connection.request(method, target or "/", body=body, headers=dict(headers))
            answer = connection.getresponse()
            content = answer.read()
        except BaseException:
            connection.close()
            raise
        if answer.will_close:
            connection.close()
        else:
            pool[key] = connection
        return Response(answer.status, {name.lower(): value for name, value in answer.getheaders()}, content)

    def _connect(self, scheme: str, netloc: str) -> http.client.HTTPConnection:
        host = urlsplit(f"//{netloc}").hostname or netloc
        proxy = None if proxy_bypass(host) else getproxies().get(scheme)
        if scheme == "http":
            if not proxy:
                return http.client.HTTPConnection(netloc, timeout=self._timeout)
            connection = http.client.HTTPConnection(urlsplit(proxy).netloc.rpartition("@")[2], timeout=self._timeout)
            connection.odcloud_forward = True  # type: ignore[attr-defined]
            return connection
        context = _tls()
        if not proxy:
            return http.client.HTTPSConnection(netloc, timeout=self._timeout, context=context)
        parts = urlsplit(proxy)
        credentials = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        login = {"Proxy-Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()} if parts.username else {}
        tunnel = http.client.HTTPSConnection(parts.netloc.rpartition("@")[2], timeout=self._timeout, context=context)
        tunnel.set_tunnel(host, urlsplit(f"//{netloc}").port or 443, headers=login)
        return tunnel


def _tls() -> ssl.SSLContext:
    """The system's certificates and, for Pythons that come without any, certifi's."""
    context = ssl.create_default_context()
    try:
        import certifi

        context.load_verify_locations(certifi.where())
    except ImportError:
        pass
    return context
