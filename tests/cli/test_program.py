"""The program as a process: what it loads, how it ends, what it prints where."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from l02.bus.connection.bus import Bus
from l02.bus.embedded import DataDirectory, EmbeddedNats
from l02.domain.agent.work.signals import SignalReceived
from tests.cli.conftest import REQUESTED, Append
from tests.forked_cli import forked_cli
from tests.projections.history import steps_recorded

pytestmark = pytest.mark.usefixtures("bus")
SIGNAL = SignalReceived(name="go", payload="x" * 1000)


@asynccontextmanager
async def program(server: EmbeddedNats | None, *words: str, stdout: int = PIPE) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "l02.cli", *words), stdout=stdout, stderr=PIPE, env=_environment(server)
    )
    try:
        async with asyncio.timeout(30):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def said(server: EmbeddedNats | None, *words: str) -> tuple[int, bytes, bytes]:
    """Exit code, output and errors of a command; for tests of what it says only."""
    code, printed, errors = await forked_cli(*words, environment=_environment(server))
    return code, printed.encode(), errors.encode()


def _environment(server: EmbeddedNats | None) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("L02_")}
    return inherited if server is None else inherited | {"L02_NATS_URL": server.url}


async def lines(process: Process, count: int) -> list[bytes]:
    assert process.stdout
    return [await process.stdout.readline() for _ in range(count)]


async def test_help_loads_nothing_that_takes_its_time() -> None:
    heavy = ["asyncio", "asyncpg", "msgspec", "nats", "rich", "structlog", "yaml", "bus", "domain"]
    code = f"""
import sys
from typer.testing import CliRunner
before = set(sys.modules)
from l02.cli import app
assert CliRunner().invoke(app, ["--help"]).exit_code == 0
print(*(set({heavy}) & (set(sys.modules) - before)))
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=PIPE)
    printed, _ = await process.communicate()
    assert (process.returncode, printed) == (0, b"\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_ends_it_quietly(fresh_nats: EmbeddedNats, append: Append, number: int, code: int) -> None:
    await append("a1", REQUESTED)
    async with program(fresh_nats, "events", "--follow") as process:
        await lines(process, 1)
        process.send_signal(number)
        _, errors = await process.communicate()
        assert (process.returncode, errors) == (code, b"")


async def test_a_reader_that_has_seen_enough(fresh_nats: EmbeddedNats, append: Append) -> None:
    # More than a pipe holds, so that the program still writes when nobody reads any more.
    await append("a1", *[SIGNAL] * 500)
    reading, writing = os.pipe()
    async with program(fresh_nats, "events", stdout=writing) as process:
        os.close(writing)
        assert await asyncio.to_thread(os.read, reading, 100)
        os.close(reading)
        assert process.stderr
        assert await process.stderr.read() == b""
        assert await process.wait() == 0


async def test_events_for_programs_and_for_people(fresh_nats: EmbeddedNats, append: Append) -> None:
    await append("a1", REQUESTED, SIGNAL)
    code, printed, errors = await said(fresh_nats, "events", "a1", "--json")
    assert (code, errors) == (0, b"")
    events = [json.loads(line) for line in printed.splitlines()]
    assert [(event["sequence"], event["type"]) for event in events] == [
        (1, "agent.spawn.requested"),
        (2, "agent.signal.received"),
    ]
    assert events[1]["data"] == {"name": "go", "payload": "x" * 1000}
    code, printed, errors = await said(fresh_nats, "events", "--type", "agent.signal.*")
    assert printed.count(b"\n") == 1
    assert b"agent.signal.received" in printed
    assert b"x" * 1000 in printed
    assert (code, errors) == (0, b"")


async def test_each_step_of_an_agents_own_is_a_line_for_people(fresh_nats: EmbeddedNats, append: Append) -> None:
    await append("a1", REQUESTED, steps_recorded("x1", 1))
    code, printed, errors = await said(fresh_nats, "events", "--type", "agent.steps.recorded")
    shown = [line.split(b"agent.steps.recorded")[1].strip() for line in printed.splitlines()]
    assert [json.loads(line) for line in shown] == [
        {"execution_id": "x1", "call": 1, "kind": "tool", "after": 0, "tool": "count_words",
         "arguments": {"text": "x"}, "result": 1},
        {"execution_id": "x1", "call": 2, "kind": "now", "after": 0, "result": 1000.5},
        {"execution_id": "x1", "call": 3, "kind": "tool", "after": 0, "tool": "count_words", "arguments": {},
         "ok": False, "result": {"code": "E2002", "message": "no answer within 1 s"}},
        {"execution_id": "x1", "call": 1, "kind": "thread", "after": 0},
    ]  # fmt: skip
    assert (code, errors) == (0, b"")


async def test_events_of_a_type_since_a_point(fresh_nats: EmbeddedNats, append: Append) -> None:
    await append("a1", REQUESTED, SIGNAL)
    began = datetime.now(UTC)
    await append("a1", REQUESTED, SIGNAL)
    await append("a2", SIGNAL)

    async def sequences(*words: str) -> list[int]:
        code, printed, errors = await said(fresh_nats, "events", "--json", *words)
        assert (code, errors) == (0, b"")
        return [json.loads(line)["sequence"] for line in printed.splitlines()]

    assert await sequences("--since", "3") == [3, 4, 5]
    assert await sequences("--since", "3", "--type", "agent.signal.received") == [4, 5]
    assert await sequences("a1", "--since", "2", "--type", "agent.signal.*") == [2, 4]
    assert await sequences("--since", began.isoformat()) == [3, 4, 5]
    assert await sequences("--since", began.astimezone(timezone(timedelta(hours=9))).isoformat()) == [3, 4, 5]
    assert await sequences("--since", "1h", "--type", "agent.spawn.requested") == [1, 3]
    assert await sequences("--since", "6") == []
    for words, told in ((["--since", "yesterday"], b"a duration (10m)"), (["--type", "agent.born"], b"E2110")):
        code, printed, errors = await said(fresh_nats, "events", *words)
        assert (code != 0, printed, told in errors) == (True, b"", True)


async def test_the_data_directory_leads_to_the_server(fresh_nats: EmbeddedNats, append: Append, tmp_path: Path) -> None:
    await append("a1", REQUESTED)
    with DataDirectory(tmp_path / "data") as directory:
        directory.write_runtime_file({"nats_url": fresh_nats.url})
        code, printed, errors = await said(None, "events", "--data-dir", str(directory.path))
    assert (code, errors) == (0, b"")
    assert b"agent.spawn.requested" in printed


async def test_an_event_of_a_newer_version(fresh_nats: EmbeddedNats, bus: Bus) -> None:
    await bus.jetstream.publish("l02.evt.agent.a1.cloned", b"{}")
    code, printed, errors = await said(fresh_nats, "events")
    assert (code, errors) == (0, b"")
    assert b"sequence 1 is not a CloudEvent of this runtime" in printed
    assert printed.count(b"\n") == 1


async def test_a_command_waits_for_a_node_that_is_down(fresh_nats: EmbeddedNats, bus: Bus) -> None:
    commands = await bus.jetstream.subscribe("l02.cmd.>", ordered_consumer=True)
    async with program(fresh_nats, "signal", "a1", "go", '{"by": "Ada"}', "--json") as process:
        command = await commands.next_msg(timeout=20)
        assert command.subject == "l02.cmd.agent.a1.signal"
        assert json.loads(command.data) == {"name": "go", "payload": {"by": "Ada"}}
        assert command.headers
        command_id = command.headers["Nats-Msg-Id"]
        assert command.headers["L02-Actor"]
        outcome = {"command_id": command_id, "ok": True, "subject": "agent/a1", "version": 2, "events": ["x"]}
        await bus.jetstream.publish(f"l02.out.{command_id}", json.dumps(outcome).encode())
        printed, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert json.loads(printed) == outcome


async def test_a_command_that_is_refused(fresh_nats: EmbeddedNats, bus: Bus) -> None:
    commands = await bus.jetstream.subscribe("l02.cmd.>", ordered_consumer=True)
    async with program(fresh_nats, "exec", "a1", "hello") as process:
        command = await commands.next_msg(timeout=20)
        assert command.headers
        command_id = command.headers["Nats-Msg-Id"]
        error = {"code": "E2112", "name": "INVALID_STATE", "message": "cannot\nexecute"}
        outcome = {"command_id": command_id, "ok": False, "error": error}
        headers = {"L02-Command-Sequence": str(command.metadata.sequence.stream)}
        await bus.jetstream.publish(f"l02.out.{command_id}", json.dumps(outcome).encode(), headers=headers)
        printed, errors = await process.communicate()
    assert (process.returncode, printed, errors) == (1, b"", b"E2112 INVALID_STATE: cannot execute\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("terminate", "a1", "--reason", "drain", "--force"), {"reason": "drain", "force": True}),
        (("suspend", "a1", "--no-checkpoint"), {"reason": "user_request", "checkpoint": False}),
        (("signal", "a1", "approve"), {"name": "approve", "payload": True}),
        (("spawn", "agent.json", "--state", '{"seen": 41}'), {"state": {"seen": 41}}),
        (("spawn", "agent.json", "--state", "@state.json"), {"state": {"seen": {"$bytes": "aGk="}}}),
    ],
    ids=["terminate", "suspend", "signal", "spawn", "spawn with a file"],
)
async def test_what_options_say(
    fresh_nats: EmbeddedNats,
    bus: Bus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    said: dict[str, object],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agent.json").write_text('{"name": "worker", "command": ["cat"]}')
    (tmp_path / "state.json").write_text('{"seen": {"$bytes": "aGk="}}')
    commands = await bus.jetstream.subscribe("l02.cmd.>", ordered_consumer=True)
    async with program(fresh_nats, *words) as process:
        command = await commands.next_msg(timeout=20)
        process.kill()
        await process.wait()
    assert command.subject.endswith(f".{words[0]}")
    body = json.loads(command.data)
    assert {name: body[name] for name in said} == said


@pytest.mark.parametrize(
    ("output", "rest"), [("one two", b"\n"), ({"a": 1}, b'\n{\n  "a": 1\n}\n')], ids=["the same", "another"]
)
async def test_streamed_output(fresh_nats: EmbeddedNats, bus: Bus, output: object, rest: bytes) -> None:
    commands = await bus.jetstream.subscribe("l02.cmd.>", ordered_consumer=True)
    async with program(fresh_nats, "exec", "a1", "hello", "--stream") as process:
        command = await commands.next_msg(timeout=20)
        assert json.loads(command.data) == {"input": "hello"}
        assert command.headers
        execution = command.headers["Nats-Msg-Id"]
        for n, delta in enumerate(["one ", "two"]):
            await bus.jetstream.publish(f"l02.stream.a1.{execution}", json.dumps({"n": n, "delta": delta}).encode())
            assert process.stdout
            assert await process.stdout.readexactly(len(delta)) == delta.encode()
        result = {"execution_id": execution, "output": output}
        events = ["agent.execution.completed"]
        outcome = {"command_id": execution, "ok": True, "version": 4, "events": events, "result": result}
        await bus.jetstream.publish(f"l02.out.{execution}", json.dumps(outcome).encode())
        printed, errors = await process.communicate()
    assert (process.returncode, printed, errors) == (0, rest, b"")


HOSTILE = "a\x1b]0;mine\x07\x9b2J\u202eb\tc\nd"
SAFE = "a\\u001b]0;mine\\u0007\\u009b2J\\u202eb\tc\nd"


@pytest.mark.parametrize(
    ("options", "on_terminal"),
    [((), True), (("--stream",), True), (("--json",), True), (("--stream",), False)],
    ids=["output", "stream", "json", "stream into a pipe"],
)
async def test_what_an_agent_says_steers_no_terminal(
    fresh_nats: EmbeddedNats, bus: Bus, options: tuple[str, ...], on_terminal: bool
) -> None:
    """There it is escaped; a program at the other end of a pipe has it as it is."""
    commands = await bus.jetstream.subscribe("l02.cmd.>", ordered_consumer=True)
    ours, theirs = pty.openpty() if on_terminal else os.pipe()
    async with program(fresh_nats, "exec", "a1", "hello", *options, stdout=theirs) as process:
        os.close(theirs)
        command = await commands.next_msg(timeout=20)
        assert command.headers
        execution = command.headers["Nats-Msg-Id"]
        if "--stream" in options:
            piece = json.dumps({"n": 0, "delta": HOSTILE}).encode()
            await bus.jetstream.publish(f"l02.stream.a1.{execution}", piece)
            await bus.jetstream.publish(f"l02.stream.a1.{execution}", b'{"n": 1, "done": true}')
        result = {"execution_id": execution, "output": HOSTILE}
        events = ["agent.execution.completed"]
        outcome = {"command_id": execution, "ok": True, "version": 4, "events": events, "result": result}
        await bus.jetstream.publish(f"l02.out.{execution}", json.dumps(outcome).encode())
        assert await process.wait() == 0
    printed = b""
    with suppress(OSError):  # what a terminal says at its end
        while piece := os.read(ours, 65_536):
            printed += piece
    os.close(ours)
    text = printed.decode().replace("\r\n", "\n")
    if "--json" in options:
        assert json.loads(text)["output"] == HOSTILE
        assert ("\x9b" in text, "\u202e" in text) == (not on_terminal, not on_terminal)
    else:
        assert text == (SAFE if on_terminal else HOSTILE) + "\n"
