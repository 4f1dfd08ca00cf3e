"""A handler issues the same calls in the same order, however the same answers come in."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from l02.bus.wire.agent.protocol import Answer, Call, Complete, Emit
from tests.sdk.harness import AgentProcess, agent, ok

HEAD = """
import asyncio
from l02.agent import Agent
agent = Agent("tester")
"""

FOLLOW_UPS = (
    HEAD
    + """
async def chain(ctx, name, turns):
    first = await ctx.tool("first", of=name)
    for _ in range(turns):          # as code in between does: other awaits, queues, locks
        await asyncio.sleep(0)
    second = await ctx.tool("second", of=name, after=first)
    return await ctx.tool("third", of=name, after=second)

@agent.on_message
async def handle(ctx, message):
    return await asyncio.gather(*(chain(ctx, name, turns) for name, turns in message))
"""
)

GROUPS = (
    HEAD
    + """
async def leaf(ctx, name):
    try:
        return await ctx.tool("leaf", of=name)
    finally:
        await ctx.now()

@agent.on_message
async def handle(ctx, message):
    queue = asyncio.Queue()
    async def feed():
        async with asyncio.TaskGroup() as group:
            for name in message:
                group.create_task(leaf(ctx, name)).add_done_callback(lambda task: queue.put_nowait(task.result()))
    async def drain():
        return [await ctx.tool("seen", item=await queue.get()) for _ in message]
    _, seen = await asyncio.gather(feed(), drain())
    return seen
"""
)

SETS = (
    HEAD
    + """
@agent.on_message
async def handle(ctx, message):
    tasks = [asyncio.create_task(ctx.tool("a", n=n)) for n in range(40)]
    done, _ = await asyncio.wait(tasks)                 # a set
    results = [await ctx.tool("b", n=task.result()) for task in done]
    try:
        async with asyncio.TaskGroup() as group:        # cancels a set of tasks
            for n in range(20):
                group.create_task(cancelled(ctx, n))
            await ctx.now()
            raise KeyError
    except ExceptionGroup:
        return results
async def cancelled(ctx, n):
    try:
        await asyncio.Event().wait()
    finally:
        await ctx.tool("undo", n=n)
"""
)

STREAM = (
    HEAD
    + """
async def ticks(ctx):
    for n in range(5):
        await ctx.tool("tick", n=n)

@agent.on_message
async def handle(ctx, message):
    beside = asyncio.create_task(ticks(ctx))
    for n in range(5):
        yield "x" * 60_000
        await ctx.tool("main", n=n)
    await beside
"""
)


def _result_of(call: Call) -> Any:
    match call:
        case Call(kind="tool", tool="leaf", arguments=dict() as arguments):
            return arguments["of"]
        case Call(kind="tool", tool="a", arguments=dict() as arguments):
            return arguments["n"]
    return call.call


class Recorder:
    """A node that answers each call in an order of its choosing, then can do it again from its record."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.answers: list[Answer] = []

    async def record(self, process: AgentProcess, value: Any, order: list[int]) -> Complete:
        """Answers one open call at a time: which of them, `order` says."""
        process.execute(value)
        waiting: list[Call] = []
        step = 0
        while True:
            try:
                # Most likely no more calls come before an answer. If one does, the record is as good a one.
                async with asyncio.timeout(0.05 if waiting else 20):
                    message = await process.receive()
            except TimeoutError:
                call = waiting.pop(order[step % len(order)] % len(waiting))
                step += 1
                self.answers.append(ok(call, _result_of(call)))
                process.send(self.answers[-1])
                continue
            if isinstance(message, Complete):
                return message
            if isinstance(message, Call):
                self.calls.append(message)
                waiting.append(message)

    async def replay(self, process: AgentProcess, value: Any) -> tuple[list[Call], Complete]:
        """Answers from the record, in the recorded order, as many at once as there can be."""
        process.execute(value)
        calls: list[Call] = []
        answers = list(self.answers)
        while not isinstance(message := await process.receive(), Complete):
            if isinstance(message, Emit):
                continue
            assert isinstance(message, Call)
            calls.append(message)
            ready = []
            while answers and answers[0].call <= len(calls):
                ready.append(answers.pop(0))
            process.send(*ready)
        return calls, message


@pytest.mark.parametrize(
    ("source", "value"),
    [
        (FOLLOW_UPS, [["a", 7], ["b", 0], ["c", 3], ["d", 1]]),
        (GROUPS, ["a", "b", "c", "d"]),
        (STREAM, None),
    ],
    ids=["follow-ups", "groups", "stream"],
)
@pytest.mark.parametrize("order", [[0], [-1], [1, 0, 2]], ids=["in order", "last first", "mixed"])
async def test_a_replay_issues_the_same_calls(source: str, value: Any, order: list[int], tmp_path: Path) -> None:
    recorder = Recorder()
    async with agent(source, tmp_path) as process:
        done = await recorder.record(process, value, order)
    assert len(recorder.calls) > 5
    async with agent(source, tmp_path) as process:
        assert await recorder.replay(process, value) == (recorder.calls, done)


async def test_answers_of_one_write_act_like_answers_that_come_one_by_one(tmp_path: Path) -> None:
    """All first answers at once; were they applied at once, the second calls would be numbered by the turns."""
    value = [["slow", 9], ["quick", 0], ["middle", 4]]
    seen: list[list[Call]] = []
    for together in (True, False):
        async with agent(FOLLOW_UPS, tmp_path) as process:
            process.execute(value)
            first = await process.calls(3)
            answers = [ok(call, call.call) for call in first]
            if together:
                process.send(*answers)
                second = await process.calls(3)
            else:
                second = []
                for answer in answers:
                    process.send(answer)
                    second += await process.calls(1)
            seen.append(second)
    assert seen[0] == seen[1]
    names = [call.arguments["of"] for call in seen[0] if isinstance(call.arguments, dict)]
    assert names == ["slow", "quick", "middle"]


async def test_sets_of_tasks_have_the_same_order_in_every_process(tmp_path: Path) -> None:
    runs = []
    for warm_up in (0, 1, 2):
        async with agent(SETS, tmp_path) as process:
            for n in range(warm_up + 1):  # earlier executions in the process must make no difference
                process.execute(None, execution_id=f"x{n}")
                calls = []
                while isinstance(message := await process.receive(), Call):
                    calls.append(msgspec.structs.replace(message, execution_id="x"))
                    process.send(ok(message, _result_of(message)))
            assert isinstance(message, Complete)
            runs.append((calls, message.output))
    assert len(runs[0][0]) == 40 + 40 + 1 + 20
    assert runs[0] == runs[1] == runs[2]
