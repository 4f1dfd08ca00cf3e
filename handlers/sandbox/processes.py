"""Agent processes of this node: from a specification to a sandboxed process that has said hello, and to its end."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
from msgspec.structs import replace

from l02.bus.wire.agent.lines import ProtocolError
from l02.bus.wire.agent.protocol import PROTOCOL, Hello, LoadFailed, Shutdown
from l02.bus.wire.agent.texts import CAUSE_BYTES, cut
from l02.domain.agent.resources import ResourceExceeded
from l02.domain.agent.state import ResourceUsage
from l02.domain.errors import ErrorCode, Failure, PermanentFailure
from l02.domain.identifiers import is_id
from l02.domain.specification import AgentSpecification, ResourceLimits, RuntimeClass, cpu_millis, memory_bytes
from l02.handlers.sandbox.channel import AgentChannel, ChannelClosed
from l02.handlers.sandbox.confinement.policy import Entry, ProgramEntry, PythonEntry, SandboxPolicy
from l02.handlers.sandbox.log import ProcessLog
from l02.handlers.sandbox.process import Exit, Figures, SandboxedProcess, Threshold
from l02.handlers.sandbox.removal import remove_tree
from l02.handlers.sandbox.sandboxes import Sandboxes

_END_SECONDS = 1.0
_PYTHON_ENTRY = "l02.agent.runtime:main"


class AgentProcess:
    """A process that is ready for work."""

    def __init__(
        self,
        sandboxed: SandboxedProcess,
        channel: AgentChannel,
        log: ProcessLog,
        hello: Hello,
        incarnation: int,
        spawn_seconds: float,
        limits: ResourceLimits,
    ) -> None:
        self._sandboxed = sandboxed
        self._log = log
        self._condemned: str | None = None
        self.ended_with: str | None = None
        """The execution that it was ended with, if it was."""
        self.exceeded: ResourceExceeded | None = None
        """The limit that it was ended for, once it has been stopped."""
        self._cause = "its process ended"
        self.channel = channel
        self.hello = hello
        self.incarnation = incarnation
        self.spawn_seconds = spawn_seconds
        self.limits = limits

    @property
    def pid(self) -> int:
        """The operating system's number for it."""
        return self._sandboxed.pid

    @property
    def sandbox_type(self) -> str:
        """Its runtime class."""
        return self._sandboxed.runtime_class.value

    @property
    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._sandboxed.ended

    @property
    def figures(self) -> Figures:
        """What it and all it has started take, as of half a second ago or less."""
        return self._sandboxed.figures

    @property
    def stopped_seconds(self) -> float:
        """For how long it could not run, because it had used its share of the processors."""
        return self._sandboxed.stopped_seconds

    @property
    def cause_of_end(self) -> str:
        """In words, once it has been stopped."""
        return self._condemned or self._cause

    async def ended(self) -> None:
        """Wait until it is gone."""
        await self._sandboxed.wait()

    def condemn(self, cause: str, *, ended_with: str | None = None) -> None:
        """Kill it because of what it did, or with an execution that has failed; what was first is the cause."""
        if self._condemned is None:
            self._condemned, self.ended_with = cut(cause, CAUSE_BYTES), ended_with
        self._sandboxed.kill()

    def kill(self) -> None:
        """Kill it at once, also while `stop` gives it time; harmless once it has ended."""
        self._sandboxed.kill()

    async def stop(self, grace_seconds: float) -> ResourceUsage:
        """End it: ask, wait for `grace_seconds`, kill. Returns what it used."""
        if not self.has_ended and grace_seconds > 0:
            try:
                async with asyncio.timeout(grace_seconds):
                    await self.channel.send(Shutdown())
                    await self._sandboxed.wait()
            except (TimeoutError, ChannelClosed):
                self._sandboxed.terminate()
        self._sandboxed.kill()
        ending = await self._sandboxed.wait()
        self._cause = f"its process ended: {ending.cause}"
        if ending.exceeded is not None:
            self._cause = f"{ending.exceeded.code}: {self._cause}"
        self.exceeded = ending.exceeded
        self.channel.close()
        await self._log.close()
        return ResourceUsage(cpu_seconds=ending.cpu_seconds, memory_peak_bytes=ending.memory_peak_bytes)


class Processes:
    """Starts agent processes, and remembers what those that ended have used until it is recorded."""

    def __init__(
        self, sandboxes: Sandboxes, data_dir: Path, require_model: Callable[[str], None] = lambda alias: None
    ) -> None:
        """`require_model` raises Failure for an alias of a model that this node has not got."""
        self._sandboxes = sandboxes
        self._require_model = require_model
        self._agents_dir = data_dir / "agents"
        self._unrecorded: dict[str, ResourceUsage] = {}
        self._running: dict[str, AgentProcess] = {}
        self.on_threshold: Callable[[str, int, Threshold], None] = lambda agent_id, incarnation, reached: None
        """Told when an agent's process has used so much of a limit for the first time."""
        self.starting = 0
        """How many processes are asked for and not ready yet."""

    @property
    def running(self) -> dict[str, AgentProcess]:
        """Those that are ready now and have not ended, by their agents; others that start meanwhile are not added."""
        self._running = {agent_id: process for agent_id, process in self._running.items() if not process.has_ended}
        return self._running.copy()

    async def start(self, agent_id: str, incarnation: int, specification: AgentSpecification) -> AgentProcess:
        """Start a process and wait until it is ready. Failure: E2020, E2021, E2040, E2041, E2101; PermanentFailure if
        the agent's code, its specification or this node is at fault."""
        self.starting += 1
        try:
            process = self._running[agent_id] = await self._start(agent_id, incarnation, specification)
            return process
        finally:
            self.starting -= 1

    async def _start(self, agent_id: str, incarnation: int, specification: AgentSpecification) -> AgentProcess:
        if specification.model:
            try:
                self._require_model(specification.model.alias)
            except Failure as failure:
                raise PermanentFailure(failure.code, failure.message) from failure
        began = time.monotonic()
        home = self._agents_dir / agent_id
        log = ProcessLog(home / "log")
        await log.open()
        try:
            sandboxed = await self._sandboxes.spawn(
                _runtime_class(specification),
                _policy(specification, home / "workspace"),
                _entry(specification),
                str(log.pipe),
            )
        except BaseException:
            await log.close()
            raise
        sandboxed.on_threshold = partial(self.on_threshold, agent_id, incarnation)
        timeout = specification.lifecycle.spawn_timeout_seconds
        try:
            channel = await AgentChannel.open(sandboxed.socket)
            hello = await _hello(sandboxed, channel, timeout, log)
        except BaseException:
            sandboxed.kill()
            await sandboxed.wait()
            await log.close()
            raise
        seconds = time.monotonic() - began
        return AgentProcess(sandboxed, channel, log, hello, incarnation, seconds, specification.resource_limits)

    def note_usage(self, agent_id: str, usage: ResourceUsage) -> None:
        """Keep what an ended process used, until `take_usage`."""
        self._unrecorded[agent_id] = _sum(self._unrecorded.get(agent_id, ResourceUsage()), usage)

    def take_usage(self, agent_id: str, before: ResourceUsage) -> ResourceUsage:
        """What the agent has used in all: `before`, and what was noted since."""
        return _sum(before, self._unrecorded.pop(agent_id, ResourceUsage()))

    async def remove_workspace(self, agent_id: str) -> None:
        """Delete the files of an agent that is gone for good; its log stays for a while."""
        await asyncio.to_thread(remove_tree, self._agents_dir / agent_id / "workspace")

    async def unused_since(self, moment: float) -> list[str]:
        """The agents whose folders here have not been written to since then, in seconds since 1970."""

        def look() -> list[str]:
            folders = self._agents_dir.iterdir() if self._agents_dir.is_dir() else ()
            return [folder.name for folder in folders if is_id(folder.name) and _written_at(folder) < moment]

        return await asyncio.to_thread(look)

    async def remove(self, agent_id: str) -> None:
        """Delete all files of an agent."""
        await asyncio.to_thread(remove_tree, self._agents_dir / agent_id)


async def _hello(sandboxed: SandboxedProcess, channel: AgentChannel, timeout: float, log: ProcessLog) -> Hello:
    try:
        async with asyncio.timeout(timeout):
            message = await channel.receive()
    except TimeoutError as error:
        raise Failure(
            ErrorCode.SPAWN_TIMEOUT, f"the agent did not say hello within {timeout:g} s (spawn_timeout_seconds)"
        ) from error
    except ProtocolError as error:
        raise Failure(ErrorCode.SPAWN_FAILED, f"the agent broke the protocol at its start: {error}") from error
    except ChannelClosed as error:
        ending = await _end_of(sandboxed)
        await log.close()
        tail = cut(await asyncio.to_thread(log.tail), CAUSE_BYTES)
        raise Failure(
            ErrorCode.SPAWN_FAILED, f"the process ended before it said hello: {ending.cause}{tail}"
        ) from error
    match message:
        case Hello(protocol=protocol) if protocol == PROTOCOL:
            return message
        case Hello(protocol=protocol):
            raise PermanentFailure(
                ErrorCode.SPAWN_FAILED, f"the agent speaks protocol {protocol}, this node speaks {PROTOCOL}"
            )
        case LoadFailed(message=text):
            raise PermanentFailure(ErrorCode.SPAWN_FAILED, text)
        case _:
            raise Failure(ErrorCode.SPAWN_FAILED, f"the agent's first message was {type(message).__name__}, not hello")


async def _end_of(sandboxed: SandboxedProcess) -> Exit:
    """How a process ended that has closed its socket: nearly always by itself, and then its exit says why."""
    try:
        async with asyncio.timeout(_END_SECONDS):
            return await sandboxed.wait()
    except TimeoutError:
        sandboxed.kill()
        return await sandboxed.wait()


def _written_at(folder: Path) -> float:
    """When a log in it, or itself, was last written to."""
    times = [0.0]
    for path in (folder, *folder.glob("log*")):
        with suppress(FileNotFoundError):
            times.append(path.stat().st_mtime)
    return max(times)


def _runtime_class(specification: AgentSpecification) -> RuntimeClass:
    return RuntimeClass.of(specification.trust_level)


def _policy(specification: AgentSpecification, workspace: Path) -> SandboxPolicy:
    entrypoint = specification.entrypoint
    own_code = (entrypoint,) if entrypoint is not None and ":" not in entrypoint else ()
    return SandboxPolicy(
        workspace=str(workspace),
        read=(*specification.files.read, *own_code),
        write=specification.files.write,
        memory_bytes=memory_bytes(specification.resource_limits.memory),
        cpu_millis=cpu_millis(specification.resource_limits.cpu),
        disk_bytes=specification.resource_limits.disk_bytes,
        max_processes=specification.resource_limits.processes,
        environment=specification.environment,
    )


def _entry(specification: AgentSpecification) -> Entry:
    for path in (*specification.files.read, *specification.files.write):
        _require(path, "files", Path.exists)
    if specification.command is not None:
        program = shutil.which(specification.command[0])
        if program is None:
            raise PermanentFailure(
                ErrorCode.SPAWN_FAILED, f"the program {specification.command[0]} (command) is not on this node"
            )
        return ProgramEntry(command=(program, *specification.command[1:]))
    if specification.model:
        limits = specification.executor
        config = {
            "name": specification.name,
            "model": msgspec.to_builtins(specification.model),
            "window_tokens": limits.context_window_tokens,
        }
        return PythonEntry(target=_PYTHON_ENTRY, config=config)
    entrypoint = specification.entrypoint
    assert entrypoint is not None, "a specification has an entrypoint, a command or a model"
    if ":" not in entrypoint:
        _require(entrypoint, "entrypoint", Path.is_file)
    return PythonEntry(target=_PYTHON_ENTRY, config={"entrypoint": entrypoint})


def _require(path: str, field: str, is_there: Callable[[Path], bool]) -> None:
    try:
        if is_there(Path(path)):
            return
    except OSError as error:
        raise PermanentFailure(
            ErrorCode.SPAWN_FAILED, f"{path} ({field}) cannot be read on this node: {error}"
        ) from error
    raise PermanentFailure(ErrorCode.SPAWN_FAILED, f"{path} ({field}) does not exist on this node")


def _sum(one: ResourceUsage, other: ResourceUsage) -> ResourceUsage:
    return replace(
        one,
        cpu_seconds=one.cpu_seconds + other.cpu_seconds,
        memory_peak_bytes=max(one.memory_peak_bytes, other.memory_peak_bytes),
    )
