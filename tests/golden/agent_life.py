"""A life of an agent in which everything happens, for what must hold whatever has happened."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from l02.domain.agent.work.effects import EffectRecorded
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionFailed, ExecutionStarted
from l02.domain.agent.work.signals import SignalReceived
from l02.domain.kernel.message import Event
from tests.golden.samples import SAMPLES


def agent_life() -> list[Event]:
    """One event of each type, in an order in which they can happen, on values that are hard to keep."""
    samples = {name: sample.event for name, sample in SAMPLES.items() if name.startswith("agent.")}
    execution_id = getattr(samples["agent.execution.started"], "execution_id")  # noqa: B009
    hard = {"large": 2**80, "tiny": 5e-324, "text": "\u2028\x00é😀", "nested": [[{}], None, -0.0, 1e300], "": ""}
    done = EffectRecorded(execution_id=execution_id, call=1, kind="random", request=hard, done=True, result=hard)
    waiting = EffectRecorded(
        execution_id=execution_id, call=2, kind="sleep", request={}, done=False, result=None, deadline=1.5
    )
    names = ["agent.spawn.requested", "agent.spawned", "agent.execution.started", "agent.tool.requested"]
    rest = [name for name in samples if name not in (*names, "agent.effect.recorded")]
    rest.sort(key=lambda name: ("terminated" in name, "reopened" in name, "execution" in name, "failed" in name))
    last = [ExecutionStarted(execution_id="z", input=hard), SignalReceived(name="s", payload=hard)]
    begin = [_replace_execution(samples[name], execution_id) for name in names]
    return [*begin, done, waiting, *(_replace_execution(samples[name], execution_id) for name in rest), *last]


def _replace_execution(event: Event, execution_id: str) -> Event:
    if "execution_id" not in event.__struct_fields__:
        return event
    nothing_lost = {"spent": UNSET, "lost": UNSET} if isinstance(event, ExecutionCompleted | ExecutionFailed) else {}
    return msgspec.structs.replace(event, execution_id=execution_id, **nothing_lost)
