"""Which trace an event belongs to that the runtime records of its own accord: that of the command it goes back to.

A client's `traceparent` comes with its command. What follows from the command is recorded later, by other tasks and
other nodes, which know the command's id (the correlation). What goes back to no command, as that a process has ended or
another node has taken the agent over, belongs to the trace in which the aggregate came to be.
"""

from __future__ import annotations

import re

from l02.bus.wire.codec import RecordedEvent

_W3C = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_NEWEST = 64


def valid_traceparent(text: str | None) -> str | None:
    """The value if it is one by W3C Trace Context; anything else is dropped, as the standard asks."""
    return text if text is not None and _W3C.fullmatch(text) else None


class Traces:
    """Of one aggregate: its own, and those of its newest commands that had one, by correlation."""

    __slots__ = ("newest", "own")

    def __init__(self, own: str | None = None, newest: dict[str, str] | None = None) -> None:
        self.own = own
        self.newest = {} if newest is None else newest

    def copy(self) -> Traces:
        """One that does not change with this one."""
        return Traces(self.own, dict(self.newest))

    def note(self, item: RecordedEvent) -> None:
        """Take in the aggregate's next event."""
        traceparent, correlation_id = item.metadata.traceparent, item.metadata.correlation_id
        if item.version == 1:
            self.own = traceparent
        if traceparent is not None:
            self.newest.pop(correlation_id, None)
            self.newest[correlation_id] = traceparent
            if len(self.newest) > _NEWEST:
                del self.newest[next(iter(self.newest))]
