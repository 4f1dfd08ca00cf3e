"""The node's side of checking arguments: what could take long is checked elsewhere, and given up when it does.

An agent has one such check at a time, and all of its checks together have a share of a core: whatever its schemas are,
those of others take their turns.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from typing import Any

import msgspec

from l02.bus.log.turns import Turn, turn_of
from l02.bus.wire.agent.protocol import MAX_SCHEMA_BYTES
from l02.domain.errors import ErrorCode, Failure
from l02.handlers.executor.tools.schemas import CHECK_SECONDS, Misfit, Question, Verdict, is_plain, misfit

_AT_ONCE = 4
"""Checks of different agents: they wait for one another first come, first served."""
_START_SECONDS = 0.5
"""Of processor time that a new process takes, when one has ended for a check that took too long."""
_KEPT = 1
_CHEAP = 16 * 1024
"""Bytes of the schema times bytes of the arguments: about 10 ms at worst."""
_LINE_BYTES = 64 * 1024
_OUT_OF_TIME = -signal.SIGPROF
_decoder = msgspec.json.Decoder(Verdict)


class Allowance:
    """What each agent may use of the processors: `burst` seconds at once, and `share` of a core for ever."""

    def __init__(self, burst: float = 10.0, share: float = 0.1) -> None:
        self._burst, self._share = burst, share
        self._paid_at: dict[str, float] = {}
        """When what an agent has used is made up for, by the loop's clock."""

    def pause(self, agent_id: str) -> float:
        """Seconds until the agent may use more."""
        now = asyncio.get_running_loop().time()
        return max(0.0, self._paid_at.get(agent_id, now) - now - self._burst / self._share)

    def charge(self, agent_id: str, seconds: float) -> None:
        """The agent has used so many seconds."""
        now = asyncio.get_running_loop().time()
        self._paid_at = {agent: paid_at for agent, paid_at in self._paid_at.items() if paid_at > now}
        self._paid_at[agent_id] = max(now, self._paid_at.get(agent_id, now)) + seconds / self._share


class SchemaChecks:
    """One per node. A process that has answered is kept for the next question; `close` ends it."""

    def __init__(self) -> None:
        self._allowance = Allowance()
        self._turns: dict[str, Turn] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._idle: list[Process] = []

    async def require_fit(
        self,
        tool: str,
        schema: dict[str, Any],
        arguments: dict[str, Any],
        *,
        is_servers: bool = False,
        agent_id: str = "",
    ) -> None:
        """Failure E2001 if the arguments do not fit the schema, or that cannot be found out in a second.

        A check that may take long waits for those of the same agent before it.

        A schema that means nothing here may mean something to a tool server (`is_servers`), which checks for itself.
        """
        found = await self.misfit(f"arguments against the schema of tool {tool!r}", schema, arguments, agent_id)
        if found is None:
            return
        if found.broken:
            if is_servers:
                return
            raise Failure(ErrorCode.TOOL_INVOCATION_FAILED, f"the schema of tool {tool!r} is broken: {found.message}")
        raise Failure(
            ErrorCode.TOOL_INVOCATION_FAILED,
            f"the arguments of tool {tool!r} do not fit: {found.message}",
            found.path,
        )

    async def misfit(self, what: str, schema: dict[str, Any], value: Any, agent_id: str = "") -> Misfit | None:
        """Why the value does not fit the schema, if it does not; Failure E2001 if that takes more than a second.

        `what` is checked, in the words of that failure.
        """
        try:
            return await self._misfit(what, Question(schema, value), agent_id)
        except RecursionError:
            return Misfit("it is nested too deeply", broken=True)

    async def _misfit(self, what: str, question: Question, agent_id: str) -> Misfit | None:
        size = len(msgspec.json.encode(question.schema))
        if size > MAX_SCHEMA_BYTES:
            return Misfit(f"it has {size:,} bytes, the most is {MAX_SCHEMA_BYTES:,}", broken=True)
        line = msgspec.json.encode(question) + b"\n"
        if size * (len(line) - size) <= _CHEAP and is_plain(question.schema):
            return misfit(question)
        async with turn_of(self._turns, agent_id):
            await asyncio.sleep(self._allowance.pause(agent_id))
            async with self._slots:
                return await self._ask(what, line, agent_id)

    async def close(self) -> None:
        """End what is kept."""
        while self._idle:
            await _end(self._idle.pop())

    async def _ask(self, what: str, line: bytes, agent_id: str) -> Misfit | None:
        answer, code = b"", 0
        while self._idle and not answer and code != _OUT_OF_TIME:
            answer, code = await self._exchange(self._idle.pop(), line)
        if not answer and code != _OUT_OF_TIME:  # none was kept, or it was gone when it was asked
            answer, code = await self._exchange(await _start(), line)
        if not answer:
            self._allowance.charge(agent_id, CHECK_SECONDS + _START_SECONDS)
            why = (
                f"takes more than {CHECK_SECONDS:g} s; have the schema simplified, or pass less"
                if code == _OUT_OF_TIME
                else f"ended its process ({code})"
            )
            raise Failure(ErrorCode.TOOL_INVOCATION_FAILED, f"checking {what} {why}")
        verdict = _decoder.decode(answer)
        self._allowance.charge(agent_id, verdict.seconds)
        return verdict.misfit

    async def _exchange(self, process: Process, line: bytes) -> tuple[bytes, int]:
        """The answer; empty, with its exit code, if the process has ended instead."""
        answer = b""
        try:
            answer = await _answer(process, line)
        finally:
            if answer and len(self._idle) < _KEPT:
                self._idle.append(process)
            else:
                code = await _end(process)
        return (answer, 0) if answer else (b"", code)


async def _start() -> Process:
    # Nothing of the node's environment, where keys may be, is in it.
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "l02.handlers.executor.tools.schemas"),
        stdin=PIPE,
        stdout=PIPE,
        limit=_LINE_BYTES,
        env={"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONPATH": path},
    )


async def _answer(process: Process, line: bytes) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line)
    with suppress(ConnectionError):
        await process.stdin.drain()
    return await process.stdout.readline()


async def _end(process: Process) -> int:
    """End it, if it has not ended by itself; its exit code."""
    assert process.stdin is not None
    process.stdin.close()
    if process.stdout is not None and not process.stdout.at_eof() and process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
    return await process.wait()
