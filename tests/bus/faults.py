"""What tests do to a server."""

from __future__ import annotations

import os
import signal

from bus.embedded import EmbeddedNats
from tests.bus.toy import until


async def kill(server: EmbeddedNats) -> None:
    """SIGKILL, and wait until its keeper has brought up another."""
    before = server.pid
    os.kill(before, signal.SIGKILL)
    await until(lambda: _pid(server) not in (None, before))


def _pid(server: EmbeddedNats) -> int | None:
    try:
        return server.pid
    except RuntimeError:
        return None
