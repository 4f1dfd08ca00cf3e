"""What an agent says it did itself is believed as far as it may be so, and what it has its node keep is bounded."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import uuid
from typing import Any

import msgspec
import pytest

from l02.bus.wire.agent.protocol import Call
from l02.client.client import Client
from l02.domain.agent.work.effects import EffectRecorded, StepsRecorded, ToolCalled
from l02.domain.errors import ErrorCode, Failure
from tests.runtime.conftest import history, talker, until

OPEN_CALLS = 2000
END = json.dumps({"type": "complete", "execution_id": "$ID", "output": "end"})
HELLO = {
    "type": "hello",
    "protocol": 1,
    "name": "talker",
    "records_steps": True,
    "tools": [
        {"name": "mine", "description": "d", "schema": {"type": "object"}, "idempotent": True},
        {"name": "once", "description": "d", "schema": {"type": "object"}, "idempotent": False},
    ],
}


def line(type: str, **fields: Any) -> str:
    return json.dumps({"type": type, "execution_id": "$ID"} | fields)


def steps(*some: dict[str, Any]) -> str:
    return line("steps", steps=[{"after": 0} | step for step in some])


def tool(call: int = 1, **fields: Any) -> dict[str, Any]:
    return {"call": call, "kind": "tool", "tool": "mine", "arguments": {}, "result": 1} | fields


async def outcome(client: Client, *said: str, **executor: Any) -> tuple[Any, str]:
    """What comes of an agent that says this: the output, or the failure's code and message; and the agent's id."""
    specification = talker(json.dumps(HELLO)) | {"executor": executor}
    agent_id = (await client.spawn(specification, id=uuid.uuid4().hex)).agent_id
    try:
        return (await client.execute(agent_id, [*said])).output, agent_id
    except Failure as failure:
        return (failure.code, failure.message), agent_id


LIES = {
    "a tool that must not be done again": (steps(tool(tool="once")), "hello"),
    "a tool server's tool": (steps(tool(tool="git.git_log")), "hello"),
    "a tool that nobody has": (steps(tool(tool="bank.transfer", arguments={"to": "me"})), "hello"),
    "the second of two": (steps(tool(), tool(2, tool="once")), "hello"),
    "no time": (steps({"call": 1, "kind": "now", "result": "yesterday"}), "number of seconds"),
    "a time that is true": (steps({"call": 1, "kind": "now", "result": True}), "number of seconds"),
    "too much chance": (steps({"call": 1, "kind": "random", "result": 5}), r"\[0, 1\)"),
    "chance of 1": (steps({"call": 1, "kind": "random", "result": 1}), r"\[0, 1\)"),
    "negative chance": (steps({"call": 1, "kind": "random", "result": -0.1}), r"\[0, 1\)"),
    "a thread with a result": (steps({"call": 1, "kind": "thread", "result": "x"}), "result"),
    "answers that nobody gave": (steps(tool(after=1)), "answers"),
    "very many answers": (steps(tool(after=10**9)), "answers"),
    "a number far away": (steps(tool(10**9)), "follow one another"),
    "a thread far away": (steps({"call": 10**9, "kind": "thread"}), "follow one another"),
    "begins another's tool": (line("begin", call=1, tool="once"), "begin by itself"),
    "begins what it has done": (steps(tool()) + "\n" + line("begin", call=1, tool="mine"), "begin by itself"),
    "begins far away": (line("begin", call=10**9, tool="mine"), "follow one another"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_step_that_cannot_have_been_ends_the_process(client: Client, lie: str) -> None:
    said, why = LIES[lie]
    failure, agent_id = await outcome(client, said, END)
    assert failure[0] is ErrorCode.RESTART_LIMIT_EXCEEDED
    assert re.search(f"broke the protocol: .*{why}", failure[1])
    if lie != "begins what it has done":
        assert not [event for event in await history(client, agent_id) if isinstance(event, StepsRecorded)]


async def test_a_step_after_fewer_answers_than_the_one_before(client: Client) -> None:
    said = [line("call", call=1, kind="now"), "$WAIT", steps(tool(2, after=1), tool(3, after=0)), END]
    failure, _ = await outcome(client, *said)
    assert failure[0] is ErrorCode.RESTART_LIMIT_EXCEEDED


async def test_steps_that_can_have_been_are_on_record(client: Client) -> None:
    told = [
        {"call": 3, "kind": "now", "after": 0, "result": 1_700_000_000},
        {"call": 2, "kind": "random", "after": 0, "result": 0},
        {"call": 4, "kind": "random", "after": 1, "result": 0.999},
        {"call": 2, "kind": "thread", "after": 1},
        tool(500, after=1, ok=False, result={"code": "E2001", "message": "m"}),
    ]
    said = [
        line("steps", steps=told[:2]),
        line("call", call=1, kind="now"),
        "$WAIT",
        line("steps", steps=told[2:]),
        END,
    ]
    output, agent_id = await outcome(client, *said)
    assert output == "end"
    recorded = [event for event in await history(client, agent_id) if isinstance(event, StepsRecorded)]
    assert [(step.call, step.kind, step.after) for event in recorded for step in event.steps] == [
        (step["call"], step["kind"], step["after"]) for step in told
    ]


@pytest.mark.parametrize("count", [1, 3])
async def test_steps_do_not_fill_more_than_the_context(client: Client, count: int) -> None:
    """A token is four bytes, also of the input and the output: a result that is passed on besides is a lie."""
    said = [steps(*(tool(call, result="x" * 398) for call in range(1, count + 1))), END]
    window = -(-len(msgspec.json.encode(said)) // 4) + 100 * count + 2
    assert (await outcome(client, *said, context_window_tokens=window))[0] == "end"
    failure, _ = await outcome(client, *said, context_window_tokens=window - 3)
    assert failure[0] is ErrorCode.CONTEXT_OVERFLOW


async def test_what_an_execution_has_on_record_is_bounded(client: Client) -> None:
    """However small its context is: arguments do not enter that."""
    heavy = steps(tool(77, arguments={"a": ["$({}*30000)"]})).replace('"$(', "$(").replace(')"', ")")
    said = [heavy.replace("77", str(call)) for call in range(1, 100)]
    failure, _ = await outcome(client, *said, END)
    assert failure[0] is ErrorCode.PAYLOAD_TOO_LARGE
    assert "on record" in failure[1]


async def test_so_many_calls_may_be_open_and_no_more(client: Client) -> None:
    def waiting(count: int) -> list[str]:
        return [line("call", call=n, kind="signal", name="s", timeout=None) for n in range(1, count + 1)]

    assert (await outcome(client, *waiting(OPEN_CALLS), END))[0] == "end"
    failure, _ = await outcome(client, *waiting(OPEN_CALLS + 1), "$WAIT", END)
    assert failure[0] is ErrorCode.PAYLOAD_TOO_LARGE
    assert "open" in failure[1]


async def test_open_calls_are_bounded_in_bytes(client: Client) -> None:
    large = [line("call", call=n, kind="tool", tool="once", arguments={"a": "$BIG"}) for n in range(1, 9)]
    failure, _ = await outcome(client, *large, "$WAIT", END)
    assert failure[0] is ErrorCode.PAYLOAD_TOO_LARGE
    assert "open" in failure[1]


async def test_a_call_that_is_over_is_not_kept(client: Client) -> None:
    """Neither what was asked nor what was answered, whether that could be recorded or not."""
    mark, count = uuid.uuid4().hex, 20
    said: list[str] = []
    for call in range(1, count + 1):
        said += [line("call", call=call, kind="tool", tool="once", arguments={"a": [mark]}), "$WAIT"]
        said += [line("tool_result", call=call, ok=True, result=[mark, "$BIG"]), "$WAIT"]
    said += [line("call", call=count + 1, kind="signal", name="go", timeout=None), "$WAIT", END]
    agent_id = (await client.spawn(talker(json.dumps(HELLO)), id=uuid.uuid4().hex)).agent_id
    work = asyncio.create_task(client.execute(agent_id, said))
    await until(client, agent_id, lambda seen: isinstance(seen.event, EffectRecorded))
    answered = [event for event in await history(client, agent_id) if isinstance(event, ToolCalled)]
    assert [event.result["code"] for event in answered] == ["E2003"] * count
    gc.collect()
    kept = gc.get_objects()
    assert not [one for one in kept if type(one) is list and one[:1] == [mark] and len(one) == 2]
    calls = [one for one in kept if type(one) is Call and one.arguments == {"a": [mark]}]
    assert len(calls) <= 1, "at most the one that was received last"
    await client.signal(agent_id, "go")
    assert (await work).output == "end"
