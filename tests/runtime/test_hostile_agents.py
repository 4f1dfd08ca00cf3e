"""Whatever an agent says to its node: the node runs on, answers for others, and the agent ends in a stated way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import uuid
from typing import Any

import msgspec
import pytest

from l02.bus.wire.agent.texts import MESSAGE_BYTES
from l02.client.client import Client
from l02.domain.agent.life.restarts import AgentRestarted
from l02.domain.agent.work.effects import EffectRecorded
from l02.domain.agent.work.executions import ExecutionFailed, ExecutionStarted
from l02.domain.errors import ErrorCode, Failure, OwnError
from l02.domain.values import MAX_DEPTH
from tests.runtime.conftest import history, pid_of, talker, until, worker

MIB = 1 << 20


def line(type: str, **fields: Any) -> str:
    return json.dumps({"type": type, "execution_id": "$ID"} | fields)


async def failure_of(client: Client, agent_id: str, *lines: str) -> Failure:
    with pytest.raises(Failure) as caught:
        await client.execute(agent_id, list(lines))
    return caught.value


async def test_a_code_of_the_agents_own(client: Client) -> None:
    agent_id = (await client.spawn(talker(), id=uuid.uuid4().hex)).agent_id
    for said, code, name in [
        ({"code": "MY_ERROR"}, "MY_ERROR", "MY_ERROR"),
        ({"code": "PAYMENT_REFUSED", "name": "PAYMENT"}, "PAYMENT_REFUSED", "PAYMENT"),
        ({"code": "E2025"}, "E2025", "E2025"),
        ({"code": "E2001", "name": "TOOL_INVOCATION_FAILED"}, "E2001", "TOOL_INVOCATION_FAILED"),
    ]:
        failure = await failure_of(client, agent_id, line("fail", message="no", **said))
        assert (failure.code, failure.message) == (ErrorCode.EXECUTION_FAILED, "no")
        assert failure.detail == OwnError(code=code, name=name)
    failed = [event for event in await history(client, agent_id) if isinstance(event, ExecutionFailed)]
    assert [(event.code, event.detail and event.detail.code) for event in failed] == [
        ("E2005", "MY_ERROR"),
        ("E2005", "PAYMENT_REFUSED"),
        ("E2005", "E2025"),
        ("E2005", "E2001"),
    ]


async def test_the_code_of_a_call_that_failed_is_kept(client: Client) -> None:
    spawned = await client.spawn(worker(), id=uuid.uuid4().hex)
    with pytest.raises(Failure) as caught:
        await client.execute(spawned.agent_id, {"steps": [["tool", "absent", {}]]})
    assert (caught.value.code, caught.value.detail) == (ErrorCode.TOOL_INVOCATION_FAILED, None)


async def test_long_texts_are_cut_and_say_so(client: Client) -> None:
    spawned = await client.spawn(talker(), id=uuid.uuid4().hex)
    failure = await failure_of(client, spawned.agent_id, line("fail", message="$BIG", code="$BIG", name="$BIG"))
    assert len(failure.message.encode()) <= MESSAGE_BYTES
    assert failure.message.endswith("bytes cut)")
    assert failure.detail is not None
    assert len(failure.detail.code.encode()) <= 64
    assert len(failure.detail.name.encode()) <= 256
    with pytest.raises(Failure, match="bytes cut"):
        await client.spawn(talker(json.dumps({"type": "load_failed", "message": "$BIG"})), id=uuid.uuid4().hex)


async def test_a_large_piece_of_a_stream_is_split(client: Client) -> None:
    spawned = await client.spawn(talker(), id=uuid.uuid4().hex)
    said = [line("emit", n=0, delta="$BIG$BIG"), line("emit", n=1, delta="é\x00end"), line("complete", output=1)]
    pieces = [piece async for piece in client.stream(spawned.agent_id, said) if isinstance(piece, str)]
    assert "".join(pieces) == "x" * (10 * MIB) + "é\x00end"
    assert max(map(len, pieces)) <= 64 * 1024


async def test_large_arguments_and_states_go_by_reference_and_are_replayed(client: Client) -> None:
    roomy = worker(executor={"context_window_tokens": 1_000_000})
    agent_id = (await client.spawn(roomy, id=uuid.uuid4().hex)).agent_id
    text = "x" * 300_000
    states = [["state", f"k{n}", f"{n}{text[:200_000]}"] for n in range(3)]
    steps: list[Any] = [["tool", "mark", {"name": text}], *states, ["signal", "go", None]]
    execution = asyncio.create_task(client.execute(agent_id, {"steps": steps}))
    await until(client, agent_id, lambda recorded: isinstance(recorded.event, EffectRecorded))
    os.kill(await pid_of(client, agent_id), signal.SIGKILL)
    await client.signal(agent_id, "go", "on")
    assert (await execution).output == [1, "on"]
    assert (await client.execute(agent_id, {"steps": [["read", "k2"]]})).output == [f"2{text[:200_000]}"]
    events = [event for event in await history(client, agent_id) if not isinstance(event, ExecutionStarted)]
    assert max(len(msgspec.json.encode(event)) for event in events) < 256 * 1024


async def test_keys_that_fit_into_no_event_fail_the_execution(client: Client) -> None:
    spawned = await client.spawn(talker(), id=uuid.uuid4().hex)
    for state in ({"set": {"$BIG": 1}, "delete": []}, {"set": {}, "delete": ["$BIG"]}):
        failure = await failure_of(client, spawned.agent_id, line("complete", output=1, state=state))
        assert failure.code is ErrorCode.PAYLOAD_TOO_LARGE
    assert not [event for event in await history(client, spawned.agent_id) if isinstance(event, AgentRestarted)]


async def test_work_that_ends_with_its_process_costs_no_agent_however_often(client: Client) -> None:
    spawned = await client.spawn(talker(), id=uuid.uuid4().hex)
    deep: list[Any] = []
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    for _ in range(3):
        call = line("call", call=1, kind="tool", tool="t", arguments={"a": deep})
        assert (await failure_of(client, spawned.agent_id, call)).code is ErrorCode.COMMAND_INVALID
    assert (await client.execute(spawned.agent_id, [line("complete", output=7)])).output == 7
    ends = [event for event in await history(client, spawned.agent_id) if isinstance(event, AgentRestarted)]
    assert [(event.attempt, event.delay_seconds) for event in ends] == [(0, 0.0)] * 3
