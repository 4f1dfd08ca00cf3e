"""What a node shows over HTTP, on loopback only: whether it lives, whether it is ready, and its metrics."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

_HOST = "127.0.0.1"


class HttpPortTaken(Exception):
    """Somebody else listens on the port that was asked for."""


class _Server(uvicorn.Server):
    """The node handles signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serve_http(
    port: int, why_not_ready: Callable[[], list[str]], metrics_page: Callable[[], Awaitable[bytes]]
) -> AsyncIterator[str]:
    """Serve on `port` of loopback (0: any free one); gives the URL. The node is ready if nothing says why not."""
    async with serving(_application(why_not_ready, metrics_page), port) as url:
        yield url


@asynccontextmanager
async def serving(application: Starlette, port: int = 0) -> AsyncIterator[str]:
    """An application on `port` of loopback (0: any free one) while the context lasts; gives the URL."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_HOST, port))
    except OSError as error:
        listener.close()
        raise HttpPortTaken(
            f"port {port} of {_HOST} is in use; choose another with --http-port, or 0 for any"
        ) from error
    listener.listen(128)
    server = _Server(uvicorn.Config(application, log_level="warning", access_log=False, lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://{_HOST}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


def _application(why_not_ready: Callable[[], list[str]], metrics_page: Callable[[], Awaitable[bytes]]) -> Starlette:
    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(request: Request) -> Response:
        reasons = why_not_ready()
        if reasons:
            return JSONResponse({"status": "not ready", "reasons": reasons}, status_code=503)
        return JSONResponse({"status": "ready"})

    async def metrics(request: Request) -> Response:
        return Response(await metrics_page(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)])
