"""Who may call the server: pages that it served itself, by an address that no other site can point to it.

A page of another site may point its own name to this machine (DNS rebinding) and so read what the server answers. The
browser then sends that name in the Host header, so names that aren't this machine's are refused. Nothing allows other
origins (CORS), and requests that such a page could send all the same are refused by their Origin header.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOCAL = ("localhost", "127.0.0.1", "::1")
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    )
)
HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def allowed_names(host: str) -> frozenset[str]:
    """Return the names by which a server that is bound to `host` may be called, in lower case.

    Bound to this machine alone, that is localhost; otherwise also the machine's own name.
    """
    names = {*_LOCAL, host.lower()}
    if not is_loopback(host):
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(names)


def is_allowed(header: str, names: Iterable[str], any_address: bool) -> bool:
    """Tell whether a Host header names this machine; with `any_address`, any IP address does, which no site owns."""
    try:
        name = (urlsplit(f"//{header}").hostname or "").lower()
    except ValueError:
        return False
    if any_address:
        try:
            ipaddress.ip_address(name)
            return True
        except ValueError:
            pass
    return name in names


class OwnPagesOnly:
    """Middleware that refuses requests for other hosts and from other origins, and adds headers to answers."""

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._names, self._any_address = allowed_names(host), not is_loopback(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(Headers(scope=scope))
        app = self._app if refusal is None else JSONResponse({"error": refusal, "code": "forbidden"}, 403)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await app(scope, receive, send_with_headers)

    def _refusal(self, headers: Headers) -> str | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not is_allowed(host, self._names, self._any_address):
            return "this server is called by another name than its own; open the address that it printed."
        if origin is not None and urlsplit(origin).netloc != host:
            return "this server answers only the pages that it served itself."
        return None


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
