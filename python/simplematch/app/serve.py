"""Opens the port and runs the server."""

from __future__ import annotations

import errno
import socket

import uvicorn
from starlette.types import ASGIApp

from .._files import reason_of


def open_port(host: str, port: int) -> socket.socket:
    """Bind a socket, so that an error comes before models are loaded; port 0 is any that is free.

    Raises:
        ValueError: the host or port is wrong, in use, or not allowed.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"port must be 0 to 65535, got {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen()
    except socket.gaierror as error:
        raise ValueError(f"host must be an address or a name of this machine, got {host!r}") from error
    except OSError as error:
        raise ValueError(_why_not(host, port, error)) from error
    return bound


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use; choose another one with --port, or --port 0 for any that is free"
    if error.errno == errno.EACCES:
        return f"port {port} of {host} needs more rights; choose one above 1023 with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"host must be an address of this machine, got {host!r}"
    return f"port {port} of {host} can't be opened: {reason_of(error)}"


def address_of(bound: socket.socket, host: str) -> str:
    """Return the address of the page for people: of this machine, if the server is bound to all of its addresses."""
    port = bound.getsockname()[1]
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}"


def run(app: ASGIApp, bound: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM; requests in progress have two seconds to end."""
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=2, server_header=False
    )
    uvicorn.Server(config).run(sockets=[bound])
