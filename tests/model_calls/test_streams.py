"""What a model says is heard while it comes: numbered, in turn with the agent's own text, and taken back if it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from l02.client.client import Client
from l02.domain.agent.work.models import ModelCalled
from l02.node.running import Node
from tests.model_calls.conftest import Heard, Listen, Spawn, ask, model_events
from tests.models.endpoint import Answer, Asked, Hang, ScriptedEndpoint
from tests.models.shapes import Say


def is_done(message: dict[str, object]) -> bool:
    return "done" in message


async def test_text_stands_between_the_agents_own(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint, listen: Listen
) -> None:
    endpoint.say(Say("one two three"))
    agent_id = await spawn()
    heard = await listen(agent_id)
    steps = [["emit", "a"], ask(stream=True), ["emit", "b"], ask(stream=False), ["emit", "c"]]
    answers = (await client.execute(agent_id, steps)).output
    await heard.until(is_done)
    assert heard.texts() == ["a", "one", " two", " three", "b", "c"]
    assert [answer["text"] for answer in answers] == ["one two three"] * 2
    called = [event for event in await model_events(client, agent_id) if isinstance(event, ModelCalled)]
    assert called[0].streamed
    assert (called[0].streamed.n, called[0].streamed.pieces, called[0].streamed.own) == (1, 3, 1)
    assert not called[1].streamed


async def test_the_client_reads_it_with_the_agents_own(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint
) -> None:
    endpoint.say(Say("one two"))
    agent_id = await spawn()
    pieces = [piece async for piece in client.stream(agent_id, [["emit", "a"], ask(stream=True), ["emit", "b"]])]
    assert [piece for piece in pieces if isinstance(piece, str)] == ["a", "one", " two", "b"]


async def test_two_speak_one_after_the_other(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint, listen: Listen
) -> None:
    def script(asked: Asked) -> Answer:
        who = asked.body["messages"][0]["content"]
        return Say(pieces=[f"{who}{number}" for number in range(5)], pause=0.01)

    endpoint.script = script
    agent_id = await spawn()
    heard = await listen(agent_id)
    steps = [["gather", *(ask(who, stream=True)[1] for who in "xyz")], ["emit", "end"]]
    [answers] = (await client.execute(agent_id, steps)).output
    await heard.until(is_done)
    texts = heard.texts()
    assert texts[-1] == "end"
    assert sorted(texts[:-1]) == sorted(f"{who}{number}" for who in "xyz" for number in range(5))
    said = "".join(texts[:-1])
    assert all(answer["text"] in said for answer in answers), "pieces of several stand between one another"


async def test_a_stream_that_breaks_is_taken_back_and_asked_for_again(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint, listen: Listen
) -> None:
    endpoint.say(Say("one two three four", break_after=4), Say("one two three four"))
    agent_id = await spawn()
    heard = await listen(agent_id)
    [answer] = (await client.execute(agent_id, [["emit", "a"], ask(stream=True), ["emit", "b"]]))[1:] or [None]
