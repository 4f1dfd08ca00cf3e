"""An agent gets what a model said, and the record has what it was asked, what it said, and what that took."""

from __future__ import annotations

from typing import Any

import pytest

from l02.bus.wire.agent.conversation import RecordedRequest, whole
from l02.client.client import Client
from l02.domain.agent.work.executions import ExecutionCompleted
from l02.domain.agent.work.models import ModelCalled, ModelRequested
from l02.domain.errors import Failure
from tests.model_calls.conftest import AGENTS, Spawn, ask, history, model_events
from tests.models.endpoint import Answer, Asked, Drop, Hang, Refuse, ScriptedEndpoint
from tests.models.shapes import Call as Wanted
from tests.models.shapes import Say


async def test_an_answer_comes_with_what_it_took(client: Client, spawn: Spawn, endpoint: ScriptedEndpoint) -> None:
    endpoint.say(Say("42", usage=(12, 3)))
    agent_id = await spawn()
    [answer] = (await client.execute(agent_id, [ask("how many?", max_tokens=50, temperature=0)])).output
    assert answer["text"] == "42"
    assert (answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]) == (12, 3)
    assert answer["cost_usd"] == 0.000018
    body = endpoint.requests[0].body
    assert body["messages"] == [{"role": "user", "content": "how many?"}]
    assert (body["max_tokens"], body["temperature"]) == (50, 0)
    requested, called = await model_events(client, agent_id)
    assert isinstance(requested, ModelRequested)
    assert isinstance(called, ModelCalled)
    assert requested.reserved == called.reserved
    assert requested.reserved.tokens >= 12 + 50
    assert (called.input_tokens, called.output_tokens, called.cost_usd, called.estimated) == (12, 3, 0.000018, False)
    assert called.price is not None
    assert (called.ok, called.attempts, called.model, called.endpoint) == (True, 1, "any", endpoint.url[7:-3])
    [completed] = [event for event in await history(client, agent_id) if isinstance(event, ExecutionCompleted)]
    assert completed.tokens == 15


async def test_many_side_by_side(client: Client, spawn: Spawn, endpoint: ScriptedEndpoint) -> None:
    endpoint.script = lambda asked: Say(asked.body["messages"][0]["content"].upper())
    agent_id = await spawn()
    steps = [["gather", *(ask(f"q{number}")[1] for number in range(20))]]
    [answers] = (await client.execute(agent_id, steps)).output
    assert [answer["text"] for answer in answers] == [f"Q{number}" for number in range(20)]


@pytest.mark.parametrize(
    ("said", "code"),
    [(Refuse(400, "what?"), "E2100"), (Refuse(404, "no such model"), "E2101")],
)
async def test_a_failure_can_be_caught_and_is_on_record(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint, said: Answer, code: str
) -> None:
    endpoint.say(said)
    agent_id = await spawn()
    [failure] = (await client.execute(agent_id, [ask()])).output
    assert failure["code"] == code
    assert (await model_events(client, agent_id))[-1].result["code"] == code  # type: ignore[union-attr]


async def test_one_that_is_not_caught_fails_the_work(client: Client, spawn: Spawn, endpoint: ScriptedEndpoint) -> None:
    endpoint.say(Refuse(400, "what?"))
    agent_id = await spawn()
    with pytest.raises(Failure, match="E2100"):
        await client.execute(agent_id, [["grow", 1, 1]])


@pytest.mark.parametrize("models", [["large"], []])
async def test_a_model_that_the_specification_does_not_name_is_not_asked(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint, models: list[str]
) -> None:
    agent_id = await spawn(models=models)
    [failure] = (await client.execute(agent_id, [ask()])).output
    assert failure["code"] == "E2114"
    assert "models: [alias]" in failure["message"]
    assert not endpoint.requests
    [called] = await model_events(client, agent_id)
    assert isinstance(called, ModelCalled)
    assert (called.attempt, called.reserved.tokens) == (0, 0)


@pytest.mark.parametrize(
    ("request_fields", "code"),
    [
        ({"messages": [{"role": "nobody", "content": "x"}]}, "E2110"),
        ({"parameters": {"stream": True}}, "E2110"),
        ({"model": "absent"}, "E2101"),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint, request_fields: dict[str, Any], code: str
) -> None:
    agent_id = await spawn(models=["small", "absent"])
    request = {"messages": "hi", "model": "small"} | request_fields
    [failure] = (await client.execute(agent_id, [["ask", request]])).output
    assert failure["code"] == code
    assert not endpoint.requests


async def test_what_nests_too_deeply_is_refused(client: Client, spawn: Spawn, endpoint: ScriptedEndpoint) -> None:
    agent_id = await spawn()
    [failure] = (await client.execute(agent_id, [["ask deep", 200]])).output
    assert failure["code"] == "E2110"
    assert not endpoint.requests


async def test_tools_and_what_the_model_wants_called(client: Client, spawn: Spawn, endpoint: ScriptedEndpoint) -> None:
    tool = {"type": "function", "function": {"name": "count", "parameters": {"type": "object"}}}
    endpoint.say(Say(calls=[Wanted("count", '{"n": 1}')]))
    agent_id = await spawn()
    [answer] = (await client.execute(agent_id, [ask(tools=[tool], tool_choice="auto")])).output
    [wanted] = answer["tool_calls"]
    assert (wanted["name"], wanted["arguments"]) == ("count", '{"n": 1}')
    assert answer["finish_reason"] == "tool_calls"
    assert endpoint.requests[0].body["tools"] == [tool]


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


async def test_an_answer_that_does_not_fit_is_mended(client: Client, spawn: Spawn, endpoint: ScriptedEndpoint) -> None:
    endpoint.say(Say("none", usage=(10, 1)), Say('{"n": "one"}', usage=(20, 2)), Say('{"n": 1}', usage=(30, 3)))
    agent_id = await spawn()
    [answer] = (await client.execute(agent_id, [ask(output_schema=SCHEMA)])).output
    assert answer["output"] == {"n": 1}
    assert (answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]) == (60, 6)
    said = [asked.body["messages"] for asked in endpoint.requests]
    assert [len(messages) for messages in said] == [1, 3, 3]
    assert said[1][1] == {"role": "assistant", "content": "none"}
    assert "no JSON" in said[1][2]["content"]
    assert "is not of type 'integer'" in said[2][2]["content"]
    events = await model_events(client, agent_id)
    assert [(type(event).__name__, event.attempt) for event in events] == [
        ("ModelRequested", 1),
        ("ModelCalled", 1),
        ("ModelRequested", 2),
        ("ModelCalled", 2),
        ("ModelRequested", 3),
        ("ModelCalled", 3),
    ]
    assert [event.again for event in events if isinstance(event, ModelCalled)] == [True, True, False]


async def test_it_is_mended_so_often_and_no_more(client: Client, spawn: Spawn, endpoint: ScriptedEndpoint) -> None:
    endpoint.say(Say("none"))
    agent_id = await spawn()
    [failure] = (await client.execute(agent_id, [ask(output_schema=SCHEMA)])).output
    assert failure["code"] == "E2100"
    assert "does not fit the output_schema" in failure["message"]
    assert len(endpoint.requests) == 3


async def test_a_broken_schema_is_the_agents_fault(client: Client, spawn: Spawn, endpoint: ScriptedEndpoint) -> None:
    endpoint.say(Say("{}"))
    agent_id = await spawn()
    [failure] = (await client.execute(agent_id, [ask(output_schema={"type": 7})])).output
    assert failure["code"] == "E2110"
    assert len(endpoint.requests) == 1


async def test_requests_are_recorded_as_what_is_new(client: Client, spawn: Spawn, endpoint: ScriptedEndpoint) -> None:
    agent_id = await spawn()
    await client.execute(agent_id, [["grow", 5, 10]])
    requested = [event for event in await model_events(client, agent_id) if isinstance(event, ModelRequested)]
    known = None
    for number, event in enumerate(requested):
        record = RecordedRequest(**event.request)
        assert record.keep == (2 * number if number else 0)
        assert record.previous == (requested[number - 1].sha256 if number else None)
        known = whole(known, record)
        assert [*known.messages] == endpoint.requests[number].body["messages"]


async def test_what_a_provider_counted_is_not_reserved_a_token_a_byte(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint
) -> None:
    endpoint.say(Say("yes", usage=(2_500, 1)))
    agent_id = await spawn()
    await client.execute(agent_id, [["grow", 2, 10_000]])
    first, second = (event for event in await model_events(client, agent_id) if isinstance(event, ModelRequested))
    assert first.reserved.tokens > 10_000
    assert 12_500 < second.reserved.tokens < 15_000


async def test_what_was_counted_in_one_execution_is_known_in_the_next(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint
) -> None:
    endpoint.say(Say("yes", usage=(2_500, 1)))
    agent_id = await spawn()
    for _ in range(2):
        await client.execute(agent_id, [["grow", 1, 10_000]])
    first, second = (event for event in await model_events(client, agent_id) if isinstance(event, ModelRequested))
    assert first.reserved.tokens > 10_000
    assert 2_500 < second.reserved.tokens < 5_000


async def test_a_call_that_nobody_waits_for_is_charged_at_its_end(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint
) -> None:
    agent_id = await spawn()

    async def script(asked: Asked) -> Answer:
        await client.signal(agent_id, "go")
        return Hang()

    endpoint.script = script
    await client.execute(agent_id, [["leave", ask()[1]], ["wait", "go"]])
    await (await endpoint.asked()).gone.wait()
    events = await history(client, agent_id)
    [requested] = [event for event in events if isinstance(event, ModelRequested)]
    [completed] = [event for event in events if isinstance(event, ExecutionCompleted)]
    assert completed.lost
    [lost] = completed.lost
    assert (lost.call, lost.reserved) == (requested.call, requested.reserved)
    assert completed.tokens == requested.reserved.tokens


async def test_what_may_have_been_charged_for_is_asked_again_with_as_much_reserved_anew(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint
) -> None:
    endpoint.say(Drop(), Say("yes", usage=(10, 5)))
    agent_id = await spawn()
    await client.execute(agent_id, [["grow", 1, 10]])
    first, lost, second, answered = await model_events(client, agent_id)
    assert isinstance(first, ModelRequested) and isinstance(lost, ModelCalled)
    assert isinstance(second, ModelRequested) and isinstance(answered, ModelCalled)
    assert (first.attempt, lost.attempt, second.attempt, answered.attempt) == (1, 1, 2, 2)
    assert first.reserved == second.reserved and first.sha256 == second.sha256
    assert lost.again and lost.estimated and lost.used == first.reserved.spending
    assert answered.ok and answered.usage.tokens == 15 and not answered.estimated


async def test_another_request_after_a_crash_ends_the_work(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint
) -> None:
    agent_id = await spawn()
    with pytest.raises(Failure, match="E2116.*sha256"):
        await client.execute(agent_id, [["ask pid"], ["die once"]])
    assert len(endpoint.requests) == 1


async def test_an_agent_in_another_language(client: Client, spawn: Spawn, endpoint: ScriptedEndpoint) -> None:
    """One that writes lines to its socket, in a shell."""
    endpoint.say(Say("by and by"))
    program = str(AGENTS / "asker.sh")
    agent_id = await spawn(entrypoint=None, command=["bash", program], files={"read": [program]})
    result = await client.execute(agent_id, "when?")
    assert result.output == {"text": "by and by", "model": "scripted-1", "finish_reason": "stop"}
    assert endpoint.requests[0].body["messages"] == [{"role": "user", "content": "when?"}]
