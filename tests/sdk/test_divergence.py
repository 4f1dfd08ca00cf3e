"""Steps on record are taken in where they were, and an agent that does anything else says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from l02.bus.wire.agent.protocol import Answer, Call, Complete, Diverged, Execute, Recorded, Step, Steps
from tests.sdk.harness import OWN, OWN_TOOLS, AgentProcess, agent, ok, steps_of

ADDED = Step(1, "tool", 0, "add", {"a": 1}, result=7)
IMPATIENT = """
from l02.agent.running import own_steps
own_steps.REPLAY_STALL_SECONDS = own_steps._HELD_BACK_SECONDS = 0.05
"""


def _go_on(process: AgentProcess, value: Any, steps: list[Step], answers: int = 0, execution_id: str = "x1") -> None:
    """Execute what has such a record."""
    own = replace(OWN, recorded=len(steps), answers=answers)
    process.send(Execute(execution_id, value, {}, own), Recorded(execution_id, steps))


async def test_what_is_on_record_is_not_done_again(tmp_path: Path) -> None:
    source = (
        OWN_TOOLS
        + """
@agent.on_message
async def handle(ctx, message):
    said = [(await ctx.now()).timestamp(), await ctx.tool("add", a=1)]
    try: await ctx.tool("given", value=[])
    except ToolError as error: said.append([error.code, error.name, error.message])
    return [*said, await ctx.tool("add", a=2)]
"""
    )
    steps = [
        Step(1, "now", 0, result=86_400.5),
        Step(2, "tool", 0, "add", {"a": 1}, result="from the record"),
        Step(3, "tool", 0, "given", {"value": []}, ok=False, result={"code": "E2002", "message": "late"}),
    ]
    async with agent(source, tmp_path) as process:
        process.send(Execute("x1", None, {}, replace(OWN, recorded=3)))
        for step in steps:  # however they come
            process.send(Recorded("x1", [step]))
        assert await process.expect(Steps) == Steps("x1", [Step(4, "tool", 0, "add", {"a": 2}, result=3)])
        output = (await process.expect(Complete)).output
    assert output == [86_400.5, "from the record", ["E2002", "TOOL_TIMEOUT", "late"], 3]


async def test_what_is_on_record_counts_towards_the_context(tmp_path: Path) -> None:
    source = (
        OWN_TOOLS
        + "@agent.on_message\nasync def handle(ctx, message):\n    for n in range(3): await ctx.tool('add', a=n)\n"
    )
    own = replace(OWN, recorded=1, tokens=5, window_tokens=7)
    async with agent(source, tmp_path) as process:
        process.send(Execute("x1", None, {}, own), Recorded("x1", [Step(1, "tool", 0, "add", {"a": 0}, result="ab")]))
        steps = await steps_of(process, 2)
    assert [step.ok for step in steps] == [True, False]
    assert steps[1].result["message"] == "1 more tokens do not fit: 7 of 7 (context_window_tokens) are in use"


@pytest.mark.parametrize(
    ("call", "was", "is_now"),
    [
        ("await ctx.now()", 'tool {"tool":"add","arguments":{"a":1}}', "now {}"),
        ("await ctx.sleep(2)", 'tool {"tool":"add","arguments":{"a":1}}', 'sleep {"seconds":2.0}'),
        (
            "await ctx.tool('add', a=2)",
            'tool {"tool":"add","arguments":{"a":1}}',
            'tool {"tool":"add","arguments":{"a":2}}',
        ),
        (
            "await ctx.tool('other', a=1)",
            'tool {"tool":"add","arguments":{"a":1}}',
            'tool {"tool":"other","arguments":{"a":1}}',
        ),
    ],
)
async def test_another_call_at_a_recorded_number(call: str, was: str, is_now: str, tmp_path: Path) -> None:
    """It is said, nothing else is said of that execution, and the process is of use."""
    source = OWN_TOOLS + (
        f"@agent.on_message\nasync def handle(ctx, message):\n    if message:\n        try: {call}\n"
        "        finally: ctx.emit('no')\n    return 'well'\n"
    )
    async with agent(source, tmp_path) as process:
        _go_on(process, True, [ADDED])
        said = await process.expect(Diverged)
        assert said == Diverged(
            "x1",
            f"call 1 was {was}, and is {is_now} this time; an agent must make the same calls when it gets the same "
            "answers (docs/agent-protocol.md)",
        )
        process.execute(execution_id="x2")
        assert await process.expect(Complete) == Complete("x2", "well")


@pytest.mark.parametrize("how", ["return 1", "raise ValueError", "ctx.state['a'] = 1"])
async def test_an_end_before_the_record_s(how: str, tmp_path: Path) -> None:
    source = (
        OWN_TOOLS + f"@agent.on_message\nasync def handle(ctx, message):\n    await ctx.tool('add', a=1)\n    {how}\n"
    )
    async with agent(source, tmp_path) as process:
        _go_on(process, None, [ADDED, Step(2, "now", 0, result=1.0)])
        said = await process.expect(Diverged)
        assert said.message == "the execution ended after 1 calls, but call 2 (now) is on record"
        _go_on(process, None, [ADDED, Step(1, "thread", 0)], execution_id="x2")
        said = await process.expect(Diverged)
        assert said == Diverged("x2", "the execution ended after 1 calls, but thread 1 is on record")


@pytest.mark.parametrize(
    ("missing", "said"), [(Step(2, "random", 0, result=0.5), "call 2 (random)"), (Step(1, "thread", 0), "thread 1")]
)
async def test_a_recorded_step_that_is_not_made(missing: Step, said: str, tmp_path: Path) -> None:
    source = (
        OWN_TOOLS
        + IMPATIENT
        + (
            "@agent.on_message\nasync def handle(ctx, message):\n"
            "    await ctx.tool('add', a=1)\n    await asyncio.Event().wait()\n"
        )
    )
    async with agent(source, tmp_path) as process:
        _go_on(process, None, [ADDED, missing])
        assert await process.expect(Diverged) == Diverged(
            "x1", f"{said} was answered before others, and is not made this time"
        )


async def test_threads_come_in_the_recorded_order(tmp_path: Path) -> None:
    """In the other order than they end this time, and beside the answers that they were between."""
    source = (
        OWN_TOOLS
        + """
@agent.on_message
async def handle(ctx, message):
    taken_in = {1: threading.Event(), 2: threading.Event()}
    ended = {1: threading.Event(), 2: threading.Event()}
    def work(n):
        other = 3 - n
        if message == [other, n]: taken_in[other].wait(20)     # has it taken in last
        if message == [None, n]: ended[other].wait(20)         # has it end last
        ended[n].set()
        return n
    async def branch(n):
        got = await asyncio.to_thread(work, n)
        taken_in[n].set()
        await ctx.tool("there", n=got)
    await asyncio.gather(branch(1), branch(2), ctx.tool("beside"))
"""
    )
    for order in ([1, 2], [2, 1]):
        async with agent(source, tmp_path) as process:
            process.execute(order, own=OWN)
            messages = [await process.receive() for _ in range(5)]
            steps = [step for message in messages if isinstance(message, Steps) for step in message.steps]
            calls = [message for message in messages if isinstance(message, Call)]
            assert [step.call for step in steps] == order
            assert [(call.call, call.tool, call.arguments) for call in calls] == [
                (1, "beside", {}),
                *((place, "there", {"n": n}) for place, n in enumerate(order, 2)),
            ]
            process.send(*(ok(call, None) for call in calls))
            await process.expect(Complete)
            _go_on(process, [None, order[0]], steps, answers=3, execution_id="x2")
            again = await process.calls(3)
            assert [replace(call, execution_id="x1") for call in again] == calls
            process.send(*(ok(call, None) for call in again))
            assert await process.expect(Complete) == Complete("x2", None)


async def test_what_is_not_on_record_comes_after_the_answers_that_are(tmp_path: Path) -> None:
    """The first time the tool was slow, and two answers came before it; this time it is done before them."""
    source = (
        OWN_TOOLS
        + """
@agent.tool(idempotent=True)
async def shout() -> str:
    print("done")
    return "done"
async def one(ctx):
    await ctx.tool("first")
    await ctx.tool("second")
async def other(ctx):
    match message:
        case "tool": await ctx.tool("shout")
        case "now": await ctx.now()
        case "thread": await asyncio.to_thread(print, "done")
    await ctx.tool("third")
@agent.on_message
async def handle(ctx, given):
    global message
    message = given
    await asyncio.gather(one(ctx), other(ctx))
"""
    )
    for kind in ("tool", "now", "thread"):
        async with agent(source, tmp_path) as process:
            process.execute(kind, own=replace(OWN, answers=2))
            first = await process.expect(Call)
            if kind != "now":
                assert process.process.stdout is not None
                assert await process.process.stdout.readline() == b"done\n"
            process.send(ok(first, None))
            second = await process.expect(Call)
            assert second.tool == "second"
            process.send(ok(second, None))
            (step,) = await steps_of(process, 1)
            assert (step.kind, step.after) == (kind, 2)
            third = await process.expect(Call)
            assert (third.tool, third.call) == ("third", second.call + 1)
            process.send(ok(third, None))
            await process.expect(Complete)


async def test_a_record_from_before_knows_no_threads(tmp_path: Path) -> None:
    """They were taken in at times that nobody knows; so they are once nothing else comes."""
    source = (
        OWN_TOOLS
        + IMPATIENT
        + (
            "@agent.on_message\nasync def handle(ctx, message):\n"
            "    return await ctx.tool('there', n=await asyncio.to_thread(lambda: 3)), await ctx.random()\n"
        )
    )
    for steps in ([], [Step(2, "random", 1, result=0.5)]):
        async with agent(source, tmp_path) as process:
            _go_on(process, None, steps, answers=1)
            assert await steps_of(process, 1) == [Step(1, "thread", 0)]
            process.send(ok(await process.expect(Call), "there"))
            if not steps:
                await steps_of(process, 1)
            assert (await process.expect(Complete)).output[0] == "there"


async def _too_many_steps(process: AgentProcess) -> None:
    process.send(Execute("x1", None, {}, replace(OWN, recorded=1)), Recorded("x1", [ADDED, ADDED]))


async def _steps_of_another(process: AgentProcess) -> None:
    process.send(Execute("x1", None, {}, replace(OWN, recorded=1)), Recorded("x2", [ADDED]))


async def _steps_of_none(process: AgentProcess) -> None:
    process.send(Recorded("x1", [ADDED]))


async def _steps_of_one_that_takes_none(process: AgentProcess) -> None:
    process.execute()
    process.send(Recorded("x1", [ADDED]))


@pytest.mark.parametrize(
    ("offend", "text"),
    [
        (_too_many_steps, "more steps are on record than were announced"),
        (_steps_of_another, "steps of x2 were sent, which does not run"),
        (_steps_of_none, "steps of x1 were sent, which does not run"),
        (_steps_of_one_that_takes_none, "more steps are on record than were announced"),
    ],
)
async def test_a_node_that_tells_of_wrong_steps_ends_the_process(offend: Any, text: str, tmp_path: Path) -> None:
    source = OWN_TOOLS + "@agent.on_message\nasync def handle(ctx, message): await ctx.tool('t')\n"
    async with agent(source, tmp_path) as process:
        await offend(process)
        status, _, log = await process.exit()
    assert status == 1
    assert text in log


async def test_an_execution_that_was_told_to_end_says_nothing_of_its_steps(tmp_path: Path) -> None:
    source = OWN_TOOLS + (
        "@agent.on_message\nasync def handle(ctx, message):\n    try: await ctx.tool('t')\n"
        "    finally:\n        print('cleans up')\n        await ctx.now()\n"
    )
    async with agent(source, tmp_path) as process:
        process.execute(own=OWN)
        call = await process.expect(Call)
        status, printed, _ = await process.shut_down()
        assert await process.reader.read() == b""
    assert isinstance(ok(call, None), Answer)
    assert (status, printed) == (0, "cleans up\n")
