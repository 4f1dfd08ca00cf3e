"""The built-in agent on a real node, in its sandbox, with real tool servers and a real endpoint."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from l02.client.client import Client
from l02.domain.agent.work.effects import ToolCalled
from l02.domain.agent.work.models import ModelCalled
from l02.domain.errors import Failure
from tests.models.endpoint import Asked, Refuse, ScriptedEndpoint
from tests.models.shapes import Call, Say
from tests.nodes.conftest import LEDGER
from tests.runtime.conftest import history, pid_of, until
from tests.tools.conftest import landlock_only

pytestmark = landlock_only
Spawn = Callable[..., Awaitable[str]]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    file = tmp_path / "ledger.txt"
    file.touch()
    return file


def tools(ledger: Path, **more: Any) -> dict[str, Any]:
    """The ledger's server has `note`, which must not be called twice, and `look`, which may."""
    server = {
        "command": [sys.executable, str(LEDGER), str(ledger)],
        "read": [str(LEDGER)],
        "write": [str(ledger.parent)],
        "idempotent": ["look"],
    }
    return {"book": server | more}


def results(asked: Asked) -> list[str]:
    """What the model was told of its calls."""
    return [message["content"] for message in asked.body["messages"] if message["role"] == "tool"]


async def test_rounds_with_tools_and_streamed_text(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint, ledger: Path
) -> None:
    agent_id = await spawn({"prompt": "Be brief."}, tools=tools(ledger))
    calls = [Call("note", '{"text": "a"}', "c1"), Call("note", '{"txt": "b"}', "c2"), Call("drop", "{}", "c3")]
    endpoint.say(Say("One moment.", calls), Say("It is noted."))
    result = await client.execute(agent_id, "note a")
    assert result.output == "It is noted."
    assert ledger.read_text() == "a\n"
    offered = endpoint.requests[0].body["tools"]
    assert [one["function"]["name"] for one in offered] == ["note", "look"]
    assert offered[0]["function"]["description"].startswith("Append a line")
    noted, misspelt, unknown = results(endpoint.requests[1])
    assert noted == "noted a"
    assert misspelt.startswith("error: E2001 TOOL_INVOCATION_FAILED: the arguments of tool 'note' do not fit")
    assert unknown.startswith("error: there is no tool 'drop'; there are: note, look")
    said = "".join([delta async for delta in client.tokens(agent_id, result.execution_id)])
    assert said == "One moment.\n\nIt is noted."
    endpoint.say(Say("As I said."))
    assert (await client.execute(agent_id, "really?")).output == "As I said."
    kept = endpoint.requests[2].body["messages"]
    assert [message["role"] for message in kept] == ["system", "user", "assistant", *["tool"] * 3, "assistant", "user"]


@pytest.mark.parametrize("alias", ["responses", "claude"])
async def test_every_kind_of_endpoint_has_tools_called(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint, ledger: Path, alias: str
) -> None:
    agent_id = await spawn({"alias": alias, "prompt": "Be brief."}, tools=tools(ledger))
    calls = [Call("note", '{"text": "a"}', "c1"), Call("note", '{"text": "b"}', "c2")]
    endpoint.say(Say("One moment.", calls), Say("", [Call("look", '{"text": "c"}', "c3")]), Say("It is noted."))
    assert (await client.execute(agent_id, "note them")).output == "It is noted."
    assert sorted(ledger.read_text().splitlines()) == ["a", "b", "c"]
    endpoint.say(Say("Yes."))
    assert (await client.execute(agent_id, "really?")).output == "Yes."
    assert "noted a" in endpoint.requests[3].raw.decode()


async def test_an_agent_that_is_killed_asks_nothing_twice(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint, ledger: Path
) -> None:
    agent_id = await spawn(tools=tools(ledger))
    killed = asyncio.Event()

    async def script(asked: Asked) -> Say:
        told = len(results(asked))
        if told == 2:
            os.kill(await pid_of(client, agent_id), signal.SIGKILL)
            killed.set()
        return Say(f"done {told}") if told == 3 else Say("", [Call("note", f'{{"text": "{told}"}}', f"c{told}")])

    endpoint.script = script
    assert (await client.execute(agent_id, "note three")).output == "done 3"
    assert killed.is_set()
    assert ledger.read_text() == "0\n1\n2\n"
    assert [len(results(asked)) for asked in endpoint.requests] == [0, 1, 2, 3], "each once"
    events = await history(client, agent_id)
    assert sum(isinstance(event, ModelCalled) for event in events) == 4
    assert [event.tool for event in events if isinstance(event, ToolCalled)] == ["book.note"] * 3


async def test_a_tool_that_asks_waits_and_a_no_is_told_to_the_model(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint, ledger: Path
) -> None:
    agent_id = await spawn(tools=tools(ledger, allow=["note"], ask=["note"]))
    endpoint.say(Say("", [Call("note", '{"text": "a"}', "c1"), Call("look", "{}", "c2")]), Say("So not."))
    work = asyncio.create_task(client.execute(agent_id, "note a", command_id=f"{agent_id}-x"))
    asked = await until(client, agent_id, lambda recorded: recorded.event.type == "agent.approval.requested")
    await client.approve(agent_id, f"{agent_id}-x", asked.event.call, granted=False, reason="not today")  # type: ignore[attr-defined]
    assert (await work).output == "So not."
    denied, unknown = results(endpoint.requests[1])
    assert denied == "error: E2114 NOT_AUTHORIZED: tests has denied the call of tool 'note': not today"
    assert unknown == "error: there is no tool 'look'; there are: note", "it is not even offered"
    assert ledger.read_text() == ""


async def test_a_failed_execution_says_why_and_leaves_the_conversation_as_it_was(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint, ledger: Path
) -> None:
    agent_id = await spawn({"max_rounds": 2}, tools=tools(ledger))
    endpoint.say(Say("", [Call("look", '{"text": "a"}')]))
    with pytest.raises(Failure, match="E2005.*asked 2 times .model.max_rounds"):
        await client.execute(agent_id, "go on for ever")
    assert ledger.read_text() == "a\n", "what nobody would read is not called"
    endpoint.say(Say("half", finish="length"))
    with pytest.raises(Failure, match="E2005.*raise model.max_tokens"):
        await client.execute(agent_id, "much")
    endpoint.requests.clear()
    endpoint.say(Say("Hello."))
    await client.execute(agent_id, {"messages": [{"role": "user", "content": "hello"}]})
    assert [message["content"] for message in endpoint.requests[0].body["messages"]] == ["hello"]


async def test_a_conversation_longer_than_the_model_takes_goes_on_with_a_summary(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint
) -> None:
    agent_id = await spawn(executor={"context_window_tokens": 1_000_000})

    def script(asked: Asked) -> Say | Refuse:
        if len(asked.raw) > 40_000:
            return Refuse(400, "context_length_exceeded: this model's maximum context length is 10000 tokens")
        is_summary = "keep the memory" in str(asked.body["messages"][0])
        return Say("SUMMARY" if is_summary else "yes", usage=(len(asked.raw) // 4, 1))

    endpoint.script = script
    for number in range(5):
        await client.execute(agent_id, f"{number}" + "x" * 12_000)
    last = endpoint.requests[-1].body["messages"]
    assert last[0]["content"].endswith("SUMMARY")
    assert last[-1]["content"].startswith("4xxx")
    called = [event for event in await history(client, agent_id) if isinstance(event, ModelCalled)]
    assert len(called) == len(endpoint.requests), "the summaries are on record, and what was refused"
    assert [event.result["code"] for event in called if not event.ok] == ["E2003"]
    assert (await client.state(agent_id)).state["conversation"]["compactions"] == 1


async def test_an_alias_that_the_node_has_not_got_is_said_at_spawn(spawn: Spawn) -> None:
    with pytest.raises(Failure, match="E2101.*no model 'large' .its models: small, responses, claude.; the section"):
        await spawn({"alias": "large"})


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


async def test_an_output_that_does_not_fit_its_schema_is_asked_for_again(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint
) -> None:
    agent_id = await spawn({"output_schema": SCHEMA})
    endpoint.say(Say('{"n": "one"}'), Say('{"n": 1}'))
    assert (await client.execute(agent_id, "how many?")).output == {"n": 1}
    assert len(endpoint.requests) == 2
    endpoint.say(Say("no JSON at all"))
    with pytest.raises(Failure, match="schema"):
        await client.execute(agent_id, "how many?")
    assert len(endpoint.requests) == 2 + 3, "so often at most"
    endpoint.say(Say('{"n": ', finish="length"))
    with pytest.raises(Failure, match="E2100.*finish_reason length.; raise max_tokens"):
        await client.execute(agent_id, "how many?")
