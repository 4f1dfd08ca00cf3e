"""One call to the context-orchestrator: made within a time, measured, and its answer read or its failure named.

A server that has stopped answering must not cost each session its own wait: then one call at a time finds out, the
others fail at once. One that lives and never answers is replaced by a new process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from prometheus_client import Histogram

from l02.domain.specification import ToolServer
from l02.handlers.tool_servers import ToolFailed, ToolNotRun, ToolRefused, ToolServers
from l02.handlers.tool_servers.messages import read
from l02.handlers.tool_servers.results import main_part

A = TypeVar("A", bound=Struct)

SILENT_AFTER = 3
"""So many calls in a row without an answer mean that the server does not answer."""
_IN_FLIGHT = 16
_SHOWN_CHARACTERS = 500


class CallFailed(Exception):
    """The other side was not told; the message is one line."""


class Unreachable(CallFailed):
    """The server is missing, silent, gone or makes no sense."""


class Refused(CallFailed):
    """The server is well, and answered with an error."""


class Calls:
    """The calls of one node to its context-orchestrator; `latency` is for the node's registry of metrics."""

    def __init__(self, servers: ToolServers, server: ToolServer, timeout_seconds: float) -> None:
        self._servers = servers
        self._server = server
        self._timeout = timeout_seconds
        self._slots = asyncio.Semaphore(_IN_FLIGHT)
        self._probe = asyncio.Lock()
        self._unanswered = 0
        self._wanted = asyncio.Event()
        self.latency = Histogram(
            "agent_runtime_session_bridge_latency_seconds",
            "Seconds that a call to the context-orchestrator took, whatever came of it.",
            ("operation",),
            registry=None,
        )

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the server from being stopped as idle; without a session to be told of, a node needs none."""
        self._servers.acquire(self._server)
        self._wanted.set()
        try:
            yield
        finally:
            self._servers.release(self._server)

    async def start_when_held(self) -> None:
        """Start the server when it is held, before it is first called, until cancelled.

        If it cannot be started, the first call says so, and each call tries again.
        """
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            with suppress(ToolNotRun):
                await self._servers.tools(self._server)

    async def call(
        self, operation: str, tool: str, arguments: dict[str, Any], answer: type[A], *, may_start: bool = True
    ) -> A:
        """What the tool answers. The time counts from when the server runs, unless it is not to be waited for.

        Raises Unreachable or Refused.
        """
        async with self._slots:
            if self._unanswered < SILENT_AFTER:
                return await self._call(operation, tool, arguments, answer, may_start)
        if self._probe.locked():
            raise Unreachable("the session server does not answer; another call finds out when it does again")
        async with self._probe:
            return await self._call(operation, tool, arguments, answer, may_start)

    async def _call(self, operation: str, tool: str, arguments: dict[str, Any], answer: type[A], may_start: bool) -> A:
        begun = time.perf_counter()
        try:
            if may_start:
                await self._servers.tools(self._server)
            result = await self._servers.call(self._server, tool, arguments, timeout=self._timeout)
        except ToolRefused as error:
            self._unanswered = 0
            raise Refused(_line(f"{tool}: {error}")) from error
        except TimeoutError as error:
            self._no_answer()
            raise Unreachable(_line(str(error))) from error
        except (ToolNotRun, ToolFailed) as error:
            raise Unreachable(_line(str(error))) from error
        finally:
            self.latency.labels(operation).observe(time.perf_counter() - begun)
        self._unanswered = 0
        return _read(tool, result, answer)

    def _no_answer(self) -> None:
        self._unanswered += 1
        if self._unanswered % SILENT_AFTER == 0:
            self._servers.replace(self._server)


def _read(tool: str, result: Any, answer: type[A]) -> A:
    """An answer from the tool's text, which is JSON; `success`, where there is such a field, has to be true."""
    try:
        said = main_part(result)
        value = read(msgspec.Raw(said.encode()), object) if isinstance(said, str) else said
        if isinstance(value, dict) and value.get("success") is False:
            raise Refused(_line(f"{tool} did not succeed: {result}"))
        return msgspec.convert(value, answer)
    except (ValueError, RecursionError) as error:
        raise Unreachable(_line(f"{tool} answered with what is no answer: {error}; it was {result!r}")) from error


def _line(text: str) -> str:
    text = " ".join(text.replace("\0", "\ufffd").split())
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
