"""How a client finds the node it is to talk to, so that the command line and the Python client agree on it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from nats.errors import NoRespondersError
from nats.js.errors import APIError, NoStreamResponseError

from l02.bus.connection.bus import Bus, BusUnreachable, connect
from l02.bus.embedded.data_directory import DataDirectory
from l02.bus.embedded.errors import DataDirectoryError
from l02.bus.jetstream.history import HistoryUnreadable
from l02.bus.jetstream.pull import ConsumerError
from l02.data_dir import default_data_dir
from l02.domain.aggregates import AGGREGATES

NATS_URL_VARIABLE = "L02_NATS_URL"
POSTGRES_URL_VARIABLE = "L02_POSTGRES_URL"
_STREAM_NOT_FOUND = 10059


class NodeUnreachable(Exception):
    """No node, or no NATS server, answers; the message is one line that says what to do."""


def find_nats_url(nats_url: str | None = None, data_dir: str | Path | None = None) -> str:
    """The NATS server to talk to: as told, else `L02_NATS_URL`, else that of the default data directory's node.

    Raises NodeUnreachable if it comes to a data directory and no node is running there.
    """
    if nats_url is not None:
        return nats_url
    if data_dir is None and (url := os.environ.get(NATS_URL_VARIABLE)):
        return url
    return _of_running_node(data_dir, "nats_url")


@asynccontextmanager
async def connected(name: str, nats_url: str | None = None, data_dir: str | Path | None = None) -> AsyncIterator[Bus]:
    """A connection to what `find_nats_url` finds, as long as the context lasts. Raises NodeUnreachable."""
    try:
        async with connect(find_nats_url(nats_url, data_dir), name=name, aggregates=AGGREGATES) as bus:
            yield bus
    except BusUnreachable as error:
        raise NodeUnreachable(str(error)) from error


def find_postgres_url(data_dir: str | Path | None = None) -> str:
    """The PostgreSQL server that belongs to what `find_nats_url` finds; the two are never taken from different places.

    Raises NodeUnreachable.
    """
    if data_dir is not None or not os.environ.get(NATS_URL_VARIABLE):
        return _of_running_node(data_dir, "postgres_url")
    if url := os.environ.get(POSTGRES_URL_VARIABLE):
        return url
    raise NodeUnreachable(f"{NATS_URL_VARIABLE} is set: set {POSTGRES_URL_VARIABLE} too, or name the --data-dir")


def _of_running_node(data_dir: str | Path | None, name: str) -> str:
    directory = default_data_dir() if data_dir is None else Path(data_dir)
    try:
        url = DataDirectory.read_runtime_file(directory).get(name)
    except DataDirectoryError as error:
        raise NodeUnreachable(str(error)) from error
    if not isinstance(url, str):
        raise NodeUnreachable(f"{directory / 'l02.json'} has no {name}; stop that node and start it again")
    return url


@contextmanager
def reaching() -> Iterator[None]:
    """Say in one line, as NodeUnreachable, that what is read from JetStream is not there, or JetStream itself not."""
    try:
        yield
    except (APIError, NoStreamResponseError, NoRespondersError) as error:
        if isinstance(error, APIError) and error.err_code != _STREAM_NOT_FOUND:
            raise
        raise no_streams() from error
    except (ConsumerError, HistoryUnreadable) as error:
        raise NodeUnreachable(f"{error}; start a node on this NATS server with `l02 up`") from error
    except TimeoutError as error:
        raise NodeUnreachable("the NATS server's JetStream does not answer; see the server's log") from error


def no_streams() -> NodeUnreachable:
    """The server is there, but no node has ever used it."""
    return NodeUnreachable("the NATS server has none of l02's streams; start a node on it with `l02 up`")
