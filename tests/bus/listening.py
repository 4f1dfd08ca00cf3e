"""A node's reader with listeners of a test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from l02.bus.background.cancelling import end
from l02.bus.commands.react import EventReader
from l02.bus.connection.bus import Bus
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from tests.bus.toy import Noted


@asynccontextmanager
async def reading(
    bus: Bus, repository: Repository[Any], handlers: Mapping[str, Callable[[RecordedEvent], Awaitable[None]]]
) -> AsyncIterator[asyncio.Task[None]]:
    """The reader's task, while the handlers hear of every `Noted`, each by its name; not of those at once."""
    reader = EventReader(bus, repository)
    async with AsyncExitStack() as stack:
        listeners = [reader.listener(name, (Noted,), _behind(handle)) for name, handle in handlers.items()]
        await reader.open()
        for running in (*(listener.listen() for listener in listeners), reader.run()):
            task = asyncio.create_task(running)
            stack.push_async_callback(end, task)
        yield task


def _behind(
    handle: Callable[[RecordedEvent], Awaitable[None]],
) -> Callable[[RecordedEvent, bool], asyncio.Future[None] | None]:
    return lambda recorded, here: None if here else asyncio.ensure_future(handle(recorded))
