"""The addresses that the page calls."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from torch import Tensor

from .. import __version__
from ..data.images import ImageError
from . import bodies, export
from .examples import examples
from .matching import Network, finite_or_none, unit_rows
from .models import Models
from .pictures import LARGEST_BYTES, LARGEST_PIXELS, store_picture, too_many_bytes
from .security import OwnPagesOnly
from .sessions import GoneError, Sessions

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_T = TypeVar("_T")


def make_app(models: Models, host: str = "127.0.0.1", sessions: Sessions | None = None) -> Starlette:
    """Make the application.

    Args:
        models: the models of the picker.
        host: what the server is bound to; see `security`.
        sessions: where pictures are kept.
    """
    server = _Server(models, Sessions() if sessions is None else sessions)
    session = "/api/sessions/{session}"
    routes = [
        Route("/", server.page),
        Route("/static/{name}", server.page),
        Route("/api/status", server.status),
        Route("/api/options", server.options),
        Route("/api/examples/{name}/{side}", server.example),
        Route("/api/sessions", server.new_session, methods=["POST"]),
        Route(f"{session}/pictures", server.upload, methods=["POST"]),
        Route(f"{session}/pictures/{{picture}}", server.picture),
        Route(f"{session}/features/{{picture}}", server.features),
        Route(f"{session}/matches", server.matches, methods=["POST"]),
        Route("/api/export/{kind}", server.export, methods=["POST"]),
    ]
    handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
        GoneError: _refuse(410, "gone"),
        ImageError: _refuse(422, "picture"),
        ValueError: _refuse(400, "input"),
        FileNotFoundError: _refuse(400, "input"),
        RuntimeError: _refuse(400, "input"),
        HTTPException: _refuse_http,
        Exception: _refuse_unexpected,
    }
    middleware = [Middleware(OwnPagesOnly, host=host)]
    return Starlette(routes=routes, exception_handlers=handlers, middleware=middleware)


class _Server:
    """The functions behind the addresses, and the queues of what runs in threads."""

    def __init__(self, models: Models, sessions: Sessions) -> None:
        self._models, self._sessions = models, sessions
        self._instance = secrets.token_urlsafe(6)
        self._static = _static_files()
        self._encoding = threading.Lock()  # one picture at a time: an encoder takes all cores
        # Separate, so that a click in one tab doesn't wait for the pictures of another.
        self._slow, self._fast = (anyio.CapacityLimiter(n) for n in (2, 2))

    async def page(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in self._static:
            raise HTTPException(404, f"there is no {name[:60]!r}.")
        content, kind = self._static[name]
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    async def status(self, request: Request) -> Response:
        return JSONResponse({"instance": self._instance, "version": __version__})

    async def options(self, request: Request) -> Response:
        found = {
            "instance": self._instance,
            "default": self._models.default,
            "models": [vars(choice) for choice in self._models.choices],
            "backends": [vars(choice) for choice in self._models.backends()],
            "examples": [{"name": name, "label": example.label} for name, example in examples().items()],
            "limits": {"bytes": LARGEST_BYTES, "pixels": LARGEST_PIXELS, "points": bodies.MOST_POINTS},
        }
        return JSONResponse(found)

    async def example(self, request: Request) -> Response:
        found, side = examples().get(request.path_params["name"]), request.path_params["side"]
        if found is None or side not in ("a", "b"):
            raise HTTPException(404, "there is no such example.")
        content = await _in_thread(found.pictures["ab".index(side)], self._slow)
        return Response(content, media_type="image/png")

    async def new_session(self, request: Request) -> Response:
        return JSONResponse({"session": self._sessions.new()}, 201)

    async def upload(self, request: Request) -> Response:
        session = self._sessions.get(request.path_params["session"])
        content = await _body(request, LARGEST_BYTES, too_many_bytes())
        picture = await _in_thread(lambda: store_picture(content), self._slow)
        name = session.add(picture)
        self._sessions.trim()
        height, width = picture.size
        return JSONResponse({"picture": name, "width": width, "height": height, "notes": picture.notes}, 201)

    async def picture(self, request: Request) -> Response:
        picture = self._sessions.get(request.path_params["session"]).picture(request.path_params["picture"])
        return Response(picture.jpeg, media_type="image/jpeg")

    async def features(self, request: Request) -> Response:
        """Answer with h * w unit descriptors of C float16, and their shape in the header `x-features`."""
        session, name = request.path_params["session"], request.path_params["picture"]
        model = request.query_params.get("model", "")

        def encode() -> tuple[bytes, dict[str, Any]]:
            start = time.perf_counter()
            network, encoded = self._map(session, name, model)
            _, channels, height, width = encoded.shape
            frame = network.frame(self._sessions.get(session).picture(name).size)
            shape = {"height": height, "width": width, "channels": channels}
            facts = {**shape, "bilinear": network.bilinear, "frame": frame}
            defaults = {"window": network.settings.window, "temperature": network.settings.temperature}
            return unit_rows(encoded), facts | defaults | {"milliseconds": _since(start)}

        content, facts = await _in_thread(encode, self._slow)
        return Response(content, media_type="application/octet-stream", headers={"x-features": json.dumps(facts)})

    async def matches(self, request: Request) -> Response:
        session = request.path_params["session"]
        asked = bodies.match_request(await _json(request))

        def match() -> dict[str, Any]:
            pictures = [self._sessions.get(session).picture(name) for name in (asked.a, asked.b)]
            points = bodies.inside(asked.points, pictures[0].size, "points")
            (network, a), (_, b) = (self._map(session, name, asked.model) for name in (asked.a, asked.b))
            start = time.perf_counter()
            found = network.match(a, b, points, pictures[0].size, pictures[1].size, asked.settings)
            return {"matches": [_match_of(found, i) for i in range(len(found))], "milliseconds": _since(start)}

        return JSONResponse(await _in_thread(match, self._fast))

    async def export(self, request: Request) -> Response:
        kind = request.path_params["kind"]
        if kind not in export.KINDS:
            raise HTTPException(404, f"matches can be written as {', '.join(export.KINDS)}.")
        write, media_type, name = export.KINDS[kind]
        content = write(export.shown(await _json(request)))
        return Response(
            content, media_type=media_type, headers={"content-disposition": f'attachment; filename="{name}"'}
        )

    def _map(self, session: str, picture: str, model: str) -> tuple[Network, Tensor]:
        """Return a model and the map of a picture, which is encoded if it isn't there."""
        network = self._models.get(model)
        found = self._sessions.get(session)
        encoded = found.kept_features(picture, model)
        if encoded is None:
            with self._encoding:
                encoded = found.features(picture, model, lambda stored: network.encode(stored.pixels))
            self._sessions.trim()
        return network, encoded


def _match_of(found: Any, index: int) -> dict[str, Any]:
    variance_x, covariance_xy, _, variance_y = found.covariance[index].flatten().tolist()
    numbers = {
        "x": found.matches[index, 0],
        "y": found.matches[index, 1],
        "confidence": found.confidence[index],
        "cycle_distance": found.cycle_distance[index],
        "variance_x": variance_x,
        "covariance_xy": covariance_xy,
        "variance_y": variance_y,
    }
    finite = {name: finite_or_none(float(value)) for name, value in numbers.items()}
    return {**finite, "mutual": bool(found.mutual[index])}


async def _in_thread(function: Callable[[], _T], limiter: anyio.CapacityLimiter) -> _T:
    return await anyio.to_thread.run_sync(function, limiter=limiter)


async def _body(request: Request, most: int, message: str) -> bytes:
    """Read a request's body, and stop once it is too large."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise HTTPException(413, message)
        parts.append(part)
    return b"".join(parts)


async def _json(request: Request) -> dict[str, Any]:
    """Read a JSON object. Pages of other sites can't send this content type without asking first."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "the request must have the content type application/json.")
    message = f"the request must have at most {bodies.LARGEST_BODY >> 20} MiB."
    return bodies.read_object(await _body(request, bodies.LARGEST_BODY, message))


def _static_files() -> dict[str, tuple[bytes, str]]:
    """Read the page's files once, so that no request opens a file."""
    folder = Path(__file__).parent / "static"
    files = [path for path in sorted(folder.iterdir()) if path.suffix in _TYPES]
    return {path.name: (path.read_bytes(), _TYPES[path.suffix]) for path in files}


def _since(start: float) -> float:
    return round(1000 * (time.perf_counter() - start), 2)


def _refuse(status: int, code: str) -> Callable[[Request, Any], Awaitable[Response]]:
    async def handler(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error), "code": code}, status)

    return handler


async def _refuse_http(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail, "code": "http"}, error.status_code, error.headers)


async def _refuse_unexpected(request: Request, error: Exception) -> Response:
    """Answer what nobody foresaw; the server logs it."""
    message = f"the server met an error that it doesn't know ({type(error).__name__}); its terminal has more."
    return JSONResponse({"error": message, "code": "unexpected"}, 500)
