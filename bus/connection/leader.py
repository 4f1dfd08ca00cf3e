"""Asking the leader of a stream. On a cluster any replica answers a read, and one that lags answers with the past.

A leader that was paused or cut off does not know at once that there is another. How long ago it heard from its
followers tells: without a word from their leader they wait four seconds at least before they choose another.

Two gaps are left, of milliseconds and of a second. A leader paused with an answer of its followers unread takes it for
fresh when it goes on; and one that a single follower has left for another leader learns so with its next heartbeat.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, NamedTuple

from nats.js.errors import APIError

from l02.bus.connection.bus import API_SECONDS, Bus, JetStreamNotReady, wanted

_NO_MESSAGE = 10037
_LEASE_NANOSECONDS = 3_500_000_000


class StoredMessage(NamedTuple):
    """A message as it stands in a stream."""

    subject: str
    sequence: int
    headers: Mapping[str, str]
    data: bytes


class StreamStanding(NamedTuple):
    """What the leader says of a stream: how many copies there are, its last sequence, and how many messages are on the
    subjects that were asked for.
    """

    replicas: int
    last_sequence: int
    messages: int


async def answer_of(
    bus: Bus, operation: str, request: Mapping[str, Any], *, within: float | None = API_SECONDS
) -> dict[str, Any]:
    """JetStream's answer to a request to its API that it carries out. Raises APIError, and as `Bus.api`."""
    answer = await bus.api(operation, request, within=within)
    if error := answer.get("error"):
        raise APIError.from_error(error)
    return answer


async def subjects_of(bus: Bus, stream: str, subject_filter: str) -> list[str]:
    """All subjects that have a message in the stream, however many. Raises APIError, and as `Bus.api`."""
    found: list[str] = []
    while True:
        request = {"subjects_filter": subject_filter, "offset": len(found)}
        info = await answer_of(bus, f"STREAM.INFO.{stream}", request)
        page = info["state"].get("subjects") or ()
        found += page
        if not page or len(found) >= info.get("total", 0):
            return found


async def message_from_leader(
    bus: Bus,
    stream: str,
    *,
    last_on: str | None = None,
    sequence: int = 0,
    next_on: str | None = None,
    within: float | None = API_SECONDS,
) -> StoredMessage | None:
    """The message that is `wanted`; None if there is none.

    A leader that does not know yet that there is another gives what it has: ask `standing_of` what there must be.
    Raises APIError, and as `Bus.api`.
    """
    request = wanted(sequence=sequence, last_on=last_on, next_on=next_on)
    answer = await bus.api(f"STREAM.MSG.GET.{stream}", request, within=within)
    if error := answer.get("error"):
        if error.get("err_code") == _NO_MESSAGE:
            return None
        raise APIError.from_error(error)
    message = answer["message"]
    return StoredMessage(
        subject=message["subject"],
        sequence=message["seq"],
        headers=_parse_headers(base64.b64decode(message.get("hdrs", ""))),
        data=base64.b64decode(message.get("data", "")),
    )


async def standing_of(
    bus: Bus, stream: str, subject_filter: str | None = None, *, within: float | None = API_SECONDS
) -> StreamStanding:
    """How the stream stands at its leader, which a majority of the copies has followed within the last seconds.

    Raises APIError, and as `Bus.api`.
    """
    request = {} if subject_filter is None else {"subjects_filter": subject_filter}
    info = await answer_of(bus, f"STREAM.INFO.{stream}", request, within=within)
    replicas = int(info["config"]["num_replicas"])
    if replicas > 1:
        others = info["cluster"].get("replicas") or []
        if info["cluster"].get("leader") in {None, *(peer["name"] for peer in others)}:
            raise JetStreamNotReady(f"stream {stream}: who answers has just ceased to be its leader")
        heard = sum(1 for peer in others if not peer.get("offline") and peer["active"] < _LEASE_NANOSECONDS)
        if 1 + heard <= replicas // 2:
            raise JetStreamNotReady(f"stream {stream}: {info['cluster'].get('leader')} has lost its followers")
    state = info["state"]
    return StreamStanding(replicas, int(state["last_seq"]), sum((state.get("subjects") or {}).values()))


async def last_on(bus: Bus, stream: str, subject: str) -> StoredMessage | None:
    """The last message on a subject, as the leader has it, who also says whether there must be one.

    Raises APIError, JetStreamNotReady, and as `Bus.api`.
    """
    if not (await standing_of(bus, stream, subject)).messages:
        return None
    message = await message_from_leader(bus, stream, last_on=subject)
    if message is None:
        raise JetStreamNotReady(f"what is on {subject} is stored; the leader changes")
    return message


def _parse_headers(raw: bytes) -> dict[str, str]:
    lines = raw.decode(errors="replace").split("\r\n")[1:]
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines) if name}
