"""Events of agents as they come out of the runtime, made without it: what the projections are tested with."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec

from l02.bus.connection.bus import Bus
from l02.bus.wire.codec import RecordedEvent, encode_event
from l02.bus.wire.subjects import AggregateId, event_subject
from l02.domain.agent.life.spawning import AgentSpawned, SpawnRequested
from l02.domain.agent.life.termination import AgentTerminated
from l02.domain.agent.saved.checkpoints import CheckpointRequested
from l02.domain.agent.saved.restoring import RestoreRequested
from l02.domain.agent.state import ResourceUsage
from l02.domain.agent.work.effects import EffectRecorded, RecordedStep, StepsRecorded, ToolCalled
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionFailed, ExecutionStarted
from l02.domain.kernel.message import Event, Metadata
from l02.domain.specification import AgentSpecification, ResourceLimits, TrustLevel
from tests.golden.models import LOST, MODEL_CALLED

START = datetime(2026, 1, 1, tzinfo=UTC)
METADATA = Metadata(causation_id="c", correlation_id="c", actor="test")
_PUBLISHES_IN_FLIGHT = 256


def specification(name: str = "historian") -> AgentSpecification:
    return AgentSpecification(
        name=name, entrypoint="/agents/historian.py", trust_level=TrustLevel.STANDARD, fleet="archive"
    )


def spawn_requested(node_id: str = "n1", incarnation: int = 1, name: str = "historian") -> SpawnRequested:
    return SpawnRequested(
        spec=specification(name), requested_by="test", node_id=node_id, incarnation=incarnation, fleet_id="archive"
    )


def spawned(agent_id: str = "a1", node_id: str = "n1", incarnation: int = 1) -> AgentSpawned:
    return AgentSpawned(
        agent_id=agent_id,
        session_id=f"s-{agent_id}",
        node_id=node_id,
        sandbox_type="landlock",
        trust_level="standard",
        resource_limits=ResourceLimits(),
        source="cold",
        spawn_seconds=0.12,
        incarnation=incarnation,
        pid=4711,
    )


def started(execution_id: str, question: object = "how many commits?") -> ExecutionStarted:
    return ExecutionStarted(execution_id=execution_id, input=question)


def tool_called(execution_id: str, call: int, ok: bool = True) -> ToolCalled:
    return ToolCalled(
        execution_id=execution_id,
        call=call,
        tool="git_log",
        arguments={"max_count": 5},
        ok=ok,
        result=["one", "two"],
        attempts=1,
        duration_seconds=0.25,
    )


def steps_recorded(execution_id: str, call: int) -> StepsRecorded:
    """Three calls, two of them tools', and a thread."""
    steps = (
        RecordedStep(call=call, kind="tool", after=0, tool="count_words", arguments={"text": "x"}, result=1),
        RecordedStep(call=call + 1, kind="now", after=0, result=1000.5),
        RecordedStep(
            call=call + 2, kind="tool", after=0, tool="count_words", arguments={}, ok=False,
            result={"code": "E2002", "message": "no answer within 1 s"},
        ),
        RecordedStep(call=1, kind="thread", after=0),
    )  # fmt: skip
    return StepsRecorded(execution_id=execution_id, steps=steps)


def slept(execution_id: str, call: int, done: bool) -> EffectRecorded:
    return EffectRecorded(
        execution_id=execution_id, call=call, kind="sleep", request={"seconds": 1.5}, result=None, done=done
    )


def completed(execution_id: str, output: object = "5 commits", calls: int = 2) -> ExecutionCompleted:
    return ExecutionCompleted(execution_id=execution_id, output=output, tokens=30, duration_seconds=1.75, calls=calls)


def failed(execution_id: str) -> ExecutionFailed:
    return ExecutionFailed(execution_id=execution_id, code="E2002", message="git_log took too long")


def checkpoint_requested(checkpoint_id: str, node_id: str) -> CheckpointRequested:
    return CheckpointRequested(checkpoint_id=checkpoint_id, checkpoint_type="manual", node_id=node_id)


def restore_requested(checkpoint_id: str, node_id: str) -> RestoreRequested:
    return RestoreRequested(
        checkpoint_id=checkpoint_id,
        storage_location="x",
        sha256="x",
        node_id=node_id,
        resume=False,
        requested_by="test",
    )


def terminated() -> AgentTerminated:
    usage = ResourceUsage(cpu_seconds=1.5, memory_peak_bytes=1 << 20, tokens_consumed=60)
    return AgentTerminated(session_id="s-a1", reason="user_request", resource_usage=usage, duration_seconds=9.0)


def recorded(events: Sequence[Event], agent_id: str = "a1", first_sequence: int = 1) -> list[RecordedEvent]:
    """One agent's events as they would be read: a second apart, with consecutive sequences."""
    return [
        RecordedEvent(
            event=event,
            aggregate=AggregateId("agent", agent_id),
            event_id=f"{agent_id}-{index}",
            version=index,
            sequence=first_sequence + index - 1,
            time=START + timedelta(seconds=index - 1),
            metadata=METADATA,
        )
        for index, event in enumerate(events, start=1)
    ]


@dataclass
class History:
    """Any number of agents at work, interleaved at random but always the same for the same seed."""

    agents: int
    seed: int = 0
    prefix: str = "a"
    _versions: dict[str, int] = field(default_factory=dict)

    def events(self, count: int) -> Iterator[tuple[str, bytes]]:
        """`count` events as subject and payload. Calling again goes on where the last call stopped."""
        chosen = random.Random(f"{self.seed}/{sum(self._versions.values())}")
        for _ in range(count):
            agent_id = f"{self.prefix}{chosen.randrange(self.agents)}"
            version = self._versions.get(agent_id, 0) + 1
            self._versions[agent_id] = version
            event = _event_of(agent_id, version)
            yield _encode(agent_id, version, event, _command(event) or METADATA)


def _event_of(agent_id: str, version: int) -> Event:
    """A life: spawn, then executions of five events, every third of which fails, and some of which ask models."""
    if version <= 2:
        return spawn_requested() if version == 1 else spawned(agent_id)
    number, step = divmod(version - 3, 5)
    execution_id = f"{agent_id}-{number}"
    last: Event = failed(execution_id) if number % 3 == 2 else completed(execution_id)
    worked: Event = steps_recorded(execution_id, 2) if number % 2 else tool_called(execution_id, 0)
    if number % 4 == 2:
        worked = msgspec.structs.replace(MODEL_CALLED, execution_id=execution_id, again=False)
        last = msgspec.structs.replace(failed(execution_id), lost=(LOST,))
    return (started(execution_id), worked, slept(execution_id, 1, False),
            slept(execution_id, 1, True), last)[step]  # fmt: skip


def _command(event: Event) -> Metadata | None:
    """Whose effect it is, if it comes from outside: each execution has a command of its own."""
    if not isinstance(event, ExecutionStarted):
        return None
    command_id = event.execution_id
    digest = hashlib.sha256(command_id.encode()).hexdigest()[:32]
    return Metadata(causation_id=command_id, correlation_id=command_id, actor="test", command_hash=digest)


def _encode(agent_id: str, version: int, event: Event, metadata: Metadata = METADATA) -> tuple[str, bytes]:
    aggregate = AggregateId("agent", agent_id)
    time = START + timedelta(seconds=version)
    event_id = f"{agent_id}-{version}"
    payload = encode_event(event, aggregate=aggregate, event_id=event_id, version=version, time=time, metadata=metadata)
    return event_subject(aggregate, event.type), payload


async def append(bus: Bus, messages: Sequence[tuple[str, bytes]]) -> int:
    """Store the messages in their order; the sequence of the last one."""
    sequence = 0
    for begin in range(0, len(messages), _PUBLISHES_IN_FLIGHT):
        chunk = messages[begin : begin + _PUBLISHES_IN_FLIGHT]
        acks = await asyncio.gather(*(bus.jetstream.publish(subject, payload) for subject, payload in chunk))
        sequence = acks[-1].seq
    return sequence


async def append_events(bus: Bus, events: Sequence[Event], agent_id: str = "a1", first_version: int = 1) -> int:
    """Store one agent's events; the sequence of the last one."""
    return await append(
        bus, [_encode(agent_id, version, event) for version, event in enumerate(events, start=first_version)]
    )
