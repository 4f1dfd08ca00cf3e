"""A log and its read models in step, events that no writer of the runtime would store, and the program itself."""

from __future__ import annotations

import os
from typing import Any

from l02.bus.connection.bus import Bus
from l02.bus.wire.codec import encode_event
from l02.bus.wire.subjects import AggregateId, event_subject
from l02.domain.kernel.message import Event, Metadata
from l02.projections.projector.progress import Progress
from l02.projections.tables.projector import TableProjector
from l02.projections.views.projector import ViewProjector
from l02.verify import Difference, Summary, verify
from tests.forked_cli import forked_cli
from tests.projections import history as h
from tests.projections.conftest import bus as bus
from tests.projections.conftest import tables as tables


async def project(bus: Bus, postgres_url: str, until: int) -> None:
    """Bring the tables and the live views to an event."""
    await TableProjector(bus, postgres_url, Progress()).run(until=until)
    await ViewProjector(bus, Progress()).run(until=until)


async def store(
    bus: Bus, event: Event, version: int, agent_id: str = "a1", subject: str | None = None, **changes: Any
) -> int:
    """Store an event as it is told, whatever is there; its sequence."""
    aggregate = AggregateId("agent", agent_id)
    metadata = Metadata(**{"causation_id": "c", "correlation_id": "c", "actor": "test", **changes})
    raw = encode_event(event, aggregate=aggregate, event_id="e", version=version, time=h.START, metadata=metadata)
    ack = await bus.publish(subject or event_subject(aggregate, event.type), raw)
    return ack.seq


async def found(bus: Bus, postgres_url: str, patience: float = 5.0) -> tuple[list[Difference], Summary]:
    """What a verification finds."""
    differences: list[Difference] = []
    summary = await verify(bus, postgres_url, differences.append, patience=patience)
    assert summary.differences == len(differences)
    return differences, summary


async def program(*words: str, **environment: str) -> tuple[int, str, str]:
    """Run `l02`; its exit code and what it printed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("L02_")}
    return await forked_cli(*words, environment=inherited | environment)
