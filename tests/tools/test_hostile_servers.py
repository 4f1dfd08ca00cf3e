"""Every message of MCP with hostile values and lines: its own call fails with words at most, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from l02.domain.specification import ToolServer
from l02.handlers.tool_servers import ToolFailed, ToolNotRun, ToolServers, connection
from tests.tools.conftest import landlock_only, running, specification
from tests.tools.hostile import encoded, handshakes, hostile_server, lists, messages
from tests.tools.test_bad_servers import others_undisturbed

pytestmark = landlock_only
TALKER = hostile_server("talker")


async def say(servers: ToolServers, raw: bytes) -> object:
    """What comes of a call that is answered so; the failure, if it fails."""
    try:
        return await servers.call(TALKER, "say", {"raw": encoded(raw)}, timeout=20)
    except ToolFailed as error:
        assert str(error)
        return error


async def waiting(servers: ToolServers, server: ToolServer) -> asyncio.Task[object]:
    """A call that is under way at a `rogue` until the next one is answered."""
    call = asyncio.create_task(servers.call(server, "later", {"text": "another's"}, timeout=60))
    while await servers.call(server, "how many wait", {}, timeout=60) != "1":
        pass
    return call


async def side_by_side(servers: ToolServers, raws: Iterable[bytes]) -> None:
    left = iter(list(raws))

    async def work() -> None:
        for raw in left:
            await say(servers, raw)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(work())


async def test_messages(servers: ToolServers) -> None:
    """Calls under way at the same server are answered all the while, by the same process."""
    async with others_undisturbed(servers):
        await servers.tools(TALKER)
        (process,) = [process for process in running("talker") if "hostile.py" in " ".join(process.cmdline()[2:3])]
        await side_by_side(servers, messages())
        assert process.is_running()
        assert await servers.call(TALKER, "echo", {"text": "still here"}, timeout=20) == "still here"


async def test_lists_of_tools(servers: ToolServers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LIST_SECONDS", 0.1)
    async with others_undisturbed(servers):
        for raw in lists():
            await servers.call(TALKER, "relist", {"raw": encoded(raw)}, timeout=20)
            offered = await servers.tools(TALKER)
            assert all(isinstance(tool.name, str) and isinstance(tool.schema, dict) for tool in offered.values())
            assert len(offered) <= connection.MAX_TOOLS
        assert await servers.call(TALKER, "echo", {"text": "still here"}, timeout=20) == "still here"


async def test_handshakes(servers: ToolServers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "START_SECONDS", 2.0)
    several = asyncio.Semaphore(4)

    async def start(number: int, raw: bytes) -> None:
        async with several:
            try:
                await servers.tools(hostile_server(f"h{number}", initialize=raw))
            except ToolNotRun as error:
                assert "MCP handshake" in str(error)

    async with others_undisturbed(servers), asyncio.TaskGroup() as tasks:
        for number, raw in enumerate(handshakes()):
            tasks.create_task(start(number, raw))


async def test_what_is_no_message_is_read_past(servers: ToolServers) -> None:
    talkative = hostile_server("talkative", initialize=b"Welcome!\n\xef\xbb\xbf" + GREETING)
    banner = specification("rogue", "banner")
    assert {"say", "echo"} <= (await servers.tools(talkative)).keys()
    assert await servers.call(banner, "echo", {"text": "x"}, timeout=20) == "x"
    slow = await waiting(servers, banner)
    assert await servers.call(banner, "garbage", {"text": "y"}, timeout=20) == "y"
    assert await slow == "another's"


GREETING = (
    b'{"jsonrpc": "2.0", "id": @ID@, "result": {"protocolVersion": "2024-11-05", "capabilities": {}, '
    b'"serverInfo": {"name": "old", "version": "0"}}}\r\n'
)


async def test_half_a_surrogate_pair_is_a_replacement_character(servers: ToolServers) -> None:
    text = rb'{"type": "text", "text": "\ud83d\ude00 \ud83d \\ud83d"}'
    raw = b'{"jsonrpc": "2.0", "id": @ID@, "result": {"content": [' + text + b"]}}\n"
    assert await say(servers, raw) == "\U0001f600 \ufffd \\ud83d"


@pytest.mark.parametrize("order", ["id first", "id last"])
async def test_an_answer_that_is_too_long_fails_its_own_call_only(servers: ToolServers, order: str) -> None:
    server = specification("rogue", "", order)
    slow = await waiting(servers, server)
    with pytest.raises(ToolFailed, match="wrote a message of more than 8,388,608 bytes"):
        await servers.call(server, "too long", {"order": order}, timeout=60)
    assert await slow == "another's"


async def test_tools_that_come_and_go(servers: ToolServers) -> None:
    new = b'{"jsonrpc": "2.0", "id": @ID@, "result": {"tools": [{"name": "new"}, {"name": 7}, {"name": "empty", '
    new += b'"inputSchema": {}}, {"name": "null", "inputSchema": null}]}}\n'
    assert "new" not in await servers.tools(TALKER)
    await servers.call(TALKER, "relist", {"raw": encoded(new)}, timeout=20)
    offered = await servers.tools(TALKER)
    assert offered.keys() == {"new", "empty", "null"}
    assert all(tool.schema == {"type": "object"} for tool in offered.values())


async def test_ten_thousand_tools(servers: ToolServers) -> None:
    tools = b", ".join(b'{"name": "t%d", "inputSchema": {"type": "object"}}' % number for number in range(10_000))
    raw = b'{"jsonrpc": "2.0", "id": @ID@, "result": {"tools": [' + tools + b"]}}\n"
    await servers.call(TALKER, "relist", {"raw": encoded(raw)}, timeout=20)
    assert len(await servers.tools(TALKER)) == 10_000


async def test_a_server_of_other_things_has_no_tools(servers: ToolServers) -> None:
    refusal = b'{"jsonrpc": "2.0", "id": @ID@, "error": {"code": -32601, "message": "Method not found"}}\n'
    assert await servers.tools(hostile_server("toolless", tools_list=refusal)) == {}
