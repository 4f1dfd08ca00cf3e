"""However much an agent says at once, the node's event loop is never held for long: others are served meanwhile."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import signal
import time
import uuid
from asyncio.events import Handle
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import msgspec
import pytest

from l02.bus.wire.codec import RecordedEvent
from l02.client.client import Client
from l02.domain.agent.work.effects import EffectRecorded, ToolCalled
from l02.domain.errors import ErrorCode, Failure
from l02.domain.weight import MAX_WEIGHT
from tests.runtime.conftest import history, pid_of, talker, until
from tests.tools.conftest import landlock_only
from tests.tools.hostile import encoded, hostile_server

TRIES = 3
EFFECTS = 1500
LONGEST_SECONDS = 0.1
"""Of the loop's own processor time, so that another load on the machine does not count."""

MANY = {
    "empty lists": ("$([]*5000000)", ErrorCode.PAYLOAD_TOO_LARGE),
    "lists, just as many as may be": (f"$([]*{MAX_WEIGHT // 11 - 10})", None),
    "empty objects": ("$({}*5000000)", ErrorCode.PAYLOAD_TOO_LARGE),
    "numbers": ("$(1*7000000)", ErrorCode.PAYLOAD_TOO_LARGE),
    "numbers, just as many as may be": (f"$(1*{MAX_WEIGHT - 100})", None),
    "short texts": ('$("a"*3900000)', ErrorCode.PAYLOAD_TOO_LARGE),
    "keys": ("{$KEYS(1200000)}", ErrorCode.PAYLOAD_TOO_LARGE),
    "keys, just as many as may be": (f"{{$KEYS({MAX_WEIGHT // 5 - 10})}}", None),
    "one long text": ('"' + "$([{:*3700000)" + '"', ErrorCode.PAYLOAD_TOO_LARGE),
    "text that looks like values": ('"' + "$([*400000)" + '"', None),
    "long numbers": ("$(" + "1" * 4000 + "*3700)", ErrorCode.PAYLOAD_TOO_LARGE),
}


def line(type: str, **fields: Any) -> str:
    """A message; a text that begins with `$(` or `{$` in it stands for as many values as the talker makes of it."""
    said = json.dumps({"type": type, "execution_id": "$ID"} | fields)
    return re.sub(r'"(\$\(.*?\*\d+\)|\{\$KEYS\(\d+\)\})"', lambda many: json.loads(many[0]), said)


def call(number: int = 1, kind: str = "tool", **fields: Any) -> list[str]:
    """A call, and its answer is waited for."""
    return [line("call", call=number, kind=kind, **fields), "$WAIT"]


def hello(**fields: Any) -> str:
    return line("hello", protocol=1, **{"name": "t", "tools": []} | fields)


LISTS = f"$([]*{MAX_WEIGHT // 11 - 50})"
KEYS = f"{{$KEYS({MAX_WEIGHT // 5 - 50})}}"
TEXT = 'x$("*5000000)'  # each character of it is escaped
END = line("complete", output="end")
HELLO = hello(tools=[{"name": "own", "description": "d", "schema": {"type": "object"}, "idempotent": True}])
TELLS_STEPS = json.dumps(json.loads(HELLO) | {"records_steps": True})
OWN = call(tool="own", arguments={})
STEP = {"kind": "tool", "after": 0, "tool": "own", "arguments": {}, "result": 1}
STEPS = {
    "one heavy message after the other": [
        line("steps", steps=[STEP | {"call": number, "arguments": {"a": [LISTS]}}]) for number in range(1, 13)
    ],
    "many in a message": [line("steps", steps=[STEP | {"call": number} for number in range(1, 5001)])],
    "many messages": [line("steps", steps=[STEP | {"call": number}]) for number in range(1, 2001)],
}

AT_WORK: dict[str, tuple[list[list[str]], ErrorCode | None]] = {
    "arguments": ([[*call(tool="absent", arguments={"a": [LISTS]}), END]], None),
    "arguments that are checked": ([[*call(tool="own", arguments={"a": [LISTS]}), END]], None),
    "arguments that are too many": ([call(tool="own", arguments={"a": ["$([]*100000)"]})], ErrorCode.PAYLOAD_TOO_LARGE),
    "result": ([[*OWN, line("tool_result", call=1, ok=True, result=[LISTS]), "$WAIT", END]], None),
    "error": ([[*OWN, line("tool_result", call=1, ok=False, error={"message": TEXT}), "$WAIT", END]], None),
    "state": ([[line("complete", output=1, state={"set": {"k": [LISTS]}})], [END]], None),
    "keys of the state": ([[line("complete", output=1, state={"set": KEYS})], [END]], None),
    "keys that are deleted": (
        [
            [line("complete", output=1, state={"set": KEYS})],
            [line("complete", output=1, state={"delete": ['$("a"*190000)']})],
        ],
        None,
    ),
    "state of a checkpoint": ([[*call(kind="checkpoint", label=None, state={"set": {"k": [LISTS]}}), END]], None),
    "keys of a checkpoint": ([[*call(kind="checkpoint", label=None, state={"set": KEYS}), END]], None),
    "name of a signal": ([[*call(kind="signal", name=TEXT, timeout=0), END]], None),
    "piece of a stream": ([[line("emit", n=0, delta=TEXT), END]], None),
    "failure": ([[line("fail", message=TEXT)]], ErrorCode.EXECUTION_FAILED),
    "code of a failure": ([[line("fail", message="m", code=TEXT, name="n")]], ErrorCode.EXECUTION_FAILED),
    "unknown type": ([[line(TEXT)]], ErrorCode.RESTART_LIMIT_EXCEEDED),
    "empty lines": ([["$LINES(*1000000)"]], ErrorCode.RESTART_LIMIT_EXCEEDED),
    "pongs": ([['$LINES({"type":"pong"}*100000)', END]], None),
}
TOOL = {"name": "t", "description": "d" * 9000, "schema": {"a": "b" * 20_000}}
AT_FIRST: dict[str, tuple[str, ErrorCode | None]] = {
    "tools": (hello(tools=[f"$({json.dumps(TOOL)}*500)"]), None),
    "too many tools": (hello(tools=["$({}*40000)"]), ErrorCode.RESTART_LIMIT_EXCEEDED),
    "a schema": (hello(tools=[TOOL | {"schema": {"a": [LISTS]}}]), ErrorCode.RESTART_LIMIT_EXCEEDED),
    "its name": (hello(name=TEXT), None),
    "why it cannot be loaded": (line("load_failed", message=TEXT), ErrorCode.SPAWN_FAILED),
    "empty lines": ("$LINES(*1000000)", ErrorCode.RESTART_LIMIT_EXCEEDED),
}
RESULT = b'{"jsonrpc": "2.0", "id": @ID@, "result": '
MANY_LISTS = b"[@([]*%d)@]" % (MAX_WEIGHT // 11 - 50)
SERVERS: dict[str, tuple[bytes, tuple[bool, int]]] = {
    # what is said, whether the call succeeds by it, how long its value is (three if that is a reference)
    "values, and their text": (
        RESULT
        + b'{"structuredContent": %b, "content": [{"type": "text", "text": "%b"}]}}\n' % (MANY_LISTS, MANY_LISTS),
        (True, MAX_WEIGHT // 11 - 50),
    ),
    "half a pair among many": (RESULT + b'{"structuredContent": [%b, "\\ud800"]}}\n' % MANY_LISTS, (True, 2)),
    "many halves": (RESULT + b'{"content": [{"type": "text", "text": "@(\\ud800*500000)@"}]}}\n', (True, 3)),
    "too many halves": (RESULT + b'{"content": [{"type": "text", "text": "@(\\ud800*1000000)@"}]}}\n', (False, 2)),
    "a batch": (b"[@({}*2700000)@]\n", (True, 4)),
    "an error": (
        RESULT.replace(b"result", b"error") + b'{"code": 1, "message": %b, "data": 1}}\n' % MANY_LISTS,
        (False, 3),
    ),
}


@contextmanager
def longest_step(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The processor time of the loop's longest step so far, in seconds."""
    longest = [0.0]
    run = Handle._run

    def timed(handle: Handle) -> None:
        began = time.thread_time()
        run(handle)
        longest[0] = max(longest[0], time.thread_time() - began)

    gc.freeze()  # what the tests hold is not the node's to look through
    try:
        with monkeypatch.context() as patched:
            patched.setattr(Handle, "_run", timed)
            yield longest
    finally:
        gc.unfreeze()


@contextmanager
def without_what_others_left() -> Iterator[None]:
    """What earlier tests have left in this process is no part of a node, and is not searched for garbage."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def require_short_steps(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[None]]) -> None:
    """While `act` is under way, the loop is held for no longer than it may be."""
    took = []
    for _ in range(TRIES):  # what else runs on the machine only adds to it
        with without_what_others_left(), longest_step(monkeypatch) as longest:
            await act()
        took += longest
        if took[-1] <= LONGEST_SECONDS:
            return
    raise AssertionError(f"the loop was held for {min(took):.3f} s")


@asynccontextmanager
async def large_talker(client: Client, **more: Any) -> AsyncIterator[str]:
    """An agent that may say much, and has a tool of its own."""
    specification = talker(HELLO) | {"executor": {"context_window_tokens": 10_000_000}} | more
    agent_id = (await client.spawn(specification, id=uuid.uuid4().hex)).agent_id
    yield agent_id
    with suppress(Failure):  # some have ended by themselves
        await client.terminate(agent_id, force=True)


async def outcome(client: Client, agent_id: str, said: list[str]) -> ErrorCode | None:
    try:
        await client.execute(agent_id, said)
    except Failure as failure:
        return failure.code
    return None


@pytest.mark.parametrize("what", MANY)
async def test_an_output_of_many_values(client: Client, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    values, code = MANY[what]
    async with large_talker(client) as agent_id:

        async def act() -> None:
            assert await outcome(client, agent_id, [line("complete", output=[values])]) == code

        await require_short_steps(monkeypatch, act)


@pytest.mark.parametrize("what", AT_WORK)
async def test_whatever_an_agent_says_at_work(client: Client, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    executions, code = AT_WORK[what]

    async def act() -> None:
        async with large_talker(client) as agent_id:
            for said in executions[:-1]:
                assert await outcome(client, agent_id, said) is None
            assert await outcome(client, agent_id, executions[-1]) == code

    await require_short_steps(monkeypatch, act)


@pytest.mark.parametrize("what", STEPS)
async def test_whatever_an_agent_does_itself(client: Client, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    async def act() -> None:
        async with large_talker(client, **talker(TELLS_STEPS)) as agent_id:
            assert await outcome(client, agent_id, [*STEPS[what], END]) is None

    await require_short_steps(monkeypatch, act)


@pytest.mark.parametrize("what", AT_FIRST)
async def test_whatever_an_agent_says_at_first(client: Client, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    said, code = AT_FIRST[what]

    async def act() -> None:
        agent_id = uuid.uuid4().hex
        try:
            await client.spawn(talker(said), id=agent_id)
        except Failure as failure:
            assert failure.code == code
            return
        assert code is None
        assert await outcome(client, agent_id, [*call(tool="t", arguments={}), END]) is None
        await client.terminate(agent_id, force=True)

    await require_short_steps(monkeypatch, act)


@landlock_only
@pytest.mark.parametrize("what", SERVERS)
async def test_whatever_a_tool_server_answers(client: Client, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    raw, expected = SERVERS[what]
    server = msgspec.to_builtins(hostile_server("stalls"))

    async def act() -> None:
        async with large_talker(client, tools={"bad": server}) as agent_id:
            answered = call(tool="bad.say", arguments={"raw": encoded(raw)})
            assert await outcome(client, agent_id, [*answered, END]) is None
            [called] = [event for event in await history(client, agent_id) if isinstance(event, ToolCalled)]
            assert (called.ok, len(called.result)) == expected

    await require_short_steps(monkeypatch, act)


@landlock_only
async def test_a_tool_server_with_many_tools(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    server = msgspec.to_builtins(hostile_server("stalls-list"))
    tools = RESULT + b'{"tools": [@({"name": "x", "inputSchema": {}}*16000)@]}}\n'

    async def act() -> None:
        async with large_talker(client, tools={"bad": server}) as agent_id:
            relisted = call(tool="bad.relist", arguments={"raw": encoded(tools)})
            assert await outcome(client, agent_id, [*relisted, *call(2, tool="bad.x", arguments={}), END]) is None
            calls = [event for event in await history(client, agent_id) if isinstance(event, ToolCalled)]
            assert calls[1].ok

    await require_short_steps(monkeypatch, act)


async def test_a_state_that_grows(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It never gets too large to be handed to an execution: what would make it so is refused."""

    async def act() -> None:
        async with large_talker(client) as agent_id:
            for values in ("x$(a*2000000)", ["$([]*15000)"]):
                codes = []
                for key in "abcd":
                    said = line("complete", output=1, state={"set": {key: values}})
                    codes.append(await outcome(client, agent_id, [said]))
                assert codes == [None, None, None, ErrorCode.PAYLOAD_TOO_LARGE]
                cleared = line("complete", output=1, state={"delete": [*"abc"]})
                assert await outcome(client, agent_id, [cleared]) is None

    await require_short_steps(monkeypatch, act)


async def test_a_checkpoint_of_a_large_state(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async with large_talker(client) as agent_id:
        text = line("complete", output=1, state={"set": {"text": "$BIG$BIG"}, "delete": []})
        keys = line("complete", output=1, state={"set": "{$KEYS(90000)}", "delete": []})
        for said in (text, keys):
            assert await outcome(client, agent_id, [said]) is None

        async def act() -> None:
            assert (
                await outcome(client, agent_id, [line("complete", output=1, state={"set": {"n": time.time()}})]) is None
            )
            await client.checkpoint(agent_id)

        await require_short_steps(monkeypatch, act)


async def test_a_long_journal_is_replayed(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    lifecycle = {"restart_delay_seconds": [0.05], "max_restart_count": 5}
    async with large_talker(client, lifecycle=lifecycle) as agent_id:
        said = [line("call", call=number, kind="now") for number in range(1, EFFECTS + 1)] + ["$WAIT"] * EFFECTS
        for number in range(TRIES + 1):
            said += call(EFFECTS + 1 + number, kind="signal", name=f"go{number}", timeout=None)
        work = asyncio.create_task(client.execute(agent_id, said))

        async def reached(number: int) -> None:
            def waits(seen: RecordedEvent) -> bool:
                return isinstance(seen.event, EffectRecorded) and seen.event.request.get("name") == f"go{number}"

            await until(client, agent_id, waits, timeout=60)

        await reached(0)
        numbers = iter(range(TRIES))

        async def act() -> None:
            number = next(numbers)
            os.kill(await pid_of(client, agent_id), signal.SIGKILL)
            await client.signal(agent_id, f"go{number}")
            await reached(number + 1)  # so all before it has been asked for again, and answered

        await require_short_steps(monkeypatch, act)
        work.cancel()
