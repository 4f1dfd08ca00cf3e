"""Own tools that an agent runs without asking: within which bounds, and how they fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from l02.bus.wire.agent.protocol import (
    Begin,
    Call,
    Complete,
    Fail,
)
from tests.sdk.harness import OWN, OWN_TOOLS, agent, failed, ok, steps_of

FAILURES: list[tuple[str, dict[str, Any], str, str]] = [
    ("add", {"a": "1"}, "E2001", "the arguments of tool 'add' do not fit: Expected `int`, got `str` - at `$.a`"),
    ("add", {"a": 1, "c": 1}, "E2001", "the arguments of tool 'add' do not fit: Object contains unknown field `c`"),
    ("broken", {}, "E2001", "tool 'broken' failed: KeyError: 'k' (author.py:"),
    ("leaves", {}, "E2001", "tool 'leaves' failed: SystemExit: 1 (author.py:"),
    ("gives_up", {}, "E2001", "tool 'gives_up' failed: CancelledError"),
    ("cancels_itself", {}, "E2001", "tool 'cancels_itself' failed: CancelledError"),
    ("odd", {}, "E2001", "tool 'odd' failed: TypeError: the result of odd is not a JSON value"),
    ("text", {"length": 8 << 20}, "E2115", "at most 8388608 can be passed on"),
    ("text", {"length": 17 << 20}, "E2115", "at most 8388608 can be passed on"),
    ("text", {"length": 5_000_000}, "E2003", "1250001 more tokens do not fit: 13 of 1000000 (context_window_tokens)"),
    ("lists", {"count": 46_000}, "E2001", "tool 'lists' failed: the result holds more than 500,000 values"),
    ("deep", {"depth": 101}, "E2001", "the tool's result: lists and objects are nested more than 100 deep"),
    ("deep", {"depth": 900}, "E2001", "the tool's result: lists and objects are nested more than 100 deep"),
    ("long", {}, "E2001", "bytes cut)"),
]


async def test_how_own_tools_fail(tmp_path: Path) -> None:
    """One after another in one execution, with the codes and texts that a node would give."""
    source = (
        OWN_TOOLS
        + """
@agent.tool(idempotent=True)
def broken(): raise KeyError("k")
@agent.tool(idempotent=True)
def leaves(): raise SystemExit(1)
@agent.tool(idempotent=True)
async def gives_up(): raise asyncio.CancelledError
@agent.tool(idempotent=True)
async def cancels_itself():
    asyncio.current_task().cancel()
    await asyncio.sleep(0)
@agent.tool(idempotent=True)
def odd(): return object()
@agent.tool(idempotent=True)
def text(length: int) -> str: return "a" * length
@agent.tool(idempotent=True)
def lists(count: int) -> list: return [[]] * count
@agent.tool(idempotent=True)
def deep(depth: int) -> list:
    value = []
    for _ in range(depth - 1): value = [value]
    return value
@agent.tool(idempotent=True)
def long(): raise ValueError("\\u00e9" * 9000)
@agent.on_message
async def handle(ctx, message):
    said = [await ctx.tool("text", length=50)]
    for tool, arguments in message:
        try: await ctx.tool(tool, **arguments)
        except ToolError as error: said.append([error.code, error.name, error.message])
    return said
"""
    )
    async with agent(source, tmp_path) as process:
        process.execute([[tool, arguments] for tool, arguments, _, _ in FAILURES], own=OWN)
        steps = await steps_of(process, len(FAILURES) + 1)
        done = await process.expect(Complete)
    assert (steps[0].ok, steps[0].result) == (True, "a" * 50)
    names = {"E2001": "TOOL_INVOCATION_FAILED", "E2003": "CONTEXT_OVERFLOW", "E2115": "PAYLOAD_TOO_LARGE"}
    for step, (tool, arguments, code, text), said in zip(steps[1:], FAILURES, done.output[1:], strict=True):
        assert (step.tool, step.arguments, step.ok) == (tool, arguments, False)
        assert step.result == {"code": code, "message": said[2]}
        assert said[:2] == [code, names[code]]
        assert text in said[2]
        assert len(said[2].encode()) <= 8192


async def test_results_that_just_fit(tmp_path: Path) -> None:
    """Each alone in its message, as several would be too heavy for a node."""
    source = OWN_TOOLS + (
        "@agent.on_message\nasync def handle(ctx, message):\n"
        "    return [len(result) for result in await asyncio.gather(*(ctx.tool('given', value=v) for v in message))]\n"
    )
    values: list[list[Any]] = [[[]] * 22_000, [1] * 100, [[]] * 20_000, ["a" * 7_000_000], [2]]
    async with agent(source, tmp_path) as process:
        process.execute(values, own=replace(OWN, window_tokens=10_000_000))
        steps = await steps_of(process, 5)
        assert (await process.expect(Complete)).output == [22_000, 100, 20_000, 1, 1]
    assert sorted(len(step.result) for step in steps) == [1, 1, 100, 20_000, 22_000]


@pytest.mark.parametrize("value", [[[]] * 46_000, "deep"], ids=["too heavy", "too deep"])
async def test_a_call_that_could_not_be_recorded_is_for_the_node_to_refuse(value: Any, tmp_path: Path) -> None:
    source = OWN_TOOLS + (
        "@agent.on_message\nasync def handle(ctx, message):\n"
        "    value = []\n    for _ in range(100): value = [value]\n"
        "    return await ctx.tool('given', value=value if message == 'deep' else message)\n"
    )
    async with agent(source, tmp_path) as process:
        process.execute(value, own=OWN)
        call = await process.expect(Call)
        assert call.tool == "given"
        process.send(failed(call, "too much", "E2115"))
        assert (await process.expect(Fail)).code == "E2115"


async def test_large_arguments(tmp_path: Path) -> None:
    """They and the result go into one message."""
    source = (
        OWN_TOOLS
        + """
@agent.tool(idempotent=True)
def text(value: str, length: int) -> str: return "b" * length
@agent.on_message
async def handle(ctx, message):
    value, length = message
    return len(await ctx.tool("text", value="a" * value, length=length))
"""
    )
    own = replace(OWN, window_tokens=10_000_000)
    async with agent(source, tmp_path) as process:
        process.execute([9_000_000, 7_000_000], own=own)
        (step,) = await steps_of(process, 1)
        assert (step.ok, len(step.result)) == (True, 7_000_000)
        assert (await process.expect(Complete)).output == 7_000_000
        process.execute([10_000_000, 7_000_000], own=own)
        (step,) = await steps_of(process, 1)
        assert step.result["message"] == "tool 'text' failed: the result is too large beside its arguments"
        await process.expect(Fail)
        process.execute([16_700_000, 1], own=own)
        assert "ValueError: the call is too large: the arguments have" in (await process.expect(Fail)).message


async def test_a_tool_is_tried_again_and_given_up(tmp_path: Path) -> None:
    source = (
        OWN_TOOLS
        + """
tries = []
@agent.tool(idempotent=True)
async def flaky(values: list, fail: int) -> list:
    values.append(len(tries))      # what one try does to its arguments, the next does not see
    tries.append(1)
    if len(tries) <= fail: raise ValueError("not yet")
    return values
@agent.on_message
async def handle(ctx, message): return await ctx.tool("flaky", values=[], fail=message)
"""
    )
    own = replace(OWN, max_tool_retries=1)
    async with agent(source, tmp_path) as process:
        process.execute(1, own=own)
        assert [await process.expect(Begin) for _ in range(2)] == [Begin("x1", 1, "flaky")] * 2
        assert (await steps_of(process, 1))[0].result == [1]
        assert (await process.expect(Complete)).output == [1]
        process.execute(9, own=own, execution_id="x2")
        (step,) = await steps_of(process, 1)
        assert step.result["message"].startswith("tool 'flaky' failed: ValueError: not yet (author.py:")
        assert (await process.expect(Fail)).code == "E2001"


@pytest.mark.parametrize("kind", ["def", "async def", "stubborn"])
async def test_a_tool_that_takes_too_long(kind: str, tmp_path: Path) -> None:
    """Whether or not it heeds that; and others go on meanwhile."""
    source = (
        OWN_TOOLS
        + """
@agent.tool(idempotent=True)
def stuck_def(): time.sleep(600)
@agent.tool(idempotent=True)
async def stuck_async(): await asyncio.sleep(600)
@agent.tool(idempotent=True)
async def stubborn():
    while True:
        try: await asyncio.sleep(600)
        except asyncio.CancelledError: pass
@agent.on_message
async def handle(ctx, message):
    try: await ctx.tool({"def": "stuck_def", "async def": "stuck_async"}.get(message, message))
    except ToolError as error: return [error.code, error.name, error.message, await ctx.tool("add", a=1)]
"""
    )
    async with agent(source, tmp_path) as process:
        process.execute(kind, own=replace(OWN, tool_timeout_seconds=0.5, max_concurrent_tools=1))
        steps = await steps_of(process, 2)
        output = (await process.expect(Complete)).output
        status, _, _ = await process.shut_down()
    assert steps[0].result == {"code": "E2002", "message": output[2]}
    assert output[:2] == ["E2002", "TOOL_TIMEOUT"]
    assert output[2].endswith("did not answer within 0.5 s (tool_timeout_seconds)")
    assert output[3] == 2
    assert status == 0


async def test_so_many_tools_at_once(tmp_path: Path) -> None:
    source = (
        OWN_TOOLS
        + """
running, most = 0, 0
lock, three = threading.Lock(), threading.Barrier(3)
@agent.tool(idempotent=True)
def work(n: int) -> int:
    global running, most
    with lock:
        running += 1
        most = max(most, running)
    if n < 3: three.wait(20)
    with lock: running -= 1
    return n
@agent.on_message
async def handle(ctx, message):
    return [sum(await asyncio.gather(*(ctx.tool("work", n=n) for n in range(40)))), most]
"""
    )
    async with agent(source, tmp_path) as process:
        process.execute(own=replace(OWN, max_concurrent_tools=3))
        steps = await steps_of(process, 40)
        output = (await process.expect(Complete)).output
    assert sorted(step.call for step in steps) == list(range(1, 41))
    assert output[0] == sum(range(40))
    assert output[1] == 3


async def test_tools_get_to_clean_up_when_the_process_is_to_end(tmp_path: Path) -> None:
    source = (
        OWN_TOOLS
        + """
@agent.tool(idempotent=True)
async def endless():
    try: await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.01)
        print("cleaned up")
@agent.on_message
async def handle(ctx, message): await ctx.tool("endless")
"""
    )
    async with agent(source, tmp_path) as process:
        process.execute(own=OWN)
        await process.expect(Begin)
        status, printed, _ = await process.shut_down()
    assert (status, printed) == (0, "cleaned up\n")


async def test_tools_that_nobody_waits_for_any_more_end_with_the_execution(tmp_path: Path) -> None:
    source = (
        OWN_TOOLS
        + """
@agent.tool(idempotent=True)
async def endless():
    try: await asyncio.Event().wait()
    finally: print("cleaned up")
@agent.on_message
async def handle(ctx, message):
    asyncio.create_task(ctx.tool("endless"))
    return await ctx.tool("there")
"""
    )
    async with agent(source, tmp_path) as process:
        for number in ("x1", "x2"):
            process.execute(own=OWN, execution_id=number)
            messages = [await process.receive(), await process.receive()]
            (call,) = [message for message in messages if isinstance(message, Call)]
            process.send(ok(call, "said"))
            assert await process.expect(Complete) == Complete(number, "said")
        status, printed, _ = await process.shut_down()
    assert (status, printed) == (0, "cleaned up\n" * 2)
