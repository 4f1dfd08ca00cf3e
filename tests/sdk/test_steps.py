"""What an agent does itself when its node takes steps: how it is said, within which bounds, and how it fails."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from msgspec.structs import replace

from l02.bus.wire.agent.protocol import (
    Begin,
    Call,
    Complete,
    Emit,
    Execute,
    Recorded,
    RunTool,
    Step,
    Steps,
    ToolResult,
)
from tests.sdk.harness import OWN, OWN_TOOLS, agent, ok, steps_of


async def test_steps_are_said_before_what_rests_on_them(tmp_path: Path) -> None:
    source = (
        OWN_TOOLS
        + """
@agent.on_message
async def handle(ctx, message):
    when = (await ctx.now()).isoformat()
    three = await ctx.tool("add", a=2)
    ctx.emit("piece")
    chance = await ctx.random()
    four = await ctx.tool("add_later", a=three)
    there = await ctx.tool("there", n=four)
    again = (await ctx.now()).isoformat()
    assert await ctx.tool("once") == "done"
    await ctx.random()
    return [when, three, chance, four, there, again]
"""
    )
    async with agent(source, tmp_path) as process:
        began = time.time()
        process.execute(own=OWN)
        now, tool = ([step] for step in await steps_of(process, 2))
        assert await process.expect(Emit) == Emit("x1", 0, "piece")
        random = (await process.expect(Steps)).steps
        assert await process.expect(Begin) == Begin("x1", 4, "add_later")
        later = (await process.expect(Steps)).steps
        assert await process.expect(Call) == Call("x1", 5, "tool", tool="there", arguments={"n": 4})
        process.send(ok(Call("x1", 5, "tool", tool="there", arguments={}), "yes"))
        again = (await process.expect(Steps)).steps
        once = await process.expect(Call)
        assert once == Call("x1", 7, "tool", tool="once", arguments={})
        process.send(RunTool("x1", 7, "once", {}))
        assert await process.expect(ToolResult) == ToolResult("x1", 7, True, result="done")
        process.send(ok(once, "done"))
        last = (await process.expect(Steps)).steps
        done = await process.expect(Complete)
    when, chance = now[0].result, random[0].result
    assert began <= when <= again[0].result <= time.time()
    assert 0 <= chance < 1
    assert now == [Step(1, "now", 0, result=when)]
    assert tool == [Step(2, "tool", 0, "add", {"a": 2}, result=3)]
    assert random == [Step(3, "random", 0, result=chance)]
    assert later == [Step(4, "tool", 0, "add_later", {"a": 3}, result=4)]
    assert again == [Step(6, "now", 1, result=again[0].result)]
    assert last == [Step(8, "random", 2, result=last[0].result)]
    times = [datetime.fromtimestamp(step.result, UTC).isoformat() for step in (now[0], again[0])]
    assert done.output == [times[0], 3, chance, 4, "yes", times[1]]


async def test_what_is_said_together_is_written_together(tmp_path: Path) -> None:
    """A node that reads a call has its steps in the same piece."""
    source = (
        OWN_TOOLS + "@agent.on_message\nasync def handle(ctx, message):\n    await ctx.now()\n    await ctx.tool('t')\n"
    )
    async with agent(source, tmp_path) as process:
        process.execute(own=OWN)
        piece = await process.reader.read(1 << 16)
    assert piece.count(b"\n") == 2
    assert piece.startswith(b'{"type":"steps"')


async def test_a_node_that_takes_no_steps_is_asked_for_all(tmp_path: Path) -> None:
    source = (
        OWN_TOOLS
        + """
@agent.on_message
async def handle(ctx, message):
    return [await ctx.random(), await ctx.tool("add", a=1), await asyncio.to_thread(lambda: 3)]
"""
    )
    async with agent(source, tmp_path) as process:
        process.execute()
        process.send(ok(await process.expect(Call), 0.5))
        process.send(ok(await process.expect(Call), 2))
        assert (await process.expect(Complete)).output == [0.5, 2, 3]


async def test_steps_that_wait_for_nothing_are_said_when_the_process_waits(tmp_path: Path) -> None:
    source = (
        OWN_TOOLS
        + """
@agent.on_message
async def handle(ctx, message):
    asked = asyncio.create_task(ctx.tool("slow"))
    await asyncio.sleep(0)
    for _ in range(250): await ctx.random()
    await asked
"""
    )
    async with agent(source, tmp_path) as process:
        process.execute(own=OWN)
        call = await process.expect(Call)
        sizes = [len((await process.expect(Steps)).steps) for _ in range(3)]
        assert sizes == [100, 100, 50]
        process.send(ok(call, None))
        await process.expect(Complete)


async def test_after_counts_the_answers_that_were_taken_in(tmp_path: Path) -> None:
    source = (
        OWN_TOOLS
        + """
async def ask(ctx, n):
    await ctx.tool("t", n=n)
    await ctx.random()
@agent.on_message
async def handle(ctx, message):
    await asyncio.gather(*(ask(ctx, n) for n in range(3)))
"""
    )
    async with agent(source, tmp_path) as process:
        process.execute(own=OWN)
        calls = await process.calls(3)
        process.send(*(ok(call, None) for call in reversed(calls)))
        steps = await steps_of(process, 3)
        await process.expect(Complete)
    # Answers and steps that are ready side by side are taken in as they came: three answers lay there first.
    assert [(step.call, step.after) for step in steps] == [(4, 3), (5, 3), (6, 3)]


async def test_ten_thousand_steps(tmp_path: Path) -> None:
    """As many times the time for as many times the steps, roughly; and nothing is kept of what was said."""
    source = OWN_TOOLS + (
        "@agent.on_message\nasync def handle(ctx, message):\n"
        "    for n in range(message): await ctx.now()\n"
        "    for n in range(message // 10): await ctx.tool('add', a=n)\n"
    )
    async with agent(source, tmp_path) as process:
        for count in (100, 10_000):
            process.execute(count, own=OWN)
            steps = await steps_of(process, count + count // 10)
            await process.expect(Complete)
            assert [step.call for step in steps] == list(range(1, count + count // 10 + 1))
            recorded = [steps[n : n + 1000] for n in range(0, len(steps), 1000)]
            process.send(
                Execute("x1", count, {}, replace(OWN, recorded=len(steps))), *(Recorded("x1", s) for s in recorded)
            )
            assert await process.expect(Complete) == Complete("x1", None)
