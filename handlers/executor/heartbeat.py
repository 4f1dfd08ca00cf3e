"""Notices an agent's process that hangs: it is asked from time to time, and has to say something, whatever it is.

Only one that promised to answer (`hello`) is asked. While it runs a tool of its own, the tool's timeout is what counts;
and time for which it is stopped, to hold it to its share of the processors, does not count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from l02.bus.wire.agent.protocol import Ping
from l02.domain.errors import ErrorCode
from l02.handlers.executor.inbox import Inbox
from l02.handlers.sandbox.channel import ChannelClosed
from l02.handlers.sandbox.processes import AgentProcess

_LONGEST_INTERVAL_SECONDS = 10.0
_ASKED_PER_LIMIT = 3


async def watch_heartbeat(
    process: AgentProcess, inbox: Inbox, limit_seconds: float, runs_own_tool: Callable[[], bool]
) -> None:
    """Ask, until cancelled; kill the process if nothing is heard of it for `limit_seconds` (E2080)."""
    clock = asyncio.get_running_loop()
    interval = min(_LONGEST_INTERVAL_SECONDS, limit_seconds / _ASKED_PER_LIMIT)
    heard_at, stopped = clock.time(), process.stopped_seconds
    while True:
        try:
            async with asyncio.timeout(interval):
                await process.channel.send(Ping())
        except TimeoutError:
            pass  # it does not read either
        except ChannelClosed:
            return
        await asyncio.sleep(interval)
        before, stopped = stopped, process.stopped_seconds
        heard_at = max(heard_at + stopped - before, inbox.heard_at)
        if inbox.is_full or runs_own_tool():
            heard_at = clock.time()
        if clock.time() - heard_at > limit_seconds:
            process.condemn(
                f"{ErrorCode.LIVENESS_CHECK_FAILED.value}: it has not answered for {limit_seconds:g} s "
                "(lifecycle.hung_after_seconds)"
            )
            return
