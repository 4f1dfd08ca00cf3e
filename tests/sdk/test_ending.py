"""How an agent's process ends: told to, left alone, or talked to wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from l02.bus.wire.agent.lines import MAX_LINE
from l02.bus.wire.agent.protocol import Answer, Call, Complete, Shutdown
from tests.sdk.harness import AgentProcess, agent

SOURCE = """
import asyncio
from l02.agent import Agent
agent = Agent("tester")

@agent.on_message
async def handle(ctx, message):
    match message:
        case "wait":
            try:
                await ctx.tool("t")
            finally:
                await asyncio.sleep(0.01)
                print("cleaned up")
        case "swallow":
            try:
                await ctx.tool("t")
            except asyncio.CancelledError:
                return "as if nothing had happened"
        case "call again":
            try:
                await ctx.tool("t")
            finally:
                await ctx.tool("undo")
        case "stubborn":
            while True:
                try:
                    await ctx.tool("t")
                except asyncio.CancelledError:
                    await asyncio.Event().wait()
        case "child":
            async with asyncio.TaskGroup() as group:
                group.create_task(handle(ctx, "wait"))
        case "leftover":
            asyncio.create_task(handle(ctx, "wait"))
            await asyncio.sleep(0)
            return "done"
        case "keep":
            global kept
            kept = ctx
        case "use kept":
            await kept.now()
"""


@pytest.mark.parametrize("message", ["wait", "swallow", "call again", "stubborn", "child"])
@pytest.mark.parametrize("told", [True, False])
async def test_a_running_handler_is_cancelled_and_says_nothing_more(message: str, told: bool, tmp_path: Path) -> None:
    async with agent(SOURCE, tmp_path) as process:
        process.execute(message)
        await process.expect(Call)
        if told:
            process.send(Shutdown())
        else:
            process.writer.write_eof()
        assert await process.reader.read() == b""
        status, printed, _ = await process.exit()
    assert status == 0
    assert printed == ("cleaned up\n" if message in ("wait", "child") else "")


async def test_an_agent_that_waits_ends_when_its_node_is_gone(tmp_path: Path) -> None:
    async with agent(SOURCE, tmp_path) as process:
        process.writer.close()
        assert await process.exit() == (0, "", "")


async def test_tasks_that_a_handler_leaves_behind_are_cancelled(tmp_path: Path) -> None:
    async with agent(SOURCE, tmp_path) as process:
        process.execute("leftover")
        await process.expect(Call)
        assert (await process.expect(Complete)).output == "done"
        status, printed, _ = await process.shut_down()
    assert (status, printed) == (0, "cleaned up\n")


async def test_a_context_of_an_ended_execution_is_of_no_use(tmp_path: Path) -> None:
    async with agent(SOURCE, tmp_path) as process:
        assert isinstance(await process.run("keep"), Complete)
        fail = await process.run("use kept")
    assert "this execution has ended" in str(fail)


async def _garbage(process: AgentProcess) -> None:
    process.writer.write(b"garbage\n")


async def _unknown_type(process: AgentProcess) -> None:
    process.writer.write(b'{"type":"dance"}\n')


async def _long_line(process: AgentProcess) -> None:
    process.writer.write(b"a" * (MAX_LINE + 1))


async def _two_executions(process: AgentProcess) -> None:
    process.execute("wait", execution_id="x1")
    process.execute("wait", execution_id="x2")


async def _answer_to_nothing(process: AgentProcess) -> None:
    process.execute("wait", execution_id="x1")
    process.send(Answer("x1", 7, True, result=None))


@pytest.mark.parametrize(
    ("offend", "text"),
    [
        (_garbage, "not a message"),
        (_unknown_type, "not a message"),
        (_long_line, "16 MiB"),
        (_two_executions, "x2 was sent while x1 runs"),
        (_answer_to_nothing, "no open call 7"),
    ],
)
async def test_a_node_that_breaks_the_protocol_ends_the_process(offend, text: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    async with agent(SOURCE, tmp_path) as process:
        await offend(process)
        status, _, log = await process.exit()
    assert status == 1
    assert "l02: the node broke the protocol" in log
    assert text in log


async def test_an_answer_for_another_execution_is_passed_over(tmp_path: Path) -> None:
    async with agent(SOURCE, tmp_path) as process:
        process.execute("wait", execution_id="x2")
        await process.expect(Call)
        process.send(Answer("x1", 1, True, result=None), Answer("x2", 1, True, result=None))
        assert (await process.expect(Complete)).execution_id == "x2"
