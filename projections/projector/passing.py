"""Which errors pass by themselves, so that waiting is right, and which would only be hidden by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
from nats import errors as nats_errors
from nats.js.errors import APIError, NoStreamResponseError

from l02.bus.connection.bus import JetStreamNotReady

if TYPE_CHECKING:
    from l02.bus.connection.postgres import PgConnection

_PASSING = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shut down, starting up, backend terminated
    asyncpg.InsufficientResourcesError,  # connections, disk, memory
    asyncpg.TransactionRollbackError,  # deadlock, serialization
    asyncpg.ReadOnlySQLTransactionError,  # a standby, before it is promoted
    asyncpg.IdleInTransactionSessionTimeoutError,
    JetStreamNotReady,
    nats_errors.NoRespondersError,
    nats_errors.ConnectionReconnectingError,
    nats_errors.OutboundBufferLimitError,
    nats_errors.StaleConnectionError,
    nats_errors.UnexpectedEOF,
    NoStreamResponseError,
)


def is_passing(error: Exception, connection: PgConnection | None = None) -> bool:
    """Whether the error is the state of a server or of the network. `connection` is where it came from, if made."""
    if isinstance(error, APIError):
        return error.code is not None and error.code >= 500
    if isinstance(error, asyncpg.InternalClientError):
        return True  # a server that has said its last word and not yet hung up; the next connection is as good as new
    if isinstance(error, asyncpg.InterfaceError):
        gone = connection is None or connection.is_closed()
        return gone and not isinstance(error, ValueError)
    return isinstance(error, _PASSING)
