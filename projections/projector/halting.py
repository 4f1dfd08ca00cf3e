"""A projector that cannot go on says so and takes nobody with it.

No event makes it stand still (`l02.projections.folds`), but a server's refusal does, or a position beyond the stream's
end.
All that does not need it goes on: commands are decided, agents work, other projections follow. It is tried again now
and then, for what is in its way may be taken out of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any

import structlog

from l02.bus.background.cancelling import end
from l02.bus.background.causes import first_cause
from l02.projections.projector.progress import Progress

_AGAIN_SECONDS = 5.0
_log = structlog.get_logger()


async def keep_projecting(
    names: Collection[str], run: Callable[[], Coroutine[Any, Any, None]], progress: Progress
) -> None:
    """Run the projector of these projections until cancelled; `progress` is told when they halt, and why."""
    while True:
        running = asyncio.create_task(run())
        try:
            await asyncio.wait({running}, timeout=_AGAIN_SECONDS)
            if not running.done():
                progress.resume(names)
            await running
        except Exception as error:
            cause = first_cause(error)
            reason = str(cause) or repr(cause)
            if any(progress.halted.get(name) != reason for name in names):
                _log.error("projections have halted", projections=[*names], reason=reason, exc_info=error)
            progress.halt(names, reason)
        finally:
            await end(running)
        await asyncio.sleep(_AGAIN_SECONDS)
