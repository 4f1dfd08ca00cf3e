"""Serves an agent over its socket: what a sandboxed process runs, from its fork to its end.

Answers, results of own steps and of threads must act on a handler in the same way however they come in: after a crash
they all lie ready, while at first they came one by one. So one is taken in (`l02.agent.running.intake`) only when
nothing in the process can run any more, and then only one: everything it set going runs until it waits again before
the next.
That the loop has nothing to run is seen exactly where the loop itself says so: it asks its selector to wait.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any, NoReturn, TypeVar, TypeVarTuple, Unpack

import msgspec

from l02.agent.definition import Agent
from l02.agent.loader import LoadError, load
from l02.agent.running.execution import Execution, numbered_tasks, thread_in_order
from l02.agent.thinking.agent import agent_of
from l02.agent.tools import run_tool
from l02.bus.wire.agent.lines import LineBuffer, ProtocolError, decode_node_message, encode
from l02.bus.wire.agent.protocol import (
    PROTOCOL,
    AgentMessage,
    Answer,
    Execute,
    Hello,
    LoadFailed,
    Ping,
    Pong,
    Recorded,
    RunTool,
    Shutdown,
    ToolResult,
)
from l02.domain.specification import ModelAgent

_T = TypeVar("_T")
_Arguments = TypeVarTuple("_Arguments")

GRACE = 1.5
"""Seconds that a running handler gets for its `finally` blocks once the process is to end."""


def main(fd: int, config: Mapping[str, Any]) -> NoReturn:
    """Loads the agent and serves it over the connected stream socket `fd`, then ends the process.

    `config` holds `entrypoint` (see `loader.load`) and, if one is to be chosen, `object`; of the built-in agent
    `name`, `model` and `window_tokens` (see `thinking.agent.agent_of`). Exit status: 0 after
    `shutdown` or the socket's end, 1 when the agent could not be loaded or the node broke the protocol. The process
    ends without waiting for threads, which an author's code may have left in an endless loop.
    """
    status = 1
    try:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(line_buffering=True, errors="backslashreplace")
        os.set_inheritable(fd, False)
        status = _serve(socket.socket(fileno=fd), config)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _serve(node: socket.socket, config: Mapping[str, Any]) -> int:
    node.setblocking(True)
    try:
        agent = _agent(config)
    except LoadError as error:
        node.sendall(encode(LoadFailed(str(error))))
        return 1
    selector = _IdleSelector()
    loop = _Loop(selector)
    loop.set_task_factory(numbered_tasks)
    asyncio.set_event_loop(loop)
    session = _Session(agent, loop)
    selector.on_idle = session.on_idle
    loop.run_until_complete(loop.create_connection(lambda: session, sock=node))
    while True:
        try:
            loop.run_until_complete(session.ended)
            return 0
        except SystemExit:  # of a task which the handler started: it leaves the loop, but the task keeps it too, so
            continue  # the handler that waits for this task gets it, and fails
        except ProtocolError as error:
            sys.stderr.write(f"l02: the node broke the protocol: {error}\n")
            return 1


def _agent(config: Mapping[str, Any]) -> Agent:
    if "model" in config:
        return agent_of(config["name"], msgspec.convert(config["model"], ModelAgent), config["window_tokens"])
    return load(config["entrypoint"], config.get("object"))


class _IdleSelector(selectors.DefaultSelector):
    """A selector that tells when its loop would wait, and lets `on_idle` give it something to run instead."""

    on_idle: Callable[[], bool] = staticmethod(lambda: False)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if (timeout is None or timeout > 0) and self.on_idle():
            timeout = 0
        return super().select(timeout)


class _Loop(asyncio.SelectorEventLoop):
    """Threads that a handler starts come to their end when it is their turn."""

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[_Arguments]], _T], *args: *_Arguments
    ) -> asyncio.Future[_T]:
        return thread_in_order(super().run_in_executor(executor, func, *args))


class _Session(asyncio.Protocol):
    """The connection to the node, and what runs because of it. `ended` is done when the process is to end."""

    def __init__(self, agent: Agent, loop: asyncio.AbstractEventLoop) -> None:
        self.ended: asyncio.Future[None] = loop.create_future()
        self._agent = agent
        self._loop = loop
        self._lines = LineBuffer()
        self._execution: Execution | None = None
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._settled: deque[asyncio.Future[None]] = deque()
        self._paused = False
        self._stopping: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send(
            Hello(PROTOCOL, self._agent.name, self._agent.descriptions(), answers_pings=True, records_steps=True)
        )

    def data_received(self, data: bytes) -> None:
        try:
            for line in self._lines.feed(data):
                self._receive(line)
        except ProtocolError as error:
            self._end(error)

    def eof_received(self) -> None:
        self._stop()

    def connection_lost(self, error: Exception | None) -> None:
        self._stop()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False

    def on_idle(self) -> bool:
        """Nothing can run: lets one thing go on that waited for that. False if there is none.

        A handler that yielded text comes before any answer, so that how fast the node reads changes no order.
        """
        if self._paused:
            return False
        if self._settled:
            self._settled.popleft().set_result(None)
            return True
        if self._execution is None:
            return False
        try:
            return self._execution.take_in()
        except ProtocolError as error:
            self._end(error)
            return True

    def _receive(self, line: bytes) -> None:
        match decode_node_message(line):
            case Answer() as answer:
                if self._execution is not None and answer.execution_id == self._execution.id:
                    self._execution.answer(answer)
            case Execute() as message:
                if self._execution is not None:
                    raise ProtocolError(f"{message.execution_id} was sent while {self._execution.id} runs")
                self._execution = Execution(self._agent, message, self._send, self._settle)
                self._begin(self._execution)
            case Recorded() as message:
                if self._execution is None or message.execution_id != self._execution.id:
                    raise ProtocolError(f"steps of {message.execution_id} were sent, which does not run")
                was_ready = self._execution.is_ready
                self._execution.remember(message.steps)
                if not was_ready:
                    self._begin(self._execution)
            case RunTool() as message:
                self._start(message.execution_id, self._run_tool(message))
            case Ping():
                self._send(Pong())
            case Shutdown():
                self._stop()

    def _begin(self, execution: Execution) -> None:
        if execution.is_ready:
            self._start(execution.id, self._execute(execution))

    def _start(self, execution_id: str, work: Any) -> None:
        if self._stopping is None:
            task = self._loop.create_task(work)
            self._tasks[task] = execution_id
            task.add_done_callback(self._done)
        else:
            work.close()

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._end(error)

    async def _execute(self, execution: Execution) -> None:
        result = await execution.run()
        for task, execution_id in self._tasks.items():
            if execution_id == execution.id and task is not asyncio.current_task():
                task.cancel()  # tools which the execution no longer waits for
        self._execution = None
        execution.finish(result)

    async def _run_tool(self, message: RunTool) -> None:
        result: ToolResult = await run_tool(self._agent, message)
        self._send(result)

    async def _settle(self) -> None:
        settled: asyncio.Future[None] = self._loop.create_future()
        self._settled.append(settled)
        try:
            await settled
        finally:
            if settled in self._settled:
                self._settled.remove(settled)

    def _send(self, *messages: AgentMessage) -> None:
        self._transport.write(b"".join(map(encode, messages)))

    def _stop(self) -> None:
        if self._stopping is None:
            own_tools = [] if self._execution is None else self._execution.stop()
            self._stopping = self._loop.create_task(self._wind_up(own_tools))

    async def _wind_up(self, own_tools: list[asyncio.Future[Any]]) -> None:
        for task in self._tasks:
            task.cancel()
        tasks = [*self._tasks, *own_tools]
        if tasks:
            await asyncio.wait(tasks, timeout=GRACE)
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        if not self.ended.done():
            if error is None:
                self.ended.set_result(None)
            else:
                self.ended.set_exception(error)
