"""A call that a person must say yes to waits for that, whatever dies meanwhile, and then happens once."""

from __future__ import annotations

import asyncio
from typing import Any

from l02.client.client import Client
from l02.domain.agent.work.approvals import ApprovalAnswered, ApprovalRequested
from l02.domain.agent.work.effects import ToolCalled, ToolRequested
from tests.nodes.conftest import Cluster
from tests.runtime.conftest import history, until


async def test_a_yes_is_heard_though_the_node_that_asked_is_dead(cluster: Cluster, client: Client) -> None:
    specification: dict[str, Any] = cluster.agent()
    specification["tools"]["ledger"]["ask"] = ["note"]
    async with cluster.node("one") as node:
        await client.spawn(specification, id="a1")
        steps = [["tool", "note", {"text": "paid"}], ["now"]]
        work = asyncio.create_task(client.execute("a1", {"steps": steps}, command_id="x1"))
        asked = await until(client, "a1", lambda recorded: isinstance(recorded.event, ApprovalRequested))
        assert isinstance(asked.event, ApprovalRequested)
        await node.end()
        assert cluster.noted() == []
        answer = asyncio.create_task(client.approve("a1", "x1", asked.event.call))
    async with cluster.node("one"):
        assert (await answer).ok
        assert (await work).output[0] == "noted paid"
    assert cluster.noted() == ["paid"]
    kinds = (ApprovalRequested, ApprovalAnswered, ToolRequested, ToolCalled)
    assert [type(event) for event in await history(client, "a1") if isinstance(event, kinds)] == [*kinds]
