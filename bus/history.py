"""Reading what the event stream holds now: a bounded number of events, in one request, without a consumer."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from bus.codec import RecordedEvent, decode_event
from bus.connection import Bus
from bus.streams import EVENTS_STREAM

__all__ = ["HistoryUnreadable", "read_history"]

_ANSWER_SECONDS = 5.0


class HistoryUnreadable(Exception):
    """The server answered a read with an error."""


async def read_history(
    bus: Bus, subject_filter: str, *, after: int = 0, since: datetime | None = None, limit: int = 1000
) -> tuple[list[RecordedEvent], bool]:
    """Up to `limit` events of the subjects with a stream sequence above `after`; and whether there are more.

    `since` begins at a time instead. Raises TimeoutError if the server does not answer.
    """
    start: dict[str, Any] = {"seq": after + 1} if since is None else {"start_time": since}
    request = {**start, "next_by_subj": subject_filter, "batch": limit}
    inbox = bus.client.new_inbox()
    subscription = await bus.client.subscribe(inbox)
    try:
        await bus.client.publish(f"$JS.API.DIRECT.GET.{EVENTS_STREAM}", msgspec.json.encode(request), reply=inbox)
        events: list[RecordedEvent] = []
        while True:
            message = await subscription.next_msg(timeout=_ANSWER_SECONDS)
            headers = message.headers or {}
            match headers.get("Status"):
                case None:
                    events.append(decode_event(message.data, int(headers["Nats-Sequence"])))
                case "404":
                    return events, False
                case "204":
                    return events, int(headers.get("Nats-Num-Pending", "0")) > 0
                case status:
                    raise HistoryUnreadable(f"{subject_filter}: {status} {headers.get('Description')}")
    finally:
        if not bus.client.is_closed:
            await subscription.unsubscribe()
