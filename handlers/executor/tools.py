"""Calling a tool for an agent: found by name, arguments checked, bounded in time, tried again where that is safe."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import stamina
from msgspec import Struct

from domain.errors import ErrorCode, Failure
from domain.specification import AgentSpecification, ToolServer
from handlers.executor.checks import SchemaChecks
from handlers.tool_servers import ToolFailed, ToolNotRun, ToolServers
from l02.agent.protocol import ToolDescription

__all__ = ["LocalToolLost", "Tool", "ToolBox", "ToolOutcome"]

_FIRST_RETRY_SECONDS = 0.2
_LONGEST_RETRY_SECONDS = 30.0

RunLocal = Callable[[str, dict[str, Any]], Awaitable[Any]]


class LocalToolLost(Exception):
    """The agent's process went away while its own tool ran."""


class Tool(Struct, frozen=True):
    """A tool that an agent may call. `server` is None for one inside the agent."""

    name: str
    schema: dict[str, Any]
    idempotent: bool
    server: ToolServer | None


class ToolOutcome(Struct, frozen=True):
    """What came of a call."""

    ok: bool
    result: Any
    attempts: int


class ToolBox:
    """The tools of one agent."""

    def __init__(
        self,
        specification: AgentSpecification,
        local: list[ToolDescription],
        servers: ToolServers,
        checks: SchemaChecks,
    ) -> None:
        self._limits = specification.executor
        self._specification = specification
        self._servers = servers
        self._checks = checks
        self._local = {tool.name: Tool(tool.name, tool.schema, tool.idempotent, None) for tool in local}
        self._slots = asyncio.Semaphore(specification.executor.max_concurrent_tools)

    async def find(self, name: str) -> Tool:
        """The tool called `name`, or `server.name` where two servers have one of that name; Failure E2001 if none."""
        if name in self._local:
            return self._local[name]
        found: dict[str, Tool] = {}
        known: set[str] = set(self._local)
        for server_name, server in self._specification.tools.items():
            try:
                offered = await self._servers.tools(server)
            except ToolNotRun as error:
                raise Failure(
                    ErrorCode.TOOL_INVOCATION_FAILED, f"the tool server {server_name!r} cannot be started: {error}"
                ) from error
            known |= offered.keys()
            for tool_name in (name, name.removeprefix(f"{server_name}.")):
                if tool_name in offered:
                    info = offered[tool_name]
                    found[server_name] = Tool(tool_name, info.schema, tool_name in server.idempotent, server)
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            raise Failure(
                ErrorCode.TOOL_INVOCATION_FAILED,
                f"several servers have a tool {name!r}; say which: "
                + ", ".join(f"{server}.{name}" for server in sorted(found)),
            )
        raise Failure(
            ErrorCode.TOOL_INVOCATION_FAILED,
            f"there is no tool {name!r}; the agent has: {', '.join(sorted(known)) or 'none'}",
        )

    async def check(self, tool: Tool, arguments: dict[str, Any]) -> None:
        """Failure E2001 if the arguments do not fit the tool's schema."""
        await self._checks.require_fit(tool.name, tool.schema, arguments)

    async def call(self, tool: Tool, arguments: dict[str, Any], run_local: RunLocal) -> ToolOutcome:
        """Call it; tried again if it is idempotent, or if it did not get to run. Never raises for a tool's failure.

        LocalToolLost passes through: what then is to be done depends on the agent's next process.
        """
        retries = self._limits.max_tool_retries if self._limits.retry_on_tool_failure else 0
        repeatable = (ToolFailed, ToolNotRun, TimeoutError) if tool.idempotent else (ToolNotRun,)
        attempts = 0
        try:
            async for attempt in stamina.retry_context(
                on=repeatable,
                attempts=retries + 1,
                timeout=None,
                wait_initial=_FIRST_RETRY_SECONDS,
                wait_max=_LONGEST_RETRY_SECONDS,
            ):
                with attempt:
                    attempts = attempt.num
                    async with self._slots:
                        result = await self._call_once(tool, arguments, run_local)
            return ToolOutcome(True, result, attempts)
        except TimeoutError:
            seconds = self._limits.tool_timeout_seconds
            return _failed(
                ErrorCode.TOOL_TIMEOUT,
                f"tool {tool.name!r} did not answer within {seconds:g} s (tool_timeout_seconds)",
                attempts,
            )
        except (ToolFailed, ToolNotRun) as error:
            return _failed(ErrorCode.TOOL_INVOCATION_FAILED, f"tool {tool.name!r} failed: {error}", attempts)

    async def _call_once(self, tool: Tool, arguments: dict[str, Any], run_local: RunLocal) -> Any:
        timeout = self._limits.tool_timeout_seconds
        if tool.server is not None:
            return await self._servers.call(tool.server, tool.name, arguments, timeout=timeout)
        async with asyncio.timeout(timeout):
            return await run_local(tool.name, arguments)


def _failed(code: ErrorCode, message: str, attempts: int) -> ToolOutcome:
    return ToolOutcome(False, {"code": code.value, "message": message}, attempts)
