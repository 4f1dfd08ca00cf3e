"""A connection to NATS that synchronous code can use from any thread: an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, NamedTuple, TypeVar

import structlog
import uvloop
from eventsourcing.persistence import InterfaceError, OperationalError
from nats.errors import Error as NatsError

from l02.bus.connection.bus import Bus, BusUnreachable, connect

_log = structlog.get_logger()
_T = TypeVar("_T")
_CLOSED = "the factory of this recorder is closed"


class _Running(NamedTuple):
    bus: Bus
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event
    tasks: set[asyncio.Task[Any]]


class Worker:
    """Runs coroutines on the loop that the connection lives on. Ends when closed, or when nobody refers to it.

    The library's projection runner never closes the factory of its view; so garbage collection has to do.
    """

    def __init__(self, url: str, *, name: str, timeout: float) -> None:
        started: Future[_Running] = Future()
        thread = threading.Thread(target=_serve, args=(url, name, timeout, started), name="jetstream", daemon=True)
        thread.start()
        try:
            self._running = started.result()
        except (BusUnreachable, NatsError) as error:
            thread.join()
            raise OperationalError(str(error)) from error
        self._lock = threading.RLock()
        self._finalizer = weakref.finalize(self, _stop, self._running, thread)

    @property
    def bus(self) -> Bus:
        """The connection. Only for coroutines that run here."""
        return self._running.bus

    def submit(self, coroutine: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Start a coroutine. Cancelling the future cancels it; closing the worker too. Raises InterfaceError."""
        with self._lock:
            if self._finalizer.alive:
                return asyncio.run_coroutine_threadsafe(_registered(coroutine, self._running.tasks), self._running.loop)
        coroutine.close()
        raise InterfaceError(_CLOSED)

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end. Raises what it raises, and InterfaceError if the worker is closed meanwhile."""
        try:
            return self.submit(coroutine).result()
        except CancelledError as error:
            raise InterfaceError(_CLOSED) from error

    def close(self) -> None:
        """Cancel what runs, close the connection and wait for the thread to end."""
        with self._lock:
            self._finalizer()


async def _registered(coroutine: Coroutine[Any, Any, _T], tasks: set[asyncio.Task[Any]]) -> _T:
    task = asyncio.current_task()
    assert task is not None
    tasks.add(task)
    try:
        return await coroutine
    finally:
        tasks.discard(task)


def _serve(url: str, name: str, timeout: float, started: Future[_Running]) -> None:
    """The thread. It holds no reference to the worker, which could not be collected otherwise."""

    async def main() -> None:
        stop = asyncio.Event()
        tasks: set[asyncio.Task[Any]] = set()
        async with connect(url, name=name, aggregates={}, timeout=timeout) as bus:
            started.set_result(_Running(bus, asyncio.get_running_loop(), stop, tasks))
            await stop.wait()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(main())
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
            elif isinstance(error, OSError | RuntimeError):
                # nats-py wants to flush when it is closed, also a connection that is lost.
                _log.info("the connection to nats was lost before it was closed", error=repr(error))
            else:
                raise


def _stop(running: _Running, thread: threading.Thread) -> None:
    running.loop.call_soon_threadsafe(running.stop.set)
    # The garbage collector runs in any thread, so in this one too; it ends by itself then.
    if thread is not threading.current_thread():
        thread.join()
