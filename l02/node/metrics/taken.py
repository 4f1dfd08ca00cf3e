"""What agents take of the machine now, as it was seen last: by agent, or all together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from l02.domain.agent.resources import LiveUsage

_MAX_AGENTS = 10_000


def taken(live: Sequence[LiveUsage], *, agent_labels: bool) -> Iterator[Metric]:
    """Of agents that have a process at this node."""
    labels = ("agent_id",) if agent_labels else ()
    cpu = CounterMetricFamily(
        "agent_runtime_cpu_usage_seconds",
        "Seconds of processors that agents with a process here have used in their lives.",
        labels=labels,
    )
    memory = GaugeMetricFamily(
        "agent_runtime_memory_usage_bytes", "Resident memory of the processes of agents here.", labels=labels
    )
    if agent_labels:
        for usage in islice(live, _MAX_AGENTS):
            cpu.add_metric((usage.id,), usage.cpu_seconds)
            memory.add_metric((usage.id,), usage.memory_bytes)
    else:
        cpu.add_metric((), sum(usage.cpu_seconds for usage in live))
        memory.add_metric((), sum(usage.memory_bytes for usage in live))
    yield from (cpu, memory)
