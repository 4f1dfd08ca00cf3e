"""The sandbox manager of a node: one zygote, started anew when it dies, and a watch over what its processes take."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from l02.domain.errors import ErrorCode, Failure, PermanentFailure
from l02.domain.specification import RuntimeClass
from l02.handlers.sandbox.confinement import classes
from l02.handlers.sandbox.confinement.policy import Entry, SandboxPolicy, SpawnRequest
from l02.handlers.sandbox.link import ZygoteLink
from l02.handlers.sandbox.process import SandboxedProcess

WATCH_INTERVAL = 0.5
"""Seconds between two looks at each process: some microseconds for one that has not run meanwhile."""


class Sandboxes:
    """Starts sandboxed processes; all of them end with it, and with the node if that is killed.

    `preload` names modules that every Python agent finds imported already. Use it as an async context manager.
    """

    def __init__(self, preload: Sequence[str] = ()) -> None:
        self._preload = tuple(preload)
        self._link: ZygoteLink | None = None
        self._starting = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None
        self._available = classes.available()

    async def __aenter__(self) -> Self:
        await self._zygote()
        self._watch = asyncio.create_task(self._keep_watching(), name="sandbox watch")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watch is not None:
            self._watch.cancel()
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
        return await link.spawn(SpawnRequest(runtime_class, policy, entry, log_path))

    async def _zygote(self) -> ZygoteLink:
        async with self._starting:
            if self._link is None or self._link.closed:
                self._link = await ZygoteLink.start(self._preload)
            return self._link

    async def _keep_watching(self) -> None:
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            if self._link is not None:
                for process in list(self._link.processes.values()):
                    process.watch()
