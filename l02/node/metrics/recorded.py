"""What is counted as the node records it: what became of its agents and their checkpoints, what they have consumed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from msgspec import UNSET
from prometheus_client import CollectorRegistry, Counter, Histogram

from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from l02.domain.agent.execution import LostModelCall
from l02.domain.agent.life.restarts import AgentFailed
from l02.domain.agent.life.spawning import AgentSpawned, SpawnFailed
from l02.domain.agent.life.termination import AgentTerminated
from l02.domain.agent.saved.checkpoints import CheckpointCreated, CheckpointFailed
from l02.domain.agent.state import AgentState
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionFailed
from l02.domain.agent.work.models import ModelCalled, ModelRequested
from l02.domain.specification import RuntimeClass

_SPAWN_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_CHECKPOINT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0)
_CHECKPOINT_BYTES = tuple(2.0**n for n in range(10, 28, 2))  # 1 KiB to 64 MiB
# An agent's series goes when it ends; one that goes on at another node is not heard of here any more.
_MAX_AGENTS = 10_000


class Recorded:
    """Give `take` to the repository's `on_recorded`. `agent_labels` says whether agents are told apart."""

    def __init__(self, registry: CollectorRegistry, agents: Repository[AgentState], *, agent_labels: bool) -> None:
        self._agents = agents
        self._spawns = Counter(
            "agent_runtime_spawns_total",
            "Processes of agents that were to be started: status is success or failure.",
            ("status", "trust_level", "runtime_class"),
            registry=registry,
        )
        self._spawn_seconds = Histogram(
            "agent_runtime_spawn_duration_seconds",
            "From the decision to start a process to its being ready, by where it came from (cold).",
            ("source",),
            buckets=_SPAWN_SECONDS,
            registry=registry,
        )
        self._terminations = Counter(
            "agent_runtime_terminations_total",
            "Agents that are gone for good; failed: the runtime gave them up, else the reason of who terminated them.",
            ("reason",),
            registry=registry,
        )
        self._tokens = Counter(
            "agent_runtime_tokens_consumed_total",
            "Tokens that models have used, by their alias; without one: what went through the context of an execution "
            "that has asked no model, at its end.",
            ("agent_id", "model") if agent_labels else ("model",),
            registry=registry,
        )
        self._checkpoints = Counter(
            "agent_runtime_checkpoints_total",
            "Checkpoints that were to be stored: status is success or failure.",
            ("type", "status"),
            registry=registry,
        )
        self._checkpoint_seconds = Histogram(
            "agent_runtime_checkpoint_duration_seconds",
            "From the wish for a checkpoint being taken up to its being stored.",
            buckets=_CHECKPOINT_SECONDS,
            registry=registry,
        )
        self._checkpoint_bytes = Histogram(
            "agent_runtime_checkpoint_size_bytes",
            "What a stored checkpoint holds, before compression.",
            buckets=_CHECKPOINT_BYTES,
            registry=registry,
        )
        self._labelled: OrderedDict[str, set[str]] | None = OrderedDict() if agent_labels else None

    def take(self, recorded: RecordedEvent) -> None:
        """Count what this event says."""
        agent_id = recorded.aggregate.id
        match recorded.event:
            case AgentSpawned() as spawned:
                self._spawns.labels("success", spawned.trust_level, spawned.sandbox_type).inc()
                self._spawn_seconds.labels(spawned.source).observe(spawned.spawn_seconds)
            case SpawnFailed():
                self._spawn_failed(agent_id)
            case AgentTerminated(reason=reason):
                self._ended(agent_id, reason)
            case AgentFailed():
                self._ended(agent_id, "failed")
            case CheckpointCreated() as stored:
                self._checkpoints.labels(stored.checkpoint_type, "success").inc()
                self._checkpoint_seconds.observe(stored.duration_seconds)
                self._checkpoint_bytes.observe(stored.size_bytes)
            case CheckpointFailed(checkpoint_type=checkpoint_type):
                self._checkpoints.labels(checkpoint_type, "failure").inc()
            case ModelRequested(lost=LostModelCall() as lost):
                self._lost(agent_id, (lost,))
            case ModelCalled() as called:
                self._consumed(agent_id, called.alias, called.used.tokens)
                self._lost(agent_id, () if called.lost is UNSET else (called.lost,))
            case ExecutionCompleted() | ExecutionFailed() as end:
                if end.spent is UNSET:
                    self._consumed(agent_id, "", end.tokens)
                self._lost(agent_id, end.lost or ())

    def _spawn_failed(self, agent_id: str) -> None:
        loaded = self._agents.in_memory(agent_id)
        assert loaded is not None, "what this process has just recorded is in its memory"
        trust_level = loaded.state.specification.trust_level
        self._spawns.labels("failure", trust_level.value, RuntimeClass.of(trust_level).value).inc()

    def _ended(self, agent_id: str, reason: str) -> None:
        self._terminations.labels(reason).inc()
        if self._labelled is not None and agent_id in self._labelled:
            self._forget(agent_id, self._labelled.pop(agent_id))

    def _lost(self, agent_id: str, calls: Iterable[LostModelCall]) -> None:
        for call in calls:
            self._consumed(agent_id, call.alias, call.reserved.tokens)

    def _consumed(self, agent_id: str, model: str, tokens: int) -> None:
        if self._labelled is None:
            self._tokens.labels(model).inc(tokens)
            return
        self._tokens.labels(agent_id, model).inc(tokens)
        self._labelled.setdefault(agent_id, set()).add(model)
        self._labelled.move_to_end(agent_id)
        if len(self._labelled) > _MAX_AGENTS:
            self._forget(*self._labelled.popitem(last=False))

    def _forget(self, agent_id: str, models: set[str]) -> None:
        for model in models:
            self._tokens.remove(agent_id, model)
