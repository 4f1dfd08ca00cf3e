"""Connections to PostgreSQL: to the server that takes writes, whichever of the URL's hosts that is at the moment.

A standby lets people in as well, and so does a primary's former self. Whoever writes there is refused for ever, and
whoever only reads is told of the past. asyncpg can go through several hosts itself, but in one common time: a machine
that is gone without a word uses it up, and the others are never asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
from asyncpg.connect_utils import SessionAttribute

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

    PgConnection = Connection[Record]
    PgPool = Pool[Record]

UNANSWERED = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What a statement raises that was not carried out, or whose answer was lost."""
_CONNECT_SECONDS = 5.0
_ASK_THE_NEXT = (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError)


class NoPrimary(ConnectionError):
    """A server answers that only lets people read; it may be promoted soon."""


async def connect_to_primary(url: str, *, timeout: float = _CONNECT_SECONDS, **options: Any) -> PgConnection:
    """Connect to the first host of `url` that takes writes, with at most `timeout` seconds for each of them.

    `options` are those of `asyncpg.connect`. Raises what the last host has met: OSError (also TimeoutError and
    NoPrimary) or asyncpg's errors.
    """
    *others, last = _one_by_one(url)
    for one in others:
        try:
            return await _connect(one, timeout, options)
        except _ASK_THE_NEXT:
            continue
    return await _connect(last, timeout, options)


def pool_of_primary(url: str, *, size: int, command_timeout: float, server_settings: dict[str, str]) -> PgPool:
    """At most `size` such connections to borrow; to be awaited or entered, which raises what connecting does."""

    async def connect(dsn: str | None = url, **options: Any) -> PgConnection:
        return await connect_to_primary(url, **options)

    return asyncpg.create_pool(
        url,
        connect=connect,
        min_size=1,
        max_size=size,
        command_timeout=command_timeout,
        server_settings=server_settings,
    )


async def _connect(url: str, timeout: float, options: dict[str, Any]) -> PgConnection:
    try:
        connection: PgConnection = await asyncpg.connect(
            url, timeout=timeout, target_session_attrs=SessionAttribute.read_write, **options
        )
        return connection
    except asyncpg.TargetServerAttributeNotMatched as error:
        raise NoPrimary("PostgreSQL does not take writes here: it is a standby, or set to read only") from error


def _one_by_one(url: str) -> list[str]:
    """The same URL once for each host it names. Hosts in its query, and none at all, are left to asyncpg."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts:
        return [url]
    return [parts._replace(netloc=f"{user}{at}{host}").geturl() for host in hosts.split(",")]
