"""A node: brings its servers up, wires its parts, runs until it is told to stop, and leaves nothing running."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import psutil
import structlog
from nats.errors import Error as NatsError

from l02.bus.background.cancelling import end
from l02.bus.commands.leases import LeaseTaken, hold_lease
from l02.bus.commands.migration import MigrationRefused, migrate_streams
from l02.bus.commands.partitions import open_partitions
from l02.bus.commands.service import run_service
from l02.bus.connection.bus import Bus, BusUnreachable, connect
from l02.bus.connection.streams import LEASES_STREAM, StreamError, ensure_stream, ensure_streams, stream_config
from l02.bus.embedded import DataDirectory, EmbeddedServers, ServerError
from l02.domain.aggregates import AGGREGATES
from l02.domain.node.membership import NodeJoined
from l02.domain.node.state import Capacity
from l02.handlers.sandbox.confinement.classes import available as available_runtime_classes
from l02.logs import LogFormat, configure_logging, log_to_standard_error_by_default, say_on_standard_error
from l02.node.bootstrap import Parts, wire
from l02.node.greeting import greeting
from l02.node.http import HttpPortTaken, serve_http
from l02.node.metrics import NodeMetrics
from l02.node.settings import NodeFailed, Settings
from l02.node.settings_table import SettingsError
from l02.projections.projector.progress import ProjectionHalted
from l02.projections.tables.database import DatabaseUnreachable, SchemaMismatch

_RETRY_SECONDS = 0.2
_LEAVE_SECONDS = 2.0
_log = structlog.get_logger()
_EXPECTED_ERRORS = (
    BusUnreachable,
    DatabaseUnreachable,
    HttpPortTaken,
    LeaseTaken,
    MigrationRefused,
    ProjectionHalted,
    SchemaMismatch,
    ServerError,
    StreamError,
)


class Node:
    """A running node."""

    def __init__(self, runtime: dict[str, Any], parts: Parts) -> None:
        self.runtime = runtime
        self.parts = parts


@asynccontextmanager
async def running_node(settings: Settings) -> AsyncIterator[Node]:
    """A node, ready for commands, as long as the context lasts. Raises NodeFailed."""
    log_to_standard_error_by_default()
    try:
        async with AsyncExitStack() as stack:
            yield await _start(settings, stack)
    except _EXPECTED_ERRORS as error:
        raise NodeFailed(str(error)) from error
    except BaseExceptionGroup as group:
        expected, unexpected = group.split(_EXPECTED_ERRORS)
        if expected is None or unexpected is not None:
            raise
        raise NodeFailed(_first_line(expected)) from group


async def _start(settings: Settings, stack: AsyncExitStack) -> Node:
    directory = stack.enter_context(DataDirectory(settings.data_dir))
    settings = replace(settings, data_dir=directory.path)
    servers = await stack.enter_async_context(
        EmbeddedServers(directory, nats=settings.nats_url is None, postgres=settings.postgres_url is None)
    )
    nats_url = settings.nats_url or servers.nats_url
    postgres_url = settings.postgres_url or servers.postgres_url
    bus = await stack.enter_async_context(connect(nats_url, name=f"l02 {directory.node_id}", aggregates=AGGREGATES))
    await ensure_stream(bus, stream_config(LEASES_STREAM, settings.replicas))
    tasks = await stack.enter_async_context(asyncio.TaskGroup())
    place = f"{socket.gethostname()}:{directory.path}"
    leases = await stack.enter_async_context(hold_lease(bus, directory.node_id, place, tasks))
    await migrate_streams(bus, settings.replicas, leases.others)
    await ensure_streams(bus, settings.replicas)
    partitions = await stack.enter_async_context(open_partitions(bus, leases, tasks))
    parts = await stack.enter_async_context(wire(settings, bus, postgres_url, leases, partitions, tasks))
    stack.push_async_callback(_leave, parts)
    metrics = NodeMetrics(parts, agent_labels=settings.metrics_agent_labels)

    running: list[asyncio.Task[None]] = []
    stack.push_async_callback(_end, running)

    def run(coroutine: Coroutine[Any, Any, None]) -> None:
        running.append(tasks.create_task(coroutine))

    run(_watch(servers))
    run(_keep_streams(bus, settings.replicas))
    run(parts.keep_tables())
    run(parts.keep_views())
    await parts.reader.open()
    to_recover = await parts.placements.agents_of(directory.node_id)
    await _run_until_ready(run, parts.budgets.run)
    await _run_until_ready(run, parts.state.run)
    await _run_until_ready(run, parts.limits.run)
    await _run_until_ready(run, parts.freeing.run)
    await _run_until_ready(run, parts.executor.run)
    if parts.sessions is not None:
        bridge, open_sessions = parts.sessions, await parts.read_model.open_sessions_of_node(directory.node_id)
        await _run_until_ready(run, lambda ready: bridge.run(open_sessions, ready))
    run(parts.machine.run())
    await _run_until_ready(run, lambda ready: parts.lifecycle.run(to_recover, ready))
    run(parts.reader.run())
    run(parts.reconciliation.run())
    run(parts.announcer.run())
    run(parts.commands.run())
    http_url = await stack.enter_async_context(serve_http(settings.http_port, parts.why_not_ready, metrics.page))
    runtime = {
        "nats_url": nats_url,
        "postgres_url": postgres_url,
        "http_url": http_url,
        "node_id": directory.node_id,
        "pid": os.getpid(),
    }
    await stack.enter_async_context(
        run_service(bus, parts.repositories, parts.query_table(), version=version("l02"), node_id=directory.node_id)
    )
    join = _join(directory.node_id, http_url)
    await _run_until_ready(run, lambda ready: parts.nodes.run(join, ready))
    directory.write_runtime_file(runtime)
    return Node(runtime, parts)


async def _leave(parts: Parts) -> None:
    try:
        async with asyncio.timeout(_LEAVE_SECONDS):
            await parts.nodes.leave()
    except TimeoutError:
        _log.warning("the node leaves without a word: JetStream does not answer")


def _join(node_id: str, http_url: str) -> NodeJoined:
    capacity = Capacity(
        cpu=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        runtime_classes=tuple(name.value for name, problem in available_runtime_classes().items() if problem is None),
    )
    return NodeJoined(
        node_id=node_id,
        capacity=capacity,
        host=socket.gethostname(),
        pid=os.getpid(),
        http_url=http_url,
        version=version("l02"),
    )


async def _run_until_ready(
    run: Callable[[Coroutine[Any, Any, None]], None],
    part: Callable[[Callable[[], None]], Coroutine[Any, Any, None]],
) -> None:
    ready = asyncio.Event()
    run(part(ready.set))
    await ready.wait()


async def _watch(servers: EmbeddedServers) -> None:
    raise await servers.wait_failed()


async def _keep_streams(bus: Bus, replicas: int) -> None:
    """A server that has been restarted has lost the streams it kept in memory: make them again."""
    reconnected = asyncio.Event()
    async with bus.on_reconnect(reconnected.set):
        while True:
            await reconnected.wait()
            reconnected.clear()
            try:
                await ensure_streams(bus, replicas)
            except (NatsError, TimeoutError) as error:
                _log.warning("waiting for JetStream to make the streams", error=repr(error))
                await asyncio.sleep(_RETRY_SECONDS)
                reconnected.set()


async def _end(running: list[asyncio.Task[None]]) -> None:
    """Stop the parts, the last one started first, each whole before the next."""
    while running:
        await end(running.pop())


def run_node(settings: Settings, read_settings: Callable[[], Settings], log_format: LogFormat = "text") -> None:
    """Run a node in the foreground until SIGTERM or Ctrl-C; SIGHUP has its settings read again. Raises NodeFailed."""
    import uvloop

    # Keys of models are in its memory: none of it goes to a core file.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    configure_logging(log_format)
    uvloop.run(_serve(settings, read_settings, log_format))


async def _serve(settings: Settings, read_settings: Callable[[], Settings], log_format: LogFormat) -> None:
    begun = time.monotonic()
    stop, hangup = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    async with running_node(settings) as node:
        seconds = time.monotonic() - begun
        if log_format == "text":
            say_on_standard_error(greeting(settings, node.runtime["node_id"], node.runtime["http_url"], seconds))
        else:
            _log.info(
                "ready",
                node_id=node.runtime["node_id"],
                data_dir=str(settings.data_dir),
                http_url=node.runtime["http_url"],
                seconds=round(seconds, 3),
            )
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(_read_again(hangup, read_settings, node.parts))
            await stop.wait()
            await end(reading)
        _log.info("stopping")


async def _read_again(hangup: asyncio.Event, read_settings: Callable[[], Settings], parts: Parts) -> None:
    """On each hangup. Settings that cannot be used change nothing."""
    while True:
        await hangup.wait()
        hangup.clear()
        try:
            await parts.reconfigure(await asyncio.to_thread(read_settings))
        except SettingsError as error:
            _log.error("the settings stay as they were", error=str(error))
        else:
            _log.info("the settings have been read again")


def _first_line(group: BaseExceptionGroup[Exception]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
