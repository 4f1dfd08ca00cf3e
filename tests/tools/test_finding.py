"""Which tool a name means: what one server does must not take the tools of the others away, nor hold them up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace

from l02.bus.wire.agent.protocol import ToolDescription
from l02.domain.errors import Failure
from l02.domain.specification import AgentSpecification, ExecutorLimits, ToolServer
from l02.handlers.executor.tools.calling import ToolBox
from l02.handlers.executor.tools.checks import SchemaChecks
from l02.handlers.tool_servers import ToolNotRun, ToolServers
from l02.handlers.tool_servers.launch import specification_key
from tests.tools.conftest import WORKSHOP, landlock_only, running, specification
from tests.tools.hostile import encoded, hostile_server

pytestmark = landlock_only
MISSING = ToolServer(command=("no-such-program",))
SILENT = specification("rogue", "silent", "a-silent-one")
ROGUE = specification("rogue", "", "found-one")


@pytest_asyncio.fixture
async def checks() -> AsyncIterator[SchemaChecks]:
    checks = SchemaChecks()
    yield checks
    await checks.close()


def box(servers: ToolServers, checks: SchemaChecks, *local: ToolDescription, **tools: ToolServer) -> ToolBox:
    limits = ExecutorLimits(max_tool_retries=2, tool_timeout_seconds=20)
    agent = AgentSpecification(name="a", entrypoint="a:a", tools=tools, executor=limits)
    return ToolBox(agent, list(local), servers, checks)


async def no_local(name: str, arguments: dict[str, Any]) -> Any:
    raise AssertionError(f"{name} is no tool of the agent's own")


async def at_once() -> None:
    """Nothing is waited for before a call leaves."""


async def failing(servers: ToolServers, server: ToolServer, times: int) -> None:
    """Let a server have failed so often that it rests for long."""
    for _ in range(times):
        with pytest.raises(ToolNotRun):
            await servers.tools(server)


async def test_a_full_name_asks_that_server_alone(servers: ToolServers, checks: SchemaChecks) -> None:
    tools = box(servers, checks, good=ROGUE, silent=SILENT, gone=MISSING)
    async with asyncio.timeout(20):
        found = await tools.find("good.echo")
    assert (found.name, found.server) == ("echo", ROGUE)
    assert not running("a-silent-one")


async def test_servers_that_cannot_start_take_no_tools_away(servers: ToolServers, checks: SchemaChecks) -> None:
    tools = box(servers, checks, gone=MISSING, silent=SILENT, good=ROGUE)
    await failing(servers, MISSING, 4)
    began = time.monotonic()
    assert (await tools.find("echo")).server == ROGUE
    assert (await tools.find("good.echo")).server == ROGUE
    assert time.monotonic() - began < 15, "the silent one has thirty seconds, the other is at rest for four"


async def test_a_failure_is_told_where_the_tool_was_meant(servers: ToolServers, checks: SchemaChecks) -> None:
    toolless = hostile_server("toolless", tools_list=b'{"jsonrpc": "2.0", "id": @ID@, "result": {"tools": []}}\n')
    tools = box(servers, checks, gone=MISSING, good=ROGUE, empty=toolless)
    with pytest.raises(Failure, match="the tool server 'gone' cannot be started: .* neither on PATH"):
        await tools.find("gone.echo")
    with pytest.raises(Failure, match="there is no tool 'x'; the agent has: chatter, .* 'gone' cannot be started"):
        await tools.find("x")
    with pytest.raises(Failure, match="there is no tool 'good.x'; the agent has: chatter"):
        await tools.find("good.x")


async def test_a_tool_of_exactly_that_name_comes_first(servers: ToolServers, checks: SchemaChecks) -> None:
    names = b'"tools": [{"name": "ok"}, {"name": "k.ok", "description": "exactly"}]'
    k = hostile_server("dots", tools_list=b'{"jsonrpc": "2.0", "id": @ID@, "result": {' + names + b"}}\n")
    assert (await box(servers, checks, k=k).find("k.ok")).name == "k.ok"
    assert (await box(servers, checks, k=k).find("ok")).name == "ok"
    assert (await box(servers, checks, k=k, other=ROGUE).find("k.k.ok")).name == "k.ok"
    own = ToolDescription(name="k.ok", description="", schema={})
    assert (await box(servers, checks, own, k=k).find("k.ok")).server is None
    longer = box(servers, checks, **{"k": k, "k.k": ROGUE})
    assert (await longer.find("k.k.echo")).server == ROGUE


async def test_two_servers_with_the_tool(servers: ToolServers, checks: SchemaChecks) -> None:
    tools = box(servers, checks, one=ROGUE, two=WORKSHOP)
    with pytest.raises(Failure, match=r"several servers have a tool 'echo'; say which: one\.echo, two\.echo"):
        await tools.find("echo")
    assert (await tools.find("add")).server == WORKSHOP


async def test_a_tool_that_has_come_is_found(servers: ToolServers, checks: SchemaChecks) -> None:
    talker = hostile_server("changing")
    tools = box(servers, checks, talker=talker)
    relist = await tools.find("relist")
    raw = b'{"jsonrpc": "2.0", "id": @ID@, "result": {"tools": [{"name": "echo"}, {"name": "new"}]}}\n'
    assert (await tools.call(relist, {"raw": encoded(raw)}, no_local, at_once)).ok
    assert (await tools.find("new")).name == "new"
    with pytest.raises(Failure, match="there is no tool 'say'; the agent has: echo, new$"):
        await tools.find("say")


async def test_many_names_are_not_all_told(servers: ToolServers, checks: SchemaChecks) -> None:
    listed = b", ".join(b'{"name": "t%04d"}' % number for number in range(2000))
    many = hostile_server(
        "many", tools_list=b'{"jsonrpc": "2.0", "id": @ID@, "result": {"tools": [' + listed + b"]}}\n"
    )
    with pytest.raises(Failure, match=r"the agent has: t0000, .*, t0049 and 1,950 more$"):
        await box(servers, checks, many=many).find("x")


@pytest.mark.parametrize(
    ("tool", "arguments", "attempts"),
    [("fail", {"message": "no"}, 1), ("add", {"a": "x"}, 1), ("leave", {"code": 3}, 3)],
)
async def test_what_a_healthy_server_refuses_is_not_tried_again(
    servers: ToolServers, checks: SchemaChecks, tool: str, arguments: dict[str, Any], attempts: int
) -> None:
    server = specification("workshop", idempotent=("fail", "add", "leave"))
    tools = box(servers, checks, workshop=server)
    outcome = await tools.call(await tools.find(tool), arguments, no_local, at_once)
    assert (outcome.ok, outcome.result["code"], outcome.attempts) == (False, "E2001", attempts)


async def test_a_tool_that_is_not_allowed_is_none_of_the_agents(servers: ToolServers, checks: SchemaChecks) -> None:
    quiet = replace(ROGUE, allow=("chatter", "gossip"))
    warnings: list[str] = []
    agent = AgentSpecification(name="a", entrypoint="a:a", tools={"quiet": quiet})
    tools = ToolBox(agent, [], servers, checks, warnings.append)
    assert (await tools.find("chatter")).name == (await tools.find("quiet.chatter")).name == "chatter"
    for name in ("echo", "quiet.echo"):
        with pytest.raises(Failure, match="E2114.*may not call the tool 'echo' .*tools.quiet.allow"):
            await tools.find(name)
    assert [tool.name for tool in (await tools.offer()).tools] == ["quiet.chatter"]
    assert set(warnings) == {"tools.quiet.allow names gossip: the server has no such tool"}
    both = box(servers, checks, quiet=quiet, good=ROGUE)
    assert (await both.find("echo")).server == ROGUE, "the one that may be called"
    with pytest.raises(Failure, match="E2001.*there is no tool 'x'; the agent has: chatter,? "):
        await both.find("x")
    assert specification_key(quiet) == specification_key(ROGUE), "one process for both"
