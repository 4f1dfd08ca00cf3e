"""Threads for an agent's own sync tools, kept for the next one.

They are daemons: one that never ends does not keep the process from ending, as those of asyncio's executor would. There
are as many as were ever needed at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

Work = Callable[[], Callable[[], None]]
"""What is done in the thread; what that gives is called there too, when the thread is free for other work."""

_idle: list[SimpleQueue[Work]] = []


def run_in_thread(work: Work) -> None:
    """Raises RuntimeError when no thread can be started. `work` must not raise."""
    if _idle:
        _idle.pop().put(work)
        return
    inbox: SimpleQueue[Work] = SimpleQueue()
    threading.Thread(target=_serve, args=(inbox,), name="l02 tool", daemon=True).start()
    inbox.put(work)


def _serve(inbox: SimpleQueue[Work]) -> None:
    while True:
        _work(inbox)


def _work(inbox: SimpleQueue[Work]) -> None:
    """One piece; nothing of it is kept while the thread is idle."""
    tell = inbox.get()()
    _idle.append(inbox)
    tell()
