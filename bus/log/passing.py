"""Which errors are the server's absence, so that waiting is right, and not the fault of what is being handled."""

from __future__ import annotations

from nats.errors import BadSubjectError, MaxPayloadError
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from l02.bus.log.event_store import EventStoreSilent

_LATER_CODES = (409, 429)  # an id is just being stored; too much is under way


def is_passing(error: Exception) -> bool:
    """Whether the error passes by itself: JetStream is away, or late, or choosing a leader."""
    if isinstance(error, APIError):
        return error.code is not None and (error.code >= 500 or error.code in _LATER_CODES)
    never = isinstance(error, MaxPayloadError | BadSubjectError)
    return isinstance(error, NatsError | TimeoutError | EventStoreSilent) and not never
