"""A node's metrics as one page of text."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Metric,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from l02.node.bootstrap import Parts
from l02.node.metrics.asked import Asked
from l02.node.metrics.recorded import Recorded
from l02.node.metrics.taken import taken


class NodeMetrics:
    """Counts from now on what the node records; the rest is asked for when somebody looks."""

    def __init__(self, parts: Parts, *, agent_labels: bool) -> None:
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        if parts.sessions is not None:
            self._registry.register(parts.sessions.latency)
        self._registry.register(parts.models.metrics)
        self._asked = Asked(parts)
        self._machine, self._agent_labels = parts.machine, agent_labels
        recorded = Recorded(self._registry, parts.agents, agent_labels=agent_labels)
        parts.agents.on_recorded(recorded.take)

    async def page(self) -> bytes:
        """All of them in Prometheus' text format."""
        families = [family async for family in self._asked.families()]
        asked = _Families([*families, *taken(self._machine.live, agent_labels=self._agent_labels)])
        return await asyncio.to_thread(lambda: generate_latest(self._registry) + generate_latest(asked))


class _Families(CollectorRegistry):
    """Metrics that are there already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
