"""The sandbox manager of a node: one zygote, started anew when it dies, and a watch over what its processes take."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from l02.domain.errors import ErrorCode, Failure, PermanentFailure
from l02.domain.specification import RuntimeClass
from l02.handlers.sandbox.confinement import classes
from l02.handlers.sandbox.confinement.cgroup import ControlGroups, open_control_groups
from l02.handlers.sandbox.confinement.policy import Entry, SandboxPolicy, SpawnRequest
from l02.handlers.sandbox.link import ZygoteLink
from l02.handlers.sandbox.process import SandboxedProcess
from l02.handlers.sandbox.watch.quota import DISK_INTERVAL, DiskQuota, DiskThreads
from l02.handlers.sandbox.watch.room import ROOM_INTERVAL, DiskRoom

WATCH_INTERVAL = 0.5
"""Seconds between two looks at each process: some microseconds for one that has not run meanwhile."""
_log = structlog.get_logger()


class Sandboxes:
    """Starts sandboxed processes; all of them end with it, and with the node if that is killed.

    `preload` names modules that every Python agent finds imported already. Use it as an async context manager.
    """

    def __init__(self, preload: Sequence[str] = ()) -> None:
        self._preload = tuple(preload)
        self._link: ZygoteLink | None = None
        self._starting = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._disk_threads = DiskThreads()
        self._measuring: set[asyncio.Task[None]] = set()
        self._available = classes.available()
        self._groups: ControlGroups | None = None

    async def __aenter__(self) -> Self:
        self._groups = open_control_groups()
        await self._zygote()
        self._disk_threads.__enter__()
        self._tasks = [
            asyncio.create_task(self._keep_watching(), name="sandbox watch"),
            asyncio.create_task(self._keep_measuring(), name="disk watch"),
            asyncio.create_task(self._keep_room(), name="disk room"),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in (*self._tasks, *self._measuring):
            task.cancel()
        self._disk_threads.__exit__(kind, error, trace)
        if self._link is not None:
            await self._link.close()

    def available(self) -> dict[RuntimeClass, str | None]:
        """For each runtime class: None if this node can give it, or else why not."""
        return dict(self._available)

    async def spawn(
        self, runtime_class: RuntimeClass, policy: SandboxPolicy, entry: Entry, log_path: str
    ) -> SandboxedProcess:
        """Start a process in a sandbox of its own; its standard output and error are appended to `log_path`.

        Raises PermanentFailure E2040 if this node cannot give the class, Failure E2041 if the process cannot be made.
        """
        reason = self._available[runtime_class]
        if reason is not None:
            raise PermanentFailure(
                ErrorCode.RUNTIME_CLASS_UNAVAILABLE,
                f"runtime class {runtime_class} is not available on this node: {reason}; "
                "choose another trust level or another node",
            )
        problem = policy.problem()
        if problem is not None:
            raise Failure(ErrorCode.SANDBOX_CREATION_FAILED, f"the sandbox's policy is invalid: {problem}")
        link = await self._zygote()
        disk = DiskQuota(Path(policy.workspace), policy.disk_bytes)
        await disk.begin(self._disk_threads)
        groups = self._groups
        if groups is None:
            return await link.spawn(SpawnRequest(runtime_class, policy, entry, log_path), disk)
        try:
            group = groups.make(policy.cpu_millis)
        except OSError as error:
            raise Failure(ErrorCode.SANDBOX_CREATION_FAILED, f"its control group cannot be made: {error}") from error
        try:
            process = await link.spawn(SpawnRequest(runtime_class, policy, entry, log_path, str(group)), disk)
        except BaseException:
            groups.leave(group)
            raise
        process.when_ended(partial(groups.leave, group))
        return process

    async def _zygote(self) -> ZygoteLink:
        async with self._starting:
            if self._link is None or self._link.closed:
                self._link = await ZygoteLink.start(self._preload)
            return self._link

    async def _keep_watching(self) -> None:
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            if self._groups is not None:
                self._groups.sweep()
            if self._link is not None:
                for process in list(self._link.processes.values()):
                    process.watch()

    async def _keep_measuring(self) -> None:
        while True:
            await asyncio.sleep(DISK_INTERVAL)
            due = [] if self._link is None else [each for each in self._link.processes.values() if each.disk_is_due]
            for process in due:
                measuring = asyncio.create_task(process.watch_disk(self._disk_threads))
                self._measuring.add(measuring)
                measuring.add_done_callback(self._measured)

    async def _keep_room(self) -> None:
        room: DiskRoom | None = None
        while True:
            await asyncio.sleep(ROOM_INTERVAL)
            processes = [] if self._link is None else [*self._link.processes.values()]
            if room is None and processes:
                room = DiskRoom(Path(processes[0].policy.workspace).parent)
            if room is not None:
                room.look(processes)

    def _measured(self, measuring: asyncio.Task[None]) -> None:
        self._measuring.discard(measuring)
        if not measuring.cancelled() and (error := measuring.exception()) is not None:
            _log.error("a workspace is not measured", error=repr(error))
