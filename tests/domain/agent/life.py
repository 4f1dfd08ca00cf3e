"""An agent under any sequence of commands: how the machine sends and records, and what it does with checkpoints.

Apart from `test_life`, which has the rest of an agent's life and what is true of it.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from msgspec.structs import replace

from l02.domain.agent.execution import Journal
from l02.domain.agent.life.resuming import Resume
from l02.domain.agent.life.suspension import SuspendIdle
from l02.domain.agent.saved.checkpoints import Checkpoint, CheckpointRequested, ExpireCheckpoints
from l02.domain.agent.saved.forks import Fork
from l02.domain.agent.saved.restoring import CheckpointRestored, Restore, RestoreFailed
from l02.domain.agent.state import AgentState, StateChange
from l02.domain.aggregates import AGENT
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.message import Command, Event, Report, WireCommand, command_ids
from tests.domain.agent.story import checkpoint_created, checkpoint_failed
from tests.domain.given_when_then import context
from tests.domain.read_back import read_back

REFUSALS = {
    ErrorCode.COMMAND_INVALID,
    ErrorCode.AGGREGATE_NOT_FOUND,
    ErrorCode.INVALID_STATE,
    ErrorCode.RESTORE_FAILED,
    ErrorCode.NONDETERMINISTIC_AGENT,
}
values = st.sampled_from([1, None, "text", {"name": ["a", 0.5]}])
waits = st.sampled_from(["complete", "accepted"])
incarnations = st.sampled_from([0, 0, 0, -1, 1])
"""Relative to the agent's: mostly its own, sometimes one too old, or one it cannot have."""
choices = st.integers(0, 3)
calls = st.integers(1, 3)
names = st.sampled_from(["approve", "reject"])
changes = st.builds(
    StateChange, set=st.dictionaries(names, values, max_size=2), delete=st.lists(names, max_size=2).map(tuple)
)


def content(state: AgentState) -> Any:
    """What a checkpoint holds, but for the record that one was taken."""
    executions = [
        replace(
            execution, awaited_by=None, journal=Journal(one for one in execution.journal if one.kind != "checkpoint")
        )
        for execution in state.executions.values()
    ]
    return state.data, executions, state.signals


class CheckpointedLife(RuleBasedStateMachine):
    """Sends an agent commands, as its node and its users might in the worst of all orders."""

    def __init__(self) -> None:
        super().__init__()
        self.state = AGENT.initial_state()
        self.history: list[Event] = []
        self.awaited: list[str] = []
        self.completed: list[str] = []
        self.sent = 0
        self.at_revision: dict[int, Any] = {}

    def execution(self, choice: int) -> str:
        known = [*self.state.executions, "unknown"]
        return known[choice % len(known)]

    def node(self) -> str:
        """Nearly always the agent's own; what another one reports is refused."""
        return self.state.node_id if self.state.node_id and self.sent % 7 else "n1"

    def send(self, command: Command | Report, node_id: str | None = None, incarnation: int | None = None) -> None:
        self.sent += isinstance(command, WireCommand)
        now = context(f"c{self.sent}", node_id=node_id or f"n{self.sent % 3}", incarnation=incarnation)
        try:
            events = AGENT.decide(self.state, command, now)
        except Failure as failure:
            assert failure.code in REFUSALS
            return
        assert events == AGENT.decide(self.state, command, now), "deciding is no function of its arguments"
        for event in events:
            self.record(event)

    def record(self, event: Event) -> None:
        self.state = AGENT.evolve(self.state, event)
        self.at_revision.setdefault(self.state.revision, content(self.state))
        self.history.append(event)
        assert read_back(event) == event
        self.awaited.extend(command_ids(event.owed_to()))
        self.completed.extend(getattr(event, "completes", ()))

    def checkpoint_id(self, choice: int) -> str:
        known = [*self.state.checkpoints, *self.state.pending_checkpoints, "unknown"]
        return known[-1 - choice % len(known)]

    @rule(label=st.none() | names, wait=waits)
    def checkpoint(self, label: str | None, wait: Any) -> None:
        self.send(Checkpoint(label=label, wait=wait))

    @rule(choice=choices, call=calls, by_agent=st.booleans(), state=changes)
    def request_checkpoint(self, choice: int, call: int, by_agent: bool, state: StateChange) -> None:
        asked: dict[str, Any] = {"execution_id": self.execution(choice), "call": call} if by_agent else {}
        if by_agent and state != StateChange():
            asked["state"] = state
        checkpoint_id = f"k{self.sent}-{call}"
        self.send(CheckpointRequested(checkpoint_id=checkpoint_id, checkpoint_type="auto", node_id="n1", **asked))

    @rule(choice=choices, behind=st.integers(0, 1))
    def report_checkpoint_stored(self, choice: int, behind: int) -> None:
        revision = max(0, self.state.revision - behind)
        self.send(checkpoint_created(self.checkpoint_id(choice), revision))

    @rule(choice=choices)
    def report_checkpoint_failed(self, choice: int) -> None:
        self.send(checkpoint_failed(self.checkpoint_id(choice)))

    @rule(choice=choices, wait=waits)
    def restore(self, choice: int, wait: Any) -> None:
        self.send(Restore(checkpoint_id=self.checkpoint_id(choice), wait=wait))

    @rule(choice=choices, wait=waits)
    def resume_from(self, choice: int, wait: Any) -> None:
        self.send(Resume(checkpoint_id=self.checkpoint_id(choice), wait=wait))

    @rule(choice=choices, state=changes)
    def report_restored(self, choice: int, state: StateChange) -> None:
        wanted = self.state.restoring.checkpoint_id if self.state.restoring else self.checkpoint_id(choice)
        self.send(CheckpointRestored(checkpoint_id=wanted, restore_seconds=0.1, state=state.set))

    @rule(choice=choices)
    def report_restore_failed(self, choice: int) -> None:
        wanted = self.state.restoring.checkpoint_id if self.state.restoring else self.checkpoint_id(choice)
        self.send(RestoreFailed(checkpoint_id=wanted, code="E2032", message="no"))

    @rule(choice=choices, keep=st.integers(0, 2))
    def expire_checkpoints(self, choice: int, keep: int) -> None:
        self.send(ExpireCheckpoints(checkpoint_ids=(self.checkpoint_id(choice),), keep=keep))

    @rule(wait=waits, assume=st.sampled_from(["done", "not-done"]), choice=choices)
    def assume(self, wait: Any, assume: Any, choice: int) -> None:
        held = [*self.state.held, None]
        execution_id = held[choice % len(held)]
        self.send(Resume(assume=assume, execution_id=execution_id, wait=wait))

    @rule(off=incarnations)
    def suspend_idle(self, off: int) -> None:
        idle = SuspendIdle(revision=self.state.revision + off, checkpoint_id=f"i{self.sent}")
        self.send(idle, node_id="n1")

    @rule(wait=waits)
    def fork(self, wait: Any) -> None:
        """From itself, which is as good a past as any other's; it is refused but for an agent that is new."""
        self.send(Fork(from_agent_id="a1", wait=wait))
