"""The connections to one endpoint: kept while they are used, the one that was used last first.

Each is a pool of one, because a pool of many looks at every idle one of them for each request. A client would add what
is not wanted here: cookies, redirects, what the environment says.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from functools import cache
from ssl import SSLContext

import httpx2

_MOST_IDLE = 64
_IDLE_SECONDS = 15.0
_ONE = httpx2.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_IDLE_SECONDS)


@cache
def _trusted() -> SSLContext:
    return httpx2.create_ssl_context()


class Connections:
    """As many as there are requests at once. `proxy` is the address of one, if it has to be asked."""

    def __init__(self, proxy: str | None) -> None:
        # They log what is sent and received.
        for name in ("httpx2", "httpcore2"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._proxy = proxy
        self._idle: deque[tuple[float, httpx2.AsyncHTTPTransport]] = deque()
        self._closed = False

    async def send(self, request: httpx2.Request) -> httpx2.Response:
        """The response; close it. Raises httpx2.HTTPError."""
        if self._idle:
            transport = self._idle.pop()[1]
        else:
            transport = httpx2.AsyncHTTPTransport(verify=_trusted(), trust_env=False, limits=_ONE, proxy=self._proxy)
        try:
            response = await transport.handle_async_request(request)
        except BaseException:
            await transport.aclose()
            raise
        response.request = request
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Lent(response.stream, transport, self)
        return response

    async def take_back(self, transport: httpx2.AsyncHTTPTransport) -> None:
        """A response was closed: its connection is kept, if the answer had been read to its end."""
        now = time.monotonic()
        self._idle.append((now, transport))
        while self._idle and (self._closed or len(self._idle) > _MOST_IDLE or self._idle[0][0] < now - _IDLE_SECONDS):
            await self._idle.popleft()[1].aclose()

    async def aclose(self) -> None:
        """Close all; those that are in use when they are given back."""
        self._closed = True
        while self._idle:
            await self._idle.popleft()[1].aclose()


class _Lent(httpx2.AsyncByteStream):
    def __init__(
        self, stream: httpx2.AsyncByteStream, transport: httpx2.AsyncHTTPTransport, connections: Connections
    ) -> None:
        self._stream = stream
        self._transport = transport
        self._connections = connections

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        except BaseException:
            await self._transport.aclose()
            raise
        await self._connections.take_back(self._transport)
