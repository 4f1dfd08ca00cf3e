"""Where the events of one aggregate are, named by each of its events for those before it.

The server finds the last event of an aggregate at once, and an event by its sequence; but the next of an aggregate it
finds by looking through all that others have stored in between. So an event carries a header with the sequences of
the last ones before it, and an aggregate's past is fetched backwards from its last event, a handful at a time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

TRAIL_HEADER = "L02-Trail"
TRAIL_EVENTS = 16
"""How many sequences are named: a dozen events between two snapshots, for some 120 bytes of each event."""

Trail = tuple[int, ...]

_FORM = re.compile(r"(?P<place>[0-9]{1,4})(?: (?P<earlier>[0-9]{1,20}(?:,[0-9]{1,20})*))?")


def extended(trail: Sequence[int], sequence: int) -> Trail:
    """The trail with one more event at its end."""
    return (*trail[1 - TRAIL_EVENTS :], sequence)


def trail_header(trail: Sequence[int], place: int) -> str:
    """The header's value for the event at `place` (from 0) of an append that follows on `trail`.

    What one append stores stands side by side, at sequences that are not known before: hence the place.
    """
    return f"{place} {','.join(map(str, trail))}" if trail else str(place)


def read_trail(headers: Mapping[str, str] | None, sequence: int) -> Trail | None:
    """The sequences of the events before that with `sequence`, ascending; empty if it is the aggregate's first.

    None if the event carries none: it was stored before there were trails, or not by the event store.
    """
    match = _FORM.fullmatch((headers or {}).get(TRAIL_HEADER, ""))
    if match is None:
        return None
    earlier = match["earlier"].split(",") if match["earlier"] else ()
    trail = (*map(int, earlier), *range(sequence - int(match["place"]), sequence))
    return trail if all(0 < before < after for before, after in pairwise((*trail, sequence))) else None
