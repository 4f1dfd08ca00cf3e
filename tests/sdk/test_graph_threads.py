"""A LangGraph graph whose nodes are plain functions runs them in threads, and is gone on with like anything else."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from l02.bus.wire.agent.protocol import Complete, Execute, Recorded, Step
from tests.sdk.harness import OWN, OWN_TOOLS, agent, ok, steps_of

pytest.importorskip("langgraph", reason="needs the extra `langgraph`")

SOURCE = (
    OWN_TOOLS
    + """
from typing import TypedDict
from langgraph.graph import START, StateGraph

class Seen(TypedDict):
    n: int

@agent.on_message
async def handle(ctx, is_slow):
    asked = threading.Event()

    def count(state):                     # a thread
        if is_slow: asked.wait(20)
        return {"n": state["n"] + 1}

    async def tell(state):
        await ctx.tool("tell", n=state["n"])
        return {}

    builder = StateGraph(Seen)
    builder.add_node(count)
    builder.add_node(tell)
    builder.add_edge(START, "count")
    builder.add_edge("count", "tell")
    graph = builder.compile()

    async def beside():
        await ctx.tool("first")
        await ctx.tool("second")
        asked.set()

    return (await asyncio.gather(graph.ainvoke({"n": 1}), beside()))[0]
"""
)


async def test_a_node_that_was_slow_and_is_quick_this_time(tmp_path: Path) -> None:
    """It came after both answers; were it taken in as it comes, the second call would be another one."""
    async with agent(SOURCE, tmp_path) as process:
        process.execute(True, own=OWN)
        first, *_ = await process.calls(1)
        process.send(ok(first, None))
        second, *_ = await process.calls(1)
        process.send(ok(second, None))
        steps = await steps_of(process, 1)
        third, *_ = await process.calls(1)
        process.send(ok(third, None))
        output = (await process.expect(Complete)).output
    assert [(call.call, call.tool) for call in (first, second, third)] == [(1, "first"), (2, "second"), (3, "tell")]
    assert steps[0] == Step(1, "thread", 2)
    assert output == {"n": 2}
    async with agent(SOURCE, tmp_path) as process:
        own = replace(OWN, recorded=len(steps), answers=2)
        process.send(Execute("x1", False, {}, own), Recorded("x1", steps))
        for call in (first, second, third):
            assert await process.calls(1) == [call]
            process.send(ok(call, None))
        assert (await process.expect(Complete)).output == output
