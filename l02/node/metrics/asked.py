"""What is asked for when somebody looks: how far behind consumers and projections are, and what there is now.

A server that is away makes its figures missing, which Prometheus shows as a gap, and never the whole page late.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import structlog
from nats.errors import Error as NatsError
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from l02.bus.connection.streams import DEAD_STREAM
from l02.bus.jetstream.pull import ConsumerError, consumer_info
from l02.bus.log.reader import last_sequence
from l02.node.bootstrap import Parts

_SECONDS = 2.0
_MAX_BUDGETS = 1000
_AWAY = (NatsError, ConsumerError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
_log = structlog.get_logger()


class Asked:
    """Asks the servers and the parts of a node."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._bus = parts.bus

    async def families(self) -> AsyncIterator[Metric]:
        """The metrics, within two seconds."""
        asking = (
            self._lag_of_handlers,
            self._lag_of_projections,
            self._dead_letters_kept,
            self._active_agents,
            self._budgets_remaining,
        )
        for family in await asyncio.gather(*map(_within_time, asking)):
            if family is not None:
                yield family
        yield self._halted()
        yield GaugeMetricFamily(
            "agent_runtime_spawn_queue_depth",
            "Processes of agents that are asked for and not ready yet.",
            value=self._parts.lifecycle.starting,
        )
        tally = self._bus.tally
        for name, description, label, counts in (
            (
                "agent_runtime_consumer_redeliveries",
                "Messages that a handler was given again.",
                "handler",
                _by_handler(tally.redeliveries),
            ),
            (
                "agent_runtime_command_outcomes",
                "Outcomes of commands that this node has said, by error code; ok: none.",
                "code",
                tally.outcomes,
            ),
            (
                "agent_runtime_dead_letters",
                "Messages that this node has put among the dead letters, by the handler that failed on them.",
                "handler",
                _by_handler(tally.parked),
            ),
        ):
            yield _counter(name, description, label, counts)

    async def _lag_of_handlers(self) -> Metric:
        lag: Counter[str] = Counter()
        for name, stream in [*self._bus.tally.consumers.items()]:
            info = await consumer_info(self._bus, stream, name)
            if info is not None and name == self._parts.reader.name:
                lag.update(self._parts.reader.lag(info["num_pending"]))
            elif info is not None:
                lag[name] = info["num_pending"] + info["num_ack_pending"]
        lag.update(self._parts.partitions.in_hand)
        for name in _by_handler(lag).keys() & self._bus.tally.unread.keys():
            lag[name] += self._bus.tally.unread[name]
        return _gauge(
            "agent_runtime_consumer_lag",
            "Messages that a handler has not been given yet, or not dealt with yet.",
            "handler",
            _by_handler(lag),
        )

    async def _lag_of_projections(self) -> Metric:
        positions = self._parts.progress.positions
        newest = await last_sequence(self._bus)
        lag = Counter({name: max(newest - position, 0) for name, position in positions.items()})
        return _gauge(
            "agent_runtime_projection_lag",
            "Events that a table or the live views do not reflect yet.",
            "projection",
            lag,
        )

    async def _dead_letters_kept(self) -> Metric:
        info = await self._bus.jetstream.stream_info(DEAD_STREAM)
        return GaugeMetricFamily(
            "agent_runtime_dead_letters_kept", "Messages among the dead letters now.", value=info.state.messages
        )

    async def _active_agents(self) -> Metric:
        family = GaugeMetricFamily(
            "agent_runtime_active_agents",
            "Agents of this node that are not gone for good.",
            labels=("trust_level", "state"),
        )
        for labels, count in (await self._parts.read_model.count_agents(self._parts.node_id)).items():
            family.add_metric(labels, count)
        return family

    async def _budgets_remaining(self) -> Metric:
        family = GaugeMetricFamily(
            "agent_runtime_token_budget_remaining",
            "What is left of budgets and not reserved: tokens, or USD of limits that are costs; of the first 1,000.",
            labels=("budget", "limit"),
        )
        for budget in await self._parts.read_model.list_budgets(limit=_MAX_BUDGETS):
            for limit, found in budget.spent.items():
                if found.left is not None:
                    family.add_metric((budget.id, limit), found.left)
        return family

    def _halted(self) -> Metric:
        progress = self._parts.progress
        halted = Counter({name: int(name in progress.halted) for name in {**progress.positions, **progress.halted}})
        return _gauge(
            "agent_runtime_projection_halted", "1 if a projection cannot go on; /readyz says why.", "projection", halted
        )


async def _within_time(ask: Callable[[], Awaitable[Metric]]) -> Metric | None:
    try:
        async with asyncio.timeout(_SECONDS):
            return await ask()
    except _AWAY as error:
        _log.warning("a metric is missing", metric=ask.__name__.strip("_"), error=repr(error))
        return None


def _by_handler(counts: Counter[str]) -> Counter[str]:
    """A handler's consumer has its name, and behind a dash what part of it this one is for (a node, a turn)."""
    handlers: Counter[str] = Counter()
    for consumer, count in counts.items():
        handlers[consumer.partition("-")[0]] += count
    return handlers


def _gauge(name: str, description: str, label: str, values: Counter[str]) -> Metric:
    return _with_values(GaugeMetricFamily(name, description, labels=(label,)), values)


def _counter(name: str, description: str, label: str, values: Counter[str]) -> Metric:
    return _with_values(CounterMetricFamily(name, description, labels=(label,)), values)


def _with_values(family: GaugeMetricFamily | CounterMetricFamily, values: Counter[str]) -> Metric:
    for value, count in sorted(values.items()):
        family.add_metric((value,), count)
    return family
