"""Calling a tool for an agent: found by name, arguments checked, bounded in time, tried again where that is safe."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import stamina
from msgspec import UNSET, Struct, UnsetType

from l02.bus.wire.agent.protocol import Offer, ToolDescription
from l02.bus.wire.agent.texts import cut
from l02.domain.errors import ErrorCode, Failure
from l02.domain.specification import AgentSpecification, ToolServer
from l02.handlers.executor.tools.checks import SchemaChecks
from l02.handlers.executor.tools.offering import offered, servers_named, tool_named, unknown_names
from l02.handlers.tool_servers import ToolFailed, ToolInfo, ToolNotRun, ToolRefused, ToolServers

_FIRST_RETRY_SECONDS = 0.2
_LONGEST_RETRY_SECONDS = 30.0
_OTHERS_SECONDS = 5.0
"""Once a server has the tool, the others that are starting get so long to say that they have one of that name too."""
_SHOWN_NAMES = 50

RunLocal = Callable[[str, dict[str, Any]], Awaitable[Any]]


class LocalToolLost(Exception):
    """The agent's process went away while its own tool ran."""


class Tool(Struct, frozen=True):
    """A tool that an agent may call. `server` is None for one inside the agent.

    `asks_at` names the server of one that a person must say yes to.
    """

    name: str
    schema: dict[str, Any]
    idempotent: bool
    server: ToolServer | None
    asks_at: str | None = None

    @property
    def leaves(self) -> bool:
        """Whether a call can be seen outside: in its sandbox an agent reaches nothing, and may do it again."""
        return self.server is not None or not self.idempotent


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
        warn: Callable[[str], None] = lambda _: None,
        agent_id: str = "",
    ) -> None:
        """`warn` is told what the specification says of tools that there are not."""
        self._limits = specification.executor
        self._specification = specification
        self._servers = servers
        self._checks = checks
        self._warn = warn
        self._agent_id = agent_id
        self._descriptions = local
        self._local = {tool.name: Tool(tool.name, tool.schema, tool.idempotent, None) for tool in local}
        self._slots = asyncio.Semaphore(specification.executor.max_concurrent_tools)

    def is_local(self, name: str | UnsetType) -> bool:
        """Whether it is a tool of the agent's own."""
        return name in self._local

    async def find(self, name: str) -> Tool:
        """The tool of this name; Failure E2001 if there is none, or more than one.

        `server.tool` asks that server alone, and one of its tools that is called just so comes first. Another name is
        looked for at all servers side by side: one that cannot be started matters only if no other has the tool.
        """
        if name in self._local:
            return self._local[name]
        servers = self._specification.tools
        for server_name in servers_named(name, servers):
            try:
                there = self._seen(server_name, await self._servers.tools(servers[server_name]))
            except ToolNotRun as error:
                raise _not_found(f"the tool server {server_name!r} cannot be started: {error}") from error
            if (tool_name := tool_named(name, server_name, there)) is not None:
                return _tool(there[tool_name], server_name, servers[server_name])
        return await self._find_anywhere(name)

    async def _find_anywhere(self, name: str) -> Tool:
        servers = self._specification.tools
        looks = {server: asyncio.create_task(self._look(server)) for server in servers}
        try:
            found = await _first_found(
                name,
                looks,
                lambda server: self._servers.is_failing(servers[server]),
                lambda server: servers[server].allows(name),
            )
        finally:
            for look in looks.values():
                look.cancel()
        if len(found) == 1:
            [(server_name, info)] = found.items()
            return _tool(info, server_name, servers[server_name])
        if found:
            choice = ", ".join(f"{server}.{name}" for server in sorted(found))
            raise _not_found(f"several servers have a tool {name!r}; say which: {choice}")
        known, failures = set(self._local), []
        for server_name, look in looks.items():
            if error := look.exception():
                failures.append(f"; the tool server {server_name!r} cannot be started: {error}")
            elif name in look.result():
                raise _not_allowed(server_name, name)
            else:
                known |= set(filter(servers[server_name].allows, look.result()))
        raise _not_found(f"there is no tool {name!r}; the agent has: {_listed(known)}{''.join(failures)}")

    async def offer(self) -> Offer:
        """All tools that the agent may call, its own and its servers'; a server gets half a minute to say them."""
        servers = self._specification.tools
        answers = dict(
            zip(servers, await asyncio.gather(*map(self._look, servers), return_exceptions=True), strict=True)
        )
        for answer in answers.values():
            if isinstance(answer, BaseException) and not isinstance(answer, ToolNotRun):
                raise answer
        return offered(self._descriptions, servers, answers)

    async def _look(self, server: str) -> dict[str, ToolInfo]:
        return self._seen(server, await self._servers.offered(self._specification.tools[server]))

    def _seen(self, server: str, tools: dict[str, ToolInfo]) -> dict[str, ToolInfo]:
        if unknown := unknown_names(server, self._specification.tools[server], tools):
            self._warn(unknown)
        return tools

    async def check(self, tool: Tool, arguments: dict[str, Any]) -> None:
        """Failure E2001 if the arguments do not fit the tool's schema."""
        is_servers = tool.server is not None
        async with self._slots:
            await self._checks.require_fit(
                tool.name, tool.schema, arguments, is_servers=is_servers, agent_id=self._agent_id
            )

    async def call(
        self, tool: Tool, arguments: dict[str, Any], run_local: RunLocal, may_leave: Callable[[], Awaitable[None]]
    ) -> ToolOutcome:
        """Call it; tried again if it did not get to run, or is idempotent and its server did not answer.

        `may_leave` is asked each time before a call leaves that does. Never raises for a tool's failure. What
        `may_leave` raises passes through, and LocalToolLost: what then is to be done depends on the agent's next
        process.
        """
        retries = self._limits.max_tool_retries if self._limits.retry_on_tool_failure else 0

        def is_repeatable(error: Exception) -> bool:
            if isinstance(error, ToolRefused):  # the server is well: it would say the same again
                return False
            return isinstance(error, ToolNotRun) or (tool.idempotent and isinstance(error, ToolFailed | TimeoutError))

        attempts = 0
        try:
            async for attempt in stamina.retry_context(
                on=is_repeatable,
                attempts=retries + 1,
                timeout=None,
                wait_initial=_FIRST_RETRY_SECONDS,
                wait_max=_LONGEST_RETRY_SECONDS,
            ):
                with attempt:
                    attempts = attempt.num
                    async with self._slots:
                        if tool.leaves:
                            await may_leave()
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
            content = error.content if isinstance(error, ToolRefused) else UNSET
            return _failed(ErrorCode.TOOL_INVOCATION_FAILED, f"tool {tool.name!r} failed: {error}", attempts, content)

    async def _call_once(self, tool: Tool, arguments: dict[str, Any], run_local: RunLocal) -> Any:
        timeout = self._limits.tool_timeout_seconds
        if tool.server is not None:
            return await self._servers.call(tool.server, tool.name, arguments, timeout=timeout)
        async with asyncio.timeout(timeout):
            return await run_local(tool.name, arguments)


async def _first_found(
    name: str,
    looks: dict[str, asyncio.Task[dict[str, ToolInfo]]],
    is_failing: Callable[[str], bool],
    allows: Callable[[str], bool],
) -> dict[str, ToolInfo]:
    """Those servers that have the tool, which the agent may call there.

    Once one has, the others get a moment, and those that keep failing none.
    """
    deadline: float | None = None
    loop = asyncio.get_running_loop()
    while True:
        found = {
            server: look.result()[name]
            for server, look in looks.items()
            if look.done() and not look.exception() and name in look.result() and allows(server)
        }
        waiting = {look for server, look in looks.items() if not look.done() and not (found and is_failing(server))}
        if found and deadline is None:
            deadline = loop.time() + _OTHERS_SECONDS
        if not waiting or (deadline is not None and loop.time() >= deadline):
            return found
        patience = None if deadline is None else deadline - loop.time()
        await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)


def _tool(info: ToolInfo, server_name: str, server: ToolServer) -> Tool:
    if not server.allows(info.name):
        raise _not_allowed(server_name, info.name)
    asks_at = server_name if server.asks(info.name) else None
    return Tool(info.name, info.schema, info.name in server.idempotent, server, asks_at)


def _listed(names: set[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN_NAMES]) or "none"
    return shown if len(names) <= _SHOWN_NAMES else f"{shown} and {len(names) - _SHOWN_NAMES:,} more"


def _not_found(message: str) -> Failure:
    return Failure(ErrorCode.TOOL_INVOCATION_FAILED, message)


def _not_allowed(server: str, tool: str) -> Failure:
    return Failure(
        ErrorCode.NOT_AUTHORIZED,
        f"the agent may not call the tool {tool!r} of the tool server {server!r}: name it in the specification's "
        f"tools.{server}.allow if it is to",
    )


def _failed(code: ErrorCode, message: str, attempts: int, content: Any = UNSET) -> ToolOutcome:
    failure = {"code": code.value, "message": cut(message)}
    return ToolOutcome(False, failure if content is UNSET else {**failure, "content": content}, attempts)
