"""The tool servers of a node: one process for all agents with an equal specification, started when first wanted."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from l02.domain.specification import RuntimeClass, ToolServer
from l02.handlers.sandbox.removal import remove_tree
from l02.handlers.tool_servers.connection import Connection, serve
from l02.handlers.tool_servers.launch import name_of, specification_key
from l02.handlers.tool_servers.model import Request, ToolInfo, ToolNotRun

IDLE_SECONDS = 60.0
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0
"""The delays before a server that has failed is started anew double from the first to this; an answer resets them."""
SHORT_DELAY_SECONDS = 5.0
"""A delay that somebody who only looks for a tool waits for."""

_log = structlog.get_logger()


class _Instance:
    """One process of a server, from the decision to start it."""

    def __init__(self) -> None:
        self.ready: asyncio.Future[Connection | ToolNotRun] = asyncio.get_running_loop().create_future()
        self.over = False
        self.task: asyncio.Task[None] | None = None

    def settle(self, outcome: Connection | ToolNotRun) -> None:
        """Let those who wait for the process go on, if they still do."""
        if not self.ready.done():
            self.ready.set_result(outcome)


class _Shared:
    """What this node knows of one specification's server."""

    def __init__(self, server: ToolServer) -> None:
        self.server = server
        self.name = name_of(server)
        self.users = 0
        self.retirement: asyncio.TimerHandle | None = None
        self.instance: _Instance | None = None
        self.failure: str | None = None
        self._failures = 0
        self._not_before = 0.0

    def failed(self, instance: _Instance, reason: str) -> None:
        """Take note that a process did not start or was lost."""
        instance.over = True
        self.failure = reason
        self._failures += 1
        delay = min(FIRST_DELAY_SECONDS * 2 ** min(self._failures - 1, 16), LONGEST_DELAY_SECONDS)
        self._not_before = asyncio.get_running_loop().time() + delay

    def answered(self) -> None:
        """Take note that the server works."""
        self._failures = 0
        self.failure = None

    @property
    def delay(self) -> float:
        """Seconds until it may be started."""
        return max(0.0, self._not_before - asyncio.get_running_loop().time())

    def stop(self) -> None:
        """Begin to stop the process, if there is one."""
        if self.retirement is not None:
            self.retirement.cancel()
        if self.instance is not None and self.instance.task is not None and not self.instance.over:
            self.instance.over = True
            self.instance.task.cancel()


class ToolServers:
    """Starts, shares, restarts and stops tool servers. Use it as an async context manager; all end with it.

    Each process has a scratch directory of its own below `scratch_root`, which is emptied on entering and must be for
    nothing else. Each server logs to a file of mode 0600 in `log_dir`. A server is stopped when nobody has used it
    for `idle_seconds`.
    """

    def __init__(
        self,
        scratch_root: Path,
        log_dir: Path,
        runtime_class: RuntimeClass = RuntimeClass.LANDLOCK,
        *,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._scratch_root = scratch_root
        self._log_dir = log_dir
        self._runtime_class = runtime_class
        self._idle_seconds = idle_seconds
        self._shared: dict[bytes, _Shared] = {}
        self._tasks = asyncio.TaskGroup()
        self._open = False

    async def __aenter__(self) -> Self:
        self._log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._scratch_root.mkdir(mode=0o700, parents=True, exist_ok=True)
        await asyncio.to_thread(_empty, self._scratch_root)
        await self._tasks.__aenter__()
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        for shared in self._shared.values():
            shared.stop()
        await self._tasks.__aexit__(None, None, None)

    def acquire(self, server: ToolServer) -> None:
        """Keep this server from being stopped as idle, until `release`. It is started when it is first called."""
        self._acquire(server)

    def release(self, server: ToolServer) -> None:
        """Undo one `acquire`; raises KeyError if there was none."""
        self._release(self._shared[specification_key(server)])

    @contextmanager
    def running(self, servers: Iterable[ToolServer]) -> Iterator[None]:
        """Start these servers now, without waiting for them, and keep them from being stopped as idle meanwhile.

        One that cannot be started says so when it is called.
        """
        with ExitStack() as held:
            for server in servers:
                held.enter_context(self._using(server))
                if self._open:
                    self._tasks.create_task(self._start(server))
            yield

    async def _start(self, server: ToolServer) -> None:
        with suppress(ToolNotRun):  # it is in the log, and whoever calls it is told
            await self.tools(server)

    def replace(self, server: ToolServer) -> None:
        """Stop a server's process that is of no use, such as one that never answers; the next call starts another."""
        shared = self._shared.get(specification_key(server))
        if shared is not None and shared.instance is not None and not shared.instance.over:
            shared.stop()
            shared.failed(shared.instance, "was stopped")

    async def tools(self, server: ToolServer) -> dict[str, ToolInfo]:
        """The tools by name, as the server lists them at present; it is started if it does not run.

        Takes a minute at most. Raises ToolNotRun if the server cannot be started.
        """
        with self._using(server) as shared:
            return await (await self._connection(shared)).tools()

    async def offered(self, server: ToolServer) -> dict[str, ToolInfo]:
        """`tools`, unless the server has failed and may not be started again soon: then ToolNotRun says how."""
        with self._using(server) as shared:
            if shared.delay > SHORT_DELAY_SECONDS:
                raise ToolNotRun(f"{shared.failure}; it may be started again in {shared.delay:.0f} s")
            return await (await self._connection(shared)).tools()

    def is_failing(self, server: ToolServer) -> bool:
        """Whether the server has failed since it answered last."""
        shared = self._shared.get(specification_key(server))
        return shared is not None and shared.failure is not None

    async def call(self, server: ToolServer, tool: str, arguments: dict[str, Any], *, timeout: float) -> Any:
        """Call a tool and return its result as a JSON value, within `timeout` seconds, the server's start included.

        How the result becomes a value, `results` says.

        Raises ToolNotRun if the server cannot be started or was lost before the request went out (also when the time
        ran out by then), ToolFailed if the tool failed or the server broke down while it ran, TimeoutError if there
        was no answer in time; then the server is asked to cancel the call. A ToolFailed is ToolRefused if the server is
        well and answered with an error.
        """
        with self._using(server) as shared:
            request = Request()
            connection: Connection | None = None
            try:
                async with asyncio.timeout(timeout):
                    connection = await self._connection(shared)
                    try:
                        return await connection.call(tool, arguments, request)
                    finally:
                        if request.sent and not connection.lost:
                            shared.answered()
            except TimeoutError:
                if request.sent:
                    assert connection is not None
                    raise TimeoutError(f"{tool} did not answer within {timeout:g} s{connection.noise}") from None
                raise ToolNotRun(f"the tool server {server.command[0]!r} was not ready within {timeout:g} s") from None

    @contextmanager
    def _using(self, server: ToolServer) -> Iterator[_Shared]:
        shared = self._acquire(server)
        try:
            yield shared
        finally:
            self._release(shared)

    def _acquire(self, server: ToolServer) -> _Shared:
        key = specification_key(server)
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = _Shared(server)
        shared.users += 1
        if shared.retirement is not None:
            shared.retirement.cancel()
            shared.retirement = None
        return shared

    def _release(self, shared: _Shared) -> None:
        if shared.users == 0:
            raise KeyError(f"tool server {shared.name} was released more often than acquired")
        shared.users -= 1
        if shared.users == 0 and self._open:
            shared.retirement = asyncio.get_running_loop().call_later(self._idle_seconds, self._retire, shared)

    def _retire(self, shared: _Shared) -> None:
        del self._shared[specification_key(shared.server)]
        shared.stop()

    async def _connection(self, shared: _Shared) -> Connection:
        if not self._open:
            raise ToolNotRun("the node is stopping")
        instance = shared.instance
        if instance is None or instance.over:
            instance = shared.instance = _Instance()
            instance.task = self._tasks.create_task(self._run(shared, instance), name=f"tool server {shared.name}")
            stopped = _stopped(shared.server)  # for a task that is cancelled before its first step
            instance.task.add_done_callback(lambda _: instance.settle(stopped))
        outcome = await asyncio.shield(instance.ready)
        if isinstance(outcome, ToolNotRun):
            raise ToolNotRun(str(outcome))  # one for each caller: an exception keeps its traceback
        return outcome

    async def _run(self, shared: _Shared, instance: _Instance) -> None:
        outcome = _stopped(shared.server)
        scratch: Path | None = None

        def lost(reason: str) -> None:
            shared.failed(instance, reason)

        try:
            await asyncio.sleep(shared.delay)
            scratch = Path(tempfile.mkdtemp(prefix=f"{shared.name}-", dir=self._scratch_root))
            log = self._log_dir / f"{shared.name}.log"
            await serve(
                shared.server,
                self._runtime_class,
                scratch,
                log,
                instance.ready,
                lambda reason: shared.failed(instance, reason),
            )
        except Exception as error:  # one server's failure, whatever it is, must not end the others
            _log.warning("tool server failed", server=shared.name, error=str(error))
            outcome = ToolNotRun(f"the tool server {shared.server.command[0]!r} cannot be started: {error}")
            if not instance.over:
                shared.failed(instance, str(error))
        finally:
            instance.settle(outcome)
            if scratch is not None:
                await asyncio.to_thread(remove_tree, scratch)


def _stopped(server: ToolServer) -> ToolNotRun:
    return ToolNotRun(f"the tool server {server.command[0]!r} was stopped")


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        remove_tree(path)
