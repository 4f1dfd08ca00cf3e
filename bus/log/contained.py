"""Work for one aggregate among others': what goes wrong with it is its own matter, and never ends who does the work.

A task that raises ends its whole group, and so the node with everybody's agents. So what is done for one aggregate in
the background is done in here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from l02.bus.background.backoff import Setbacks
from l02.bus.log.passing import is_passing
from l02.bus.wire.codec import UnreadableEvent

_FIRST_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 60.0
_log = structlog.get_logger()


async def contained(work: Callable[[], Awaitable[object]], what: str, aggregate_id: str, *, again: bool = True) -> bool:
    """Do `work`; if it fails, `again` and again, ever more seldom. Whether it was done; nothing is raised.

    It is given up at once where the log has something of the aggregate that cannot be read: nobody can say what should
    be done for it. A failure is told in full when it is news; a server that is away is waited for.
    """
    setbacks = Setbacks(_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS)
    while True:
        setbacks.begin()
        try:
            await work()
            return True
        except UnreadableEvent as error:
            _log.error(f"{what} is given up", id=aggregate_id, reason=error.message)
            return False
        except Exception as error:
            if setbacks.is_news(error):
                _log.exception(f"{what} failed", id=aggregate_id)
            if not again:
                return False
            if is_passing(error):
                setbacks.reset()
            await setbacks.pause()
