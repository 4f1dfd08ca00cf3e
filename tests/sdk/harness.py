"""The node's side of an agent's socket, for tests: a real process, a real socket pair, the real `main`."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from msgspec import UNSET, UnsetType

from l02.bus.wire.agent.lines import MAX_LINE, decode_agent_message, encode
from l02.bus.wire.agent.protocol import (
    AgentMessage,
    Answer,
    Begin,
    Call,
    CallError,
    Complete,
    Emit,
    Execute,
    Fail,
    Hello,
    NodeMessage,
    OwnSteps,
    Shutdown,
    Step,
    Steps,
)

MAIN = """
import json, os, sys
from l02.agent.runtime import main
main(int(os.environ["L02_FD"]), json.loads(sys.argv[1]))
"""
MessageT = TypeVar("MessageT")

OWN = OwnSteps(
    recorded=0,
    answers=0,
    tool_timeout_seconds=20.0,
    max_concurrent_tools=10,
    max_tool_retries=0,
    tokens=0,
    window_tokens=1_000_000,
)
"""What the node of an agent that records its steps tells it."""
OWN_TOOLS = """
import asyncio, threading, time
from l02.agent import Agent, ToolError
agent = Agent("tester")

@agent.tool(idempotent=True)
def add(a: int, b: int = 1) -> int: return a + b

@agent.tool(idempotent=True)
async def add_later(a: int) -> int:
    await asyncio.sleep(0)
    return a + 1

@agent.tool
def once() -> str: return "done"

@agent.tool(idempotent=True)
def given(value: list) -> list: return value
"""
"""The beginning of an agent's file."""


class AgentProcess:
    """An agent's process, seen from its node."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process = process
        self.reader = reader
        self.writer = writer

    async def receive(self) -> AgentMessage:
        async with asyncio.timeout(20):
            line = await self.reader.readuntil(b"\n")
        return decode_agent_message(line[:-1])

    async def expect(self, kind: type[MessageT]) -> MessageT:
        """The next message, which must be of this type; that a tool has begun is told only if it takes its time."""
        while isinstance(message := await self.receive(), Begin) and kind is not Begin:
            pass
        assert isinstance(message, kind), message
        return message

    async def calls(self, count: int) -> list[Call]:
        return [await self.expect(Call) for _ in range(count)]

    def send(self, *messages: NodeMessage) -> None:
        """Sends all of them in one write."""
        self.writer.write(b"".join(encode(message) for message in messages))

    def execute(
        self,
        value: Any = None,
        state: dict[str, Any] | None = None,
        execution_id: str = "x1",
        own: OwnSteps | UnsetType = UNSET,
    ) -> None:
        self.send(Execute(execution_id, value, state or {}, own))

    async def run(self, value: Any = None, state: dict[str, Any] | None = None) -> Complete | Fail:
        """Executes with no calls expected; streamed pieces are passed over."""
        self.execute(value, state)
        return await self.end()

    async def end(self) -> Complete | Fail:
        while isinstance(message := await self.receive(), Emit):
            pass
        assert isinstance(message, Complete | Fail), message
        return message

    async def exit(self) -> tuple[int, str, str]:
        """Waits for the process's end: status, what it printed, what it wrote to stderr."""
        async with asyncio.timeout(20):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()

    async def shut_down(self) -> tuple[int, str, str]:
        self.send(Shutdown())
        return await self.exit()


@asynccontextmanager
async def command_process(command: list[str], cwd: Path) -> AsyncIterator[AgentProcess]:
    """A program that inherits the socket. It is killed at the end if it is still there."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *command,
            pass_fds=[theirs.fileno()],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=cwd,
            env={
                **os.environ,
                "L02_FD": str(theirs.fileno()),
                "PYTHONPATH": os.pathsep.join([str(cwd), str(Path(__file__).parents[2])]),
            },
        )
    reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_LINE + 1)
    try:
        yield AgentProcess(process, reader, writer)
    finally:
        writer.close()
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def agent_process(config: dict[str, Any], cwd: Path) -> AsyncIterator[AgentProcess]:
    """A process that runs `main` with this config."""
    async with command_process([sys.executable, "-c", MAIN, json.dumps(config)], cwd) as process:
        yield process


@asynccontextmanager
async def agent(source: str, tmp_path: Path) -> AsyncIterator[AgentProcess]:
    """A process that serves an agent of this source; it has said hello."""
    file = tmp_path / "author.py"
    file.write_text(source)
    async with agent_process({"entrypoint": str(file)}, tmp_path) as process:
        await process.expect(Hello)
        yield process


def ok(call: Call, result: Any) -> Answer:
    return Answer(call.execution_id, call.call, True, result=result)


def failed(call: Call, message: str = "it broke", code: str = "E2001") -> Answer:
    error = CallError(code, "TOOL_INVOCATION_FAILED", message)
    return Answer(call.execution_id, call.call, False, error=error)


async def steps_of(process: AgentProcess, count: int) -> list[Step]:
    """The next steps, in however many messages; how tools begin is passed over."""
    found: list[Step] = []
    while len(found) < count:
        message = await process.receive()
        if isinstance(message, Steps):
            found += message.steps
        else:
            assert isinstance(message, Begin), message
    return found
