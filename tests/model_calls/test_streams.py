"""What a model says is heard while it comes: numbered, in turn with the agent's own text, taken back if it breaks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator

import pytest

from l02.client.client import Client
from l02.domain.agent.work.models import ModelCalled
from tests.model_calls.conftest import Listen, Spawn, ask, model_events
from tests.models.endpoint import Answer, Asked, Raw, ScriptedEndpoint
from tests.models.shapes import Say
from tests.runtime.conftest import pid_of


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
    endpoint.say(Say("one two three four", break_after=4), Say("five six", usage=(7, 2)))
    agent_id = await spawn()
    heard = await listen(agent_id)
    [answer] = (await client.execute(agent_id, [["emit", "a"], ask(stream=True), ["emit", "b"]])).output
    await heard.until(is_done)
    void = await heard.until(lambda message: "void_from" in message)
    assert void["void_from"] == 1
    assert heard.texts() == ["a", "five", " six", "b"]
    assert answer["text"] == "five six"
    first, second = (event for event in await model_events(client, agent_id) if isinstance(event, ModelCalled))
    assert (first.again, second.again) == (True, False)
    assert first.used.tokens > 0, "what was cut off is charged too"


async def test_one_that_keeps_breaking_is_an_error_and_leaves_nothing(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint, listen: Listen
) -> None:
    endpoint.say(Say("one two three four", break_after=4))
    agent_id = await spawn()
    heard = await listen(agent_id)
    [failure] = (await client.execute(agent_id, [["emit", "a"], ask(stream=True), ["emit", "b"]])).output
    await heard.until(is_done)
    assert failure["code"] == "E2100"
    assert heard.texts() == ["a", "b"]
    assert len(endpoint.requests) == 3


async def test_the_agents_own_text_waits_until_a_model_has_spoken(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint, listen: Listen
) -> None:
    agent_id = await spawn()
    heard = await listen(agent_id)

    async def script(asked: Asked) -> Answer:
        async def pieces() -> AsyncIterator[bytes]:
            yield sse("one")
            await heard.until(lambda message: message.get("delta") == "one")
            await client.signal(agent_id, "go")
            await until_emitted()
            yield sse("two")
            yield b"data: [DONE]\n\n"

        return Raw(pieces(), content_type="text/event-stream")

    async def until_emitted() -> None:
        """The agent has said more: its signal is on record as taken, and so it goes on."""
        async for recorded in client.events(agent_id, follow=True):
            if recorded.event.type == "agent.effect.recorded" and getattr(recorded.event, "done", False):
                return

    endpoint.script = script
    steps = [["leave", ask(stream=True)[1]], ["wait", "go"], ["emit", "mine"], ["join"]]
    await client.execute(agent_id, steps)
    await heard.until(is_done)
    assert heard.texts() == ["one", "two", "mine"]


def sse(text: str) -> bytes:
    """A piece of a stream of chat completions."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": "stop" if text == "two" else None}
    return b"data: " + json.dumps({"id": "1", "model": "m", "choices": [choice]}).encode() + b"\n\n"


async def test_the_first_token_is_heard_at_once(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint, listen: Listen
) -> None:
    """It does not wait for the second: the endpoint says that one when somebody has heard the first."""
    agent_id = await spawn()
    heard = await listen(agent_id)

    async def pieces() -> AsyncIterator[bytes]:
        yield sse("one")
        await heard.until(lambda message: message.get("delta") == "one")
        yield sse("two")
        yield b"data: [DONE]\n\n"

    endpoint.script = lambda asked: Raw(pieces(), content_type="text/event-stream")
    [answer] = (await client.execute(agent_id, [ask(stream=True)])).output
    assert answer["text"] == "onetwo"


@pytest.mark.parametrize("end", ["force", "terminate", "suspend"])
async def test_who_does_not_listen_any_more_hangs_up(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint, listen: Listen, end: str
) -> None:
    """The provider's connection is closed, and what was said does not count."""
    endpoint.say(Say("one two three", hang_after=3))
    agent_id = await spawn()
    heard = await listen(agent_id)
    work = await client.execute(agent_id, [ask(stream=True)], wait="accepted")
    await heard.until(lambda message: message.get("delta") == "one")
    match end:
        case "force":
            await client.terminate(agent_id, force=True)
        case "terminate":
            await client.terminate(agent_id)
        case "suspend":
            await client.suspend(agent_id)
    asked = await endpoint.asked()
    async with asyncio.timeout(20):
        await asked.gone.wait()
    await heard.until(lambda message: "void_from" in message)
    assert heard.texts() == []
    if end == "suspend":
        endpoint.say(Say("four"))
        await client.resume(agent_id)
        await heard.until(is_done)
        assert heard.texts() == ["four"]
        events = await model_events(client, agent_id)
        assert [event.attempt for event in events] == [1, 1, 2, 2]
        cut_off = events[1]
        assert isinstance(cut_off, ModelCalled)
        assert (cut_off.again, cut_off.estimated, cut_off.used) == (True, True, cut_off.reserved.spending)
    assert work.execution_id


async def test_what_is_said_again_after_a_crash_of_the_agent(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint, listen: Listen
) -> None:
    """Nothing is: neither what the agent had said, nor what the model had, and nothing is asked twice."""
    endpoint.script = lambda asked: Say(f"{asked.body['messages'][0]['content']} said")
    agent_id = await spawn()
    heard = await listen(agent_id)
    steps = [["emit", "a"], ask("1", stream=True), ["emit", "b"], ask("2", stream=True), ["die once"], ["emit", "c"]]
    answers = (await client.execute(agent_id, steps)).output
    await heard.until(is_done)
    assert heard.texts() == ["a", "1", " said", "b", "2", " said", "c"]
    assert [answer["text"] for answer in answers] == ["1 said", "2 said"]
    assert len(endpoint.requests) == 2


async def test_an_answer_that_comes_while_the_agent_is_dead_is_given_to_its_next_process(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint, listen: Listen
) -> None:
    agent_id = await spawn()

    async def script(asked: Asked) -> Answer:
        os.kill(await pid_of(client, agent_id), signal.SIGKILL)
        return Say("survived")

    endpoint.script = script
    [answer] = (await client.execute(agent_id, [ask(stream=True)])).output
    assert answer["text"] == "survived"
    assert len(endpoint.requests) == 1
    assert len(await model_events(client, agent_id)) == 2
