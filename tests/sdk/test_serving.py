"""An agent's process from hello to its end: executions, calls, tools, streaming, failures."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from l02.bus.wire.agent.protocol import (
    Call,
    Complete,
    Emit,
    Execute,
    Fail,
    Hello,
    RunTool,
    Shutdown,
    StateChanges,
    ToolFailure,
    ToolResult,
)
from tests.sdk.harness import agent, agent_process, failed, ok

HEAD = """
import asyncio, sys, threading, time
from l02.agent import Agent, ToolError
agent = Agent("tester")
"""


async def test_hello_says_what_the_agent_offers(tmp_path: Path) -> None:
    (tmp_path / "author.py").write_text(
        HEAD
        + """
@agent.tool(idempotent=True)
def add(a: int, b: int = 2) -> int:
    '''Adds.'''
    return a + b
@agent.on_message
async def handle(ctx, message): return None
"""
    )
    async with agent_process({"entrypoint": str(tmp_path / "author.py")}, tmp_path) as process:
        hello = await process.expect(Hello)
    assert (hello.protocol, hello.name) == (1, "tester")
    assert hello.answers_pings
    assert hello.records_steps
    (tool,) = hello.tools
    assert (tool.name, tool.description, tool.idempotent) == ("add", "Adds.", True)
    assert tool.schema["properties"] == {"a": {"type": "integer"}, "b": {"type": "integer", "default": 2}}
    assert tool.schema["required"] == ["a"]


async def test_one_execution_after_another(tmp_path: Path) -> None:
    source = HEAD + "@agent.on_message\nasync def handle(ctx, message): return [ctx.execution_id, message]\n"
    async with agent(source, tmp_path) as process:
        process.execute("one", execution_id="x1")
        assert await process.expect(Complete) == Complete("x1", ["x1", "one"])
        process.execute({"two": None}, execution_id="x2")
        assert await process.expect(Complete) == Complete("x2", ["x2", {"two": None}])
        assert await process.shut_down() == (0, "", "")


async def test_every_kind_of_call_and_its_answer(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
@agent.on_message
async def handle(ctx, message):
    now = await ctx.now()
    assert now.utcoffset().total_seconds() == 0
    return [await ctx.tool("t", name="n", b=[1]), now.isoformat(), await ctx.random(),
            await ctx.sleep(2), await ctx.wait_for_signal("s"), await ctx.wait_for_signal("s", timeout=3)]
"""
    )
    async with agent(source, tmp_path) as process:
        process.execute()
        time = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
        wanted = [
            (Call("x1", 1, "now"), time.timestamp()),
            (Call("x1", 2, "tool", tool="t", arguments={"name": "n", "b": [1]}), {"r": 1}),
            (Call("x1", 3, "random"), 0.25),
            (Call("x1", 4, "sleep", seconds=2.0), None),
            (Call("x1", 5, "signal", name="s", timeout=None), {"by": "me"}),
            (Call("x1", 6, "signal", name="s", timeout=3.0), None),
        ]
        for call, result in wanted:
            assert await process.expect(Call) == call
            process.send(ok(call, result))
        done = await process.expect(Complete)
    assert done.output == [{"r": 1}, time.isoformat(), 0.25, None, {"by": "me"}, None]


async def test_a_failed_call_is_raised_and_can_be_caught(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
@agent.on_message
async def handle(ctx, message):
    try:
        await ctx.tool("t")
    except ToolError as error:
        return [error.code, error.name, error.message]
"""
    )
    async with agent(source, tmp_path) as process:
        process.execute()
        process.send(failed(await process.expect(Call), "gone", "E2002"))
        assert (await process.expect(Complete)).output == ["E2002", "TOOL_INVOCATION_FAILED", "gone"]


async def test_a_failed_call_that_is_not_caught_keeps_its_code(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
@agent.on_message
async def handle(ctx, message):
    if message == "alone":
        await ctx.tool("t")
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.tool("t"))
"""
    )
    async with agent(source, tmp_path) as process:
        for message in ("alone", "group"):
            process.execute(message)
            process.send(failed(await process.expect(Call), "gone", "E2003"))
            fail = await process.expect(Fail)
            assert fail.code == "E2003"
            assert "ToolError: E2003 TOOL_INVOCATION_FAILED: gone (author.py:" in fail.message


async def test_yielded_text_is_streamed_and_is_the_output(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
@agent.on_message
async def handle(ctx, message):
    yield "a"
    ctx.emit("[side]")
    yield ""
    yield str(await ctx.tool("t"))
"""
    )
    async with agent(source, tmp_path) as process:
        process.execute()
        assert await process.expect(Emit) == Emit("x1", 0, "a")
        assert await process.expect(Emit) == Emit("x1", 1, "[side]")
        process.send(ok(await process.expect(Call), "é"))
        assert await process.expect(Emit) == Emit("x1", 2, "é")
        assert await process.expect(Complete) == Complete("x1", "aé", StateChanges())


async def test_a_reader_that_is_slow_holds_up_the_generator(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
@agent.on_message
async def handle(ctx, message):
    for n in range(200):
        print(n)
        yield "x" * 100_000
"""
    )
    async with agent(source, tmp_path) as process:
        process.execute()
        assert process.process.stdout is not None
        printed = 0
        for _ in range(200):
            # The agent may run ahead of its reader by what the socket and the transport hold, not by 20 MB.
            emitted = await process.expect(Emit)
            while printed <= emitted.n:
                printed = int(await process.process.stdout.readline()) + 1
        assert (await process.end()).execution_id == "x1"


async def test_failures_say_what_and_where(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
class Odd(Exception):
    def __str__(self): raise RuntimeError("no")
def helper(): return {}["missing"]
@agent.on_message
async def handle(ctx, message):
    match message:
        case "key": helper()
        case "lib": import json; json.loads("{")
        case "exit": sys.exit(3)
        case "memory": raise MemoryError
        case "output": return object()
        case "nan": return [float("nan")]
        case "large": return "a" * 17_000_000
        case "argument": await ctx.tool("t", a=object())
        case "tool name": await ctx.tool(3)
        case "sleep": await ctx.sleep(float("inf"))
        case "emit": ctx.emit(3)
        case "surrogate": raise ValueError("\\ud800")
        case "odd": raise Odd
        case "long": raise ValueError("a" * 20_000)
        case "cancelled": raise asyncio.CancelledError
        case "state": ctx.state["when"] = (1, 2)
        case "late": ctx.state["when"] = []; ctx.state["when"].append({1})
        case "task": await asyncio.create_task(leave())
async def leave(): sys.exit(4)
"""
    )
    line = {text: number for number, text in enumerate(source.splitlines(), 1)}
    here = next(number for text, number in line.items() if "def helper" in text)
    wanted = {
        "key": f"KeyError: 'missing' (author.py:{here})",
        "lib": "JSONDecodeError: Expecting property name",
        "exit": "SystemExit: 3 (author.py:",
        "memory": "MemoryError: the agent reached its memory limit (resource_limits.memory) (author.py:",
        "output": "TypeError: the output is not a JSON value",
        "nan": "TypeError: the output is not a JSON value: Out of range float",
        "large": "16 MiB",
        "argument": "TypeError: t's argument 'a' is not a JSON value",
        "tool name": "TypeError: a tool's name is text, not int",
        "sleep": "ValueError: seconds must be a finite number",
        "emit": "TypeError: ctx.emit streams text, not int",
        "surrogate": "ValueError: \\ud800 (author.py:",
        "odd": "Odd: <its text cannot be made: RuntimeError>",
        "long": "ValueError: aaaa",
        "cancelled": "CancelledError",
        "state": "TypeError: ctx.state['when'] would be read back as another value",
        "late": "TypeError: ctx.state['when'] would be read back as another value",
        "task": "SystemExit: 4 (author.py:",
    }
    async with agent(source, tmp_path) as process:
        for message, text in wanted.items():
            fail = await process.run(message)
            assert isinstance(fail, Fail), (message, fail)
            assert text in fail.message, message
            assert len(fail.message) < 10_000
        assert isinstance(await process.run("nothing"), Complete)  # it is still of use
        status, _, log = await process.shut_down()
    assert status == 0
    assert "Traceback" in log
    assert "in helper" in log


async def test_an_agent_at_its_memory_limit_says_so_and_goes_on(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
import resource
@agent.on_message
async def handle(ctx, message):
    resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
    hoard = []
    while message == "hoard":
        hoard.append(bytearray(1 << 20))
"""
    )
    async with agent(source, tmp_path) as process:
        fail = await process.run("hoard")
        assert isinstance(fail, Fail)
        assert "memory limit (resource_limits.memory) (author.py:12)" in fail.message
        assert isinstance(await process.run("be modest"), Complete)


async def test_a_generator_that_yields_no_text_fails(tmp_path: Path) -> None:
    source = HEAD + "@agent.on_message\nasync def handle(ctx, message):\n    yield 3\n"
    async with agent(source, tmp_path) as process:
        fail = await process.run()
    assert isinstance(fail, Fail)
    assert "the handler yielded int: it yields text" in fail.message


async def test_own_tools_sync_and_async(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
@agent.tool
def where(a: int) -> list: return [a, threading.current_thread() is threading.main_thread()]
@agent.tool
async def there(a: int) -> list: return [a, threading.current_thread() is threading.main_thread()]
@agent.tool
def broken(): raise KeyError("k")
@agent.tool
def leaves(): sys.exit(1)
@agent.tool
async def gives_up(): raise asyncio.CancelledError
@agent.tool
def stops(): raise StopIteration("s")
@agent.tool
def large(): return "a" * 17_000_000
@agent.tool
def odd(): return object()
@agent.on_message
async def handle(ctx, message): await ctx.tool("any")
"""
    )
    wanted: dict[str, object] = {
        "where": [1, False],
        "there": [1, True],
        "broken": "KeyError: 'k' (author.py:",
        "leaves": "SystemExit: 1 (author.py:",
        "gives_up": "CancelledError",
        "stops": "StopIteration: s",
        "large": "the result of large is too large",
        "odd": "the result of odd is not a JSON value",
        "nothing": "tester has no tool 'nothing'; it has: where, there, broken",
    }
    async with agent(source, tmp_path) as process:
        process.execute()
        await process.expect(Call)
        for tool, result in wanted.items():
            process.send(RunTool("x1", 1, tool, {"a": 1} if tool in ("where", "there") else {}))
            answer = await process.expect(ToolResult)
            if answer.ok:
                assert answer.result == result
            else:
                assert isinstance(answer.error, ToolFailure)
                assert str(result) in answer.error.message
        for arguments, text in (
            ({"a": "1"}, "Expected `int`, got `str` - at `$.a`"),
            ({}, "missing required field `a`"),
            ({"a": 1, "b": 2}, "unknown field `b`"),
        ):
            process.send(RunTool("x1", 1, "where", arguments))
            answer = await process.expect(ToolResult)
            assert isinstance(answer.error, ToolFailure)
            assert text in answer.error.message


async def test_a_tool_that_computes_leaves_the_agent_able_to_listen(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
@agent.tool
def spin():
    print("spinning")
    while True: pass
@agent.on_message
async def handle(ctx, message): await ctx.tool("spin")
"""
    )
    async with agent(source, tmp_path) as process:
        process.execute()
        await process.expect(Call)
        process.send(RunTool("x1", 1, "spin", {}))
        assert process.process.stdout is not None
        assert await process.process.stdout.readline() == b"spinning\n"
        status, _, _ = await process.shut_down()
    assert status == 0


async def test_a_result_for_an_execution_that_ended_is_not_sent(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
gate = threading.Event()
@agent.tool
def wait(): gate.wait()
@agent.on_message
async def handle(ctx, message):
    if message == "open":
        gate.set()
        return "opened"
    await ctx.tool("wait")
"""
    )
    async with agent(source, tmp_path) as process:
        process.execute("first")
        call = await process.expect(Call)
        process.send(RunTool("x1", 1, "wait", {}), failed(call, "timed out", "E2002"))
        assert (await process.expect(Fail)).code == "E2002"
        process.execute("open", execution_id="x2")
        assert (await process.expect(Complete)).output == "opened"
        process.send(Execute("x3", "open", {}))
        assert (await process.expect(Complete)).execution_id == "x3"
        process.send(Shutdown())
        assert await process.reader.read() == b""
