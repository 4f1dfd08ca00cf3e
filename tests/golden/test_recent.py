"""An event that was read a moment ago is not taken apart again, and nothing else is taken for it."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from l02.bus.wire.codec import EventDecoder, RecordedEvent, UnreadableEvent
from l02.bus.wire.subjects import event_subject
from l02.domain.aggregates import AGGREGATES, EVENT_TYPES
from l02.projections.views.projector import LIVE_VIEWS
from tests.golden.samples import EVENTS, SAMPLES, file_name

TYPES = ("agent.signal.received", "agent.tool.called", "agent.spawned")
stored = {name: (EVENTS / file_name(name)).read_bytes() for name in TYPES}
ring = 1024

reads = st.tuples(
    st.sampled_from([*stored.values(), b"{}", stored[TYPES[0]].replace(b"approve", b"refuse!")]),
    st.sampled_from([1, 2, 1 + ring]),
    st.sampled_from([None, event_subject(SAMPLES[TYPES[0]].aggregate, TYPES[0])]),
)


def new_decoder() -> EventDecoder:
    return EventDecoder(AGGREGATES.values())


def read(decoder: EventDecoder, raw: bytes, sequence: int, subject: str | None) -> RecordedEvent | str:
    try:
        return decoder.decode(raw, sequence, subject)
    except UnreadableEvent as error:
        return error.message


@given(st.lists(reads, max_size=20))
@settings(max_examples=50, deadline=None)
def test_whatever_was_read_before_bytes_are_read_as_if_they_were_the_first(asked: list[tuple[Any, ...]]) -> None:
    decoder = new_decoder()
    for item in asked:
        assert read(decoder, *item) == read(new_decoder(), *item)


def test_the_same_again_is_the_very_same_event() -> None:
    raw = stored[TYPES[0]]
    decoder = new_decoder()
    assert decoder.decode(raw, 7) is decoder.decode(bytes(bytearray(raw)), 7)


def test_whoever_folds_an_event_leaves_it_as_it_was_for_the_next() -> None:
    for name in EVENT_TYPES:
        raw = (EVENTS / file_name(name)).read_bytes()
        shared = new_decoder().decode(raw, 7)
        for fold in LIVE_VIEWS.values():
            if fold.key_of(shared) is not None:
                fold.after(None, shared)
        assert msgspec.json.encode(shared) == msgspec.json.encode(new_decoder().decode(raw, 7))
