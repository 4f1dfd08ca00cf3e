"""What agents work on and what they have in hand, asked over the wire and by the commands of a person."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from l02.bus.wire.agent.values import as_bytes
from l02.bus.wire.subjects import hot_subject
from l02.cli.terminal.paging import all_pages
from l02.client.client import Client
from l02.domain.errors import ErrorCode, Failure
from l02.node.running import Node
from l02.projections.folds.executions import ExecutionState, ExecutionView
from tests.runtime.conftest import Raw
from tests.runtime.test_checkpoint_cli import as_json, l02
from tests.runtime.test_checkpoints import COUNT

Spawn = Callable[..., Awaitable[str]]


def ids(executions: list[ExecutionView]) -> list[str]:
    return [view.execution_id for view in executions]


async def test_the_executions_of_an_agent_and_of_all(client: Client, node: Node, raw: Raw, spawn: Spawn) -> None:
    agent_id, other = await spawn(), await spawn()
    for n in range(3):
        await client.execute(agent_id, {"steps": [["tool", "add", {"a": n, "b": 1}]]}, command_id=f"{agent_id}-{n}")
    with pytest.raises(Failure):
        await client.execute(agent_id, {"steps": [["fail", "no"]]}, command_id=f"{agent_id}-3")
    await client.execute(other, COUNT, command_id=f"{other}-0")
    mine = [f"{agent_id}-{n}" for n in (3, 2, 1, 0)]
    found = await client.executions(agent_id)
    assert ids(found) == mine
    assert [(view.state.value, view.output, view.tool_calls) for view in found[1:]] == [
        ("completed", [3], 1),
        ("completed", [2], 1),
        ("completed", [1], 1),
    ]
    assert ids(await client.executions(agent_id, state=ExecutionState.FAILED)) == mine[:1]
    assert ids(await client.executions(agent_id, state="completed", limit=2, after=mine[0])) == mine[1:3]
    latest = await client.executions(limit=5)
    assert ids(latest) == [f"{other}-0", *mine]
    pages = await all_pages(
        lambda size, after: client.executions(limit=min(size, 2), after=after),
        lambda view: f"{view.agent_id}/{view.execution_id}",
        limit=2,
    )
    after = f"{pages[-1].agent_id}/{pages[-1].execution_id}"
    assert ids([*pages, *await client.executions(limit=3, after=after)]) == ids(latest)
    assert [row["execution_id"] for row in await as_json(node, "executions", agent_id, "--limit", "2")] == mine[:2]
    assert [row["execution_id"] for row in await as_json(node, "executions", "--state", "failed", "--limit", "1")] == [
        mine[0]
    ]
    code, printed, _ = await l02(node, "executions", agent_id)
    heading, first, *rest = printed.splitlines()
    assert (code, len(rest)) == (0, 3)
    assert heading.split() == ["EXECUTION", "AGENT", "STATE", "CALLS", "TOKENS", "USD", "SECONDS", "STARTED", "ERROR"]
    assert first.split()[:3] == [mine[0], agent_id, "failed"] and "E2005" in first
    for fields, error in (
        ({"id": "nobody"}, "E2111"),
        ({"after": mine[0]}, "E2110"),
        ({"state": "asleep"}, "E2110"),
    ):
        assert (await raw.request("agent.executions", fields))["error"]["code"] == error


async def test_pages_that_no_message_can_hold_are_asked_for_by_halves() -> None:
    """Whatever one of them may hold: a page of one is all that has to fit."""
    names = [f"{n:03}" for n in range(700)]
    sizes: list[int] = []

    async def ask(limit: int, after: str | None) -> list[str]:
        sizes.append(limit)
        if limit > 40:
            raise Failure(ErrorCode.PAYLOAD_TOO_LARGE, "too large")
        begin = 0 if after is None else names.index(after) + 1
        return names[begin : begin + limit]

    assert await all_pages(ask, str) == names
    assert sizes[:5] == [500, 250, 125, 62, 31]
    assert await all_pages(ask, str, limit=33) == names[:33]

    async def never(limit: int, after: str | None) -> list[str]:
        raise Failure(ErrorCode.PAYLOAD_TOO_LARGE, "too large")

    with pytest.raises(Failure):
        await all_pages(never, str)


async def test_the_state_that_work_has_left_is_there_when_it_is_done(
    client: Client, node: Node, raw: Raw, spawn: Spawn
) -> None:
    agent_id = await spawn()
    for count in range(1, 6):
        await client.execute(agent_id, COUNT)
        assert (await client.state(agent_id)).state == {"count": count}
    await client.execute(agent_id, {"steps": [["state", "text", "as it is"], ["bytes", "file", 600_064]]})
    stored = (await raw.request("agent.state", {"id": agent_id}))["result"]["state"]
    assert stored["file"].keys() == {"$object", "sha256", "size"}
    found = await client.state(agent_id)
    assert (found.state["count"], found.state["text"]) == (5, "as it is")
    assert as_bytes(found.state["file"]) == bytes(range(256)) * 2344
    known = await node.parts.agents.load(agent_id)
    assert (found.version, found.revision) == (known.version, known.state.revision)
    code, printed, _ = await l02(node, "state", agent_id)
    assert (code, json.loads(printed)) == (0, found.state)
    assert (await as_json(node, "state", agent_id))["revision"] == found.revision
    await client.suspend(agent_id)
    assert (await client.state(agent_id)).state == found.state
    assert (await raw.request("agent.state", {"id": "nobody"}))["error"]["code"] == "E2111"
    code, _, errors = await l02(node, "state", "nobody")
    assert code == 1
    assert errors.startswith("E2111 AGGREGATE_NOT_FOUND: there is no agent 'nobody'")


@pytest.mark.parametrize("put", [b"", b"short", b"\0" * 9, (2**63).to_bytes(8) + b'{"version":[]}'])
async def test_whatever_stands_where_the_copy_is_the_state_is_right(
    client: Client, node: Node, spawn: Spawn, put: bytes
) -> None:
    agent_id = await spawn()
    await client.execute(agent_id, COUNT)
    await node.parts.bus.publish(hot_subject(agent_id), put)
    assert (await client.state(agent_id)).state == {"count": 1}
    await client.execute(agent_id, COUNT)
    assert (await client.state(agent_id)).state == {"count": 2}


async def test_the_state_of_a_running_agent_is_answered_in_less_than_two_milliseconds(
    client: Client, raw: Raw, spawn: Spawn
) -> None:
    agent_id = await spawn()
    await client.execute(agent_id, {"steps": [["state", str(n), ["some", "words", n]] for n in range(100)]})
    taken: list[float] = []
    for _ in range(300):
        began = time.perf_counter()
        answer: dict[str, Any] = await raw.request("agent.state", {"id": agent_id})
        taken.append(time.perf_counter() - began)
        assert len(answer["result"]["state"]) == 100
    assert statistics.quantiles(taken, n=10)[0] < 0.002  # the quickest tenth: beside others, many are slower
