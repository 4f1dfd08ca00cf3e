"""Tool servers of whatever kind at a whole node: agents get clear answers, and other agents theirs at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from l02.client.client import Client
from l02.domain.agent.work.effects import EffectRecorded, ToolCalled
from l02.domain.values import as_reference
from tests.effects import effects
from tests.runtime.conftest import history, pid_of, worker
from tests.runtime.conftest import until as event_of
from tests.tools.conftest import landlock_only, running, until
from tests.tools.hostile import encoded, hostile_server, messages

pytestmark = landlock_only
Spawn = Callable[..., Awaitable[str]]
WORKSHOP = Path(__file__).parents[1] / "tools" / "servers" / "workshop.py"
OK = b'{"jsonrpc": "2.0", "id": @ID@, "result": '


def entry(name: str, start: str = "lazy", **replies: bytes) -> dict[str, Any]:
    """An entry of a specification's `tools` for a hostile server."""
    found: dict[str, Any] = msgspec.to_builtins(hostile_server(name, **replies))
    return found | {"start": start}


def said(raw: bytes) -> list[Any]:
    """The step that has the server say this."""
    return ["try", "say", {"raw": encoded(raw)}]


async def test_every_message_of_a_hostile_server(client: Client, spawn: Spawn) -> None:
    """Each of those calls is answered, and another agent's work all the while, within a second."""
    limits = {"context_window_tokens": 100_000_000, "tool_timeout_seconds": 20}
    victim = await spawn(tools={"bad": entry("node-talker")}, executor=limits)
    other = await spawn()
    await client.execute(victim, {"steps": [["tool", "bad.echo", {}]]})
    chosen = list(messages())[::9]
    slowest = 0.0
    work = asyncio.create_task(feed(client, victim, chosen))
    while not work.done():
        began = time.monotonic()
        assert (await client.execute(other, {"steps": [["tool", "add", {"a": 1, "b": 2}]]})).output == [3]
        slowest = max(slowest, time.monotonic() - began)
    results = [result for results in work.result() for result in results]
    assert len(results) == len(chosen)
    failures = [result for result in results if isinstance(result, dict) and result.keys() == {"code", "message"}]
    assert {failure["code"] for failure in failures} <= {"E2001", "E2002"}
    assert all(len(failure["message"]) > len("tool 'say' failed: ") for failure in failures)
    assert slowest < 1.0
    assert (await client.execute(victim, {"steps": [["tool", "echo", {"text": "well"}]]})).output == ["well"]


async def feed(client: Client, agent_id: str, raws: list[bytes]) -> list[list[Any]]:
    outputs = []
    for first in range(0, len(raws), 100):
        steps = [said(raw) for raw in raws[first : first + 100]]
        outputs.append((await client.execute(agent_id, {"steps": steps})).output)
    return outputs


async def test_all_of_a_failure_and_of_an_image_reaches_the_agent_and_the_log(client: Client, spawn: Spawn) -> None:
    image = {"type": "image", "data": "A" * 60_000, "mimeType": "image/png"}
    picture = entry("node-picture", tools_call=OK + msgspec.json.encode({"content": [image]}) + b"}\n")
    tools = {"picture": picture, "bad": entry("node-failing")}
    agent_id = await spawn(tools=tools, executor={"context_window_tokens": 1000})
    failed = {"content": [{"type": "text", "text": "no"}, {**image, "data": "AAAA"}], "isError": True}
    steps = [
        ["tool", "picture.say", {}],
        ["content of", "bad.say", {"raw": encoded(OK + msgspec.json.encode(failed) + b"}\n")}],
    ]
    output = (await client.execute(agent_id, {"steps": steps})).output
    assert output == [image, ["no", {**image, "data": "AAAA"}]]
    calls = [event for event in await history(client, agent_id) if isinstance(event, ToolCalled)]
    assert calls[1].result == {
        "code": "E2001",
        "message": "tool 'say' failed: no",
        "content": ["no", {**image, "data": "AAAA"}],
    }


async def test_a_server_that_cannot_start_takes_no_other_tool_away(client: Client, spawn: Spawn) -> None:
    good = {"command": [sys.executable, str(WORKSHOP)], "read": [str(WORKSHOP.parent)]}
    agent_id = await spawn(tools={"gone": {"command": ["no-such-program"]}, "good": good})
    steps = [
        ["tool", "nothing", {}],
        ["tool", "good.echo", {"text": "x"}],
        ["try", "gone.echo", {}],
    ]
    output = (await client.execute(agent_id, {"steps": steps})).output
    assert output[:2] == [None, "x"]
    assert output[2]["code"] == "E2001"
    assert "neither on PATH" in output[2]["message"]


@pytest.mark.parametrize("start", ["eager", "lazy"])
async def test_a_server_starts_with_its_agent_if_the_specification_says_so(
    client: Client, spawn: Spawn, start: str
) -> None:
    await spawn(tools={"bad": entry(f"node-{start}", start=start)})
    if start == "eager":
        await until(lambda: running(f"node-{start}"))
    else:
        assert not running(f"node-{start}")


async def test_what_tools_there_are_is_on_record(client: Client, spawn: Spawn) -> None:
    listed = OK + msgspec.json.encode({"tools": [{"name": "say", "description": "d" * 20_000}]}) + b"}\n"
    tools = {"bad": entry("node-offer", tools_list=listed), "gone": {"command": ["no-such-program"]}}
    agent_id = await spawn(tools=tools)
    steps = [["tools"], ["sleep", 1], ["tools"]]
    work = asyncio.create_task(client.execute(agent_id, {"steps": steps}))
    await event_of(
        client, agent_id, lambda recorded: isinstance(recorded.event, EffectRecorded) and not recorded.event.done
    )
    os.kill(await pid_of(client, agent_id), signal.SIGKILL)
    offer, problems, _, again, *_ = (await work).output
    own = ["add", "mark", "slow_mark", "failing", "hanging", "blocking", "large"]
    assert [name for name, *_ in offer] == [*own, "bad.say"]
    assert offer[0][2]["required"] == ["a", "b"]
    assert offer[-1] == ["bad.say", "bad", {"type": "object"}]
    assert [problem[:30] for problem in problems] == ["the tool server 'gone' cannot "]
    assert again == offer
    kinds = [entry.kind for entry in effects(await history(client, agent_id))]
    assert kinds == ["tools", "sleep", "tools"], "each once"


_MANY_TOOLS = """
from l02.agent import Agent

agent = Agent("many")
for number in range(100):
    @agent.tool(name=f"t{number}", description="d" * 8000)
    def tool(text: str) -> str:
        return text

@agent.on_message
async def handle(ctx, message):
    before = await ctx.tools()
    await ctx.sleep(1)
    return [len(before.tools), await ctx.tools() == before]
"""


async def test_tools_that_are_many_stand_beside_the_event(client: Client, spawn: Spawn, tmp_path: Path) -> None:
    file = tmp_path / "many.py"
    file.write_text(_MANY_TOOLS)
    agent_id = await spawn(worker(entrypoint=str(file)))
    work = asyncio.create_task(client.execute(agent_id))
    await event_of(
        client, agent_id, lambda recorded: isinstance(recorded.event, EffectRecorded) and not recorded.event.done
    )
    os.kill(await pid_of(client, agent_id), signal.SIGKILL)
    assert (await work).output == [100, True]
    tools = effects(await history(client, agent_id), "tools")
    assert all(as_reference(entry.result) for entry in tools)
    assert len(tools) == 2
