"""What must be true of the log by itself, event by event: what no writer of the runtime ever breaks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from l02.bus.wire.codec import RecordedEvent
from l02.bus.wire.subjects import AggregateId
from l02.domain.aggregates import AGGREGATES
from l02.domain.kernel.aggregate import Aggregate
from l02.verify.difference import Difference, show

_HASH = re.compile(r"[0-9a-f]{32}")
_METADATA = {"causationid": "causation_id", "correlationid": "correlation_id", "actor": "actor"}


@dataclass(slots=True)
class _Held:
    """An aggregate as far as it was read. `state` stays where an event could not be applied to it."""

    state: Any
    version: int = 0
    awaited: set[str] = field(default_factory=set)


class Invariants:
    """The aggregates' states in memory, and 70 bytes for each command that was ever handled."""

    def __init__(self) -> None:
        self._aggregates: dict[AggregateId, _Held] = {}
        self._decided: set[int] = set()

    @property
    def aggregates(self) -> int:
        """How many there are."""
        return len(self._aggregates)

    def check(self, recorded: RecordedEvent) -> Iterator[Difference]:
        """Take the next event of the log; give what is wrong with it."""
        aggregate = AGGREGATES[recorded.aggregate.kind]
        held = self._aggregates.get(recorded.aggregate)
        if held is None:
            held = self._aggregates[recorded.aggregate] = _Held(aggregate.initial_state())
        yield from _check_envelope(recorded)
        yield from _check_version(held, recorded)
        yield from self._check_decision(recorded)
        yield from _check_awaited(held, recorded)
        yield from _evolve(aggregate, held, recorded)

    def _check_decision(self, recorded: RecordedEvent) -> Iterator[Difference]:
        """The hash stands on the first event of a command's decision, so its id has it once."""
        if recorded.metadata.command_hash is None:
            return
        command_id = recorded.metadata.causation_id
        decided = hash((recorded.aggregate, command_id))
        if decided in self._decided:
            yield _wrong(recorded, "causationid", None, command_id, f"command {command_id} was decided before")
        self._decided.add(decided)


def _wrong(recorded: RecordedEvent, name: str, expected: Any, found: Any, message: str) -> Difference:
    where, at = str(recorded.aggregate), recorded.sequence
    return Difference(
        place="events", key=where, sequence=at, message=message, field=name, expected=expected, found=found
    )


def _check_envelope(recorded: RecordedEvent) -> Iterator[Difference]:
    for name, attribute in _METADATA.items():
        if not getattr(recorded.metadata, attribute):
            yield _wrong(recorded, name, None, "", f"{name} is empty")
    command_hash = recorded.metadata.command_hash
    if command_hash is not None and not _HASH.fullmatch(command_hash):
        yield _wrong(recorded, "commandhash", None, command_hash, f"commandhash {show(command_hash)} is no hash")


def _check_version(held: _Held, recorded: RecordedEvent) -> Iterator[Difference]:
    expected, held.version = held.version + 1, recorded.version
    if recorded.version != expected:
        message = f"its version is {recorded.version}, after the event before it has to be {expected}"
        yield _wrong(recorded, "version", expected, recorded.version, message)


def _check_awaited(held: _Held, recorded: RecordedEvent) -> Iterator[Difference]:
    for command_id in getattr(recorded.event, "completes", ()):
        if command_id not in held.awaited:
            message = f"it completes command {show(command_id)}, which is not awaited, or was completed before"
            yield _wrong(recorded, "completes", None, command_id, message)
        held.awaited.discard(command_id)
    awaited_by = getattr(recorded.event, "awaited_by", None)
    if awaited_by is not None:
        held.awaited.add(awaited_by)


def _evolve(aggregate: Aggregate[Any], held: _Held, recorded: RecordedEvent) -> Iterator[Difference]:
    try:
        held.state = aggregate.evolve(held.state, recorded.event)
    except Exception as error:
        message = f"{recorded.event.type} cannot be applied to the state before it: {error!r}"
        yield _wrong(recorded, "data", None, None, message)
