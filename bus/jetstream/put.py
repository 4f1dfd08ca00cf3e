"""Storing a message in the place of the one that was seen there last, or not at all."""

from __future__ import annotations

from collections.abc import Mapping

from nats.js.errors import APIError

from l02.bus.connection.bus import Bus

UNEXPECTED_CODES = (10071, 10164)
"""JetStream's error codes for an expectation that does not hold."""
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"


def expecting(sequence: int, of: str | None = None) -> dict[str, str]:
    """The headers of a message that is stored only if the last one has this sequence (0: there is none).

    That is the last on its own subject, or on those of a filter.
    """
    expected = {_EXPECTED: str(sequence)}
    return expected if of is None else {**expected, f"{_EXPECTED}-Subject": of}


async def put(
    bus: Bus,
    subject: str,
    payload: bytes,
    *,
    after: int,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10.0,
) -> int | None:
    """Store a message after the one with sequence `after` on its subject (0: as the first).

    Returns its sequence; None if another is the last there. `timeout` is in seconds. Raises as `Requests.publish`.
    """
    try:
        ack = await bus.requests.publish(
            subject, payload, timeout=timeout, headers={**(headers or {}), **expecting(after)}
        )
    except APIError as error:
        if error.err_code not in UNEXPECTED_CODES:
            raise
        return None
    return ack.seq
