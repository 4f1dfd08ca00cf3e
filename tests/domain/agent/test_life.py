"""Any sequence of commands, sensible or not: what is true of every agent, whatever happens to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import reduce
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from msgspec.structs import replace

from l02.domain.agent.life.restarts import AgentFailed, RecoverProcess, ReportExit, ReportSpawnFailed, RestartDue
from l02.domain.agent.life.resuming import Resume
from l02.domain.agent.life.spawning import AgentSpawned, Spawn, SpawnRequested
from l02.domain.agent.life.suspension import AgentResumed, Suspend
from l02.domain.agent.life.termination import AgentTerminated, Terminate
from l02.domain.agent.saved.checkpoints import CheckpointExpired
from l02.domain.agent.saved.forks import Fork, past_of
from l02.domain.agent.state import ResourceUsage, StateChange, Status
from l02.domain.agent.work.approvals import ApprovalRequested, Approve
from l02.domain.agent.work.effects import EffectRecorded, RecordedStep, StepsRecorded, ToolCalled, ToolRequested
from l02.domain.agent.work.executions import Execute, ExecutionCompleted, ExecutionDue, ExecutionFailed
from l02.domain.agent.work.signals import Signal
from l02.domain.aggregates import AGENT
from l02.domain.specification import AgentSpecification, ExecutorLimits, LifecycleLimits
from tests.domain.agent.life import (
    CheckpointedLife,
    calls,
    changes,
    choices,
    content,
    incarnations,
    names,
    values,
    waits,
)
from tests.domain.agent.story import spawned, terminated
from tests.domain.given_when_then import context

ENDED = (Status.TERMINATED, Status.FAILED)

specifications = st.builds(
    AgentSpecification,
    name=st.just("historian"),
    entrypoint=st.just("/agents/historian.py"),
    executor=st.builds(ExecutorLimits, max_queued_executions=st.integers(1, 4)),
    lifecycle=st.builds(
        LifecycleLimits,
        max_restart_count=st.integers(0, 3),
        restart_delay_seconds=st.lists(st.floats(0.5, 16.0), min_size=1, max_size=3).map(tuple),
    ),
)
usages = st.builds(ResourceUsage, tokens_consumed=st.integers(0, 1000))
effects = st.sampled_from(["now", "random", "sleep"])
signal_requests = st.fixed_dictionaries({"name": names}) | values


class AgentLife(CheckpointedLife):
    """Sends an agent commands, as its node and its users might in the worst of all orders."""

    @initialize(spec=specifications, wait=waits, stage=st.sampled_from([3, 3, 4, 4, 1, 1, 2, 0]))
    def begin(self, spec: AgentSpecification, wait: Any, stage: int) -> None:
        """Without help few of the sequences would get as far as an execution, or a crash in the middle of one."""
        steps: list[Callable[[], None]] = [
            lambda: self.send(Spawn(spec=spec, wait=wait)),
            lambda: self.report_spawned(0),
            lambda: self.execute("how many commits?", wait),
            lambda: self.report_exit(0, ResourceUsage()),
        ]
        for step in steps[:stage]:
            step()

    @rule(spec=specifications, wait=waits)
    def spawn(self, spec: AgentSpecification, wait: Any) -> None:
        self.send(Spawn(spec=spec, wait=wait))

    @rule(input_=values, wait=waits)
    def execute(self, input_: Any, wait: Any) -> None:
        self.send(Execute(input=input_, wait=wait))

    @rule(name=names, payload=values)
    def signal(self, name: str, payload: Any) -> None:
        self.send(Signal(name=name, payload=payload))

    @rule()
    def suspend(self) -> None:
        self.send(Suspend())

    @rule()
    def resume(self) -> None:
        self.send(Resume())

    @rule(wait=waits)
    def terminate(self, wait: Any) -> None:
        self.send(Terminate(wait=wait))

    @rule(off=incarnations)
    def restart(self, off: int) -> None:
        self.send(RestartDue(attempt=self.state.restart_attempt + off))

    @rule(choice=choices, deadline=st.sampled_from([60.0, 60.0, 59.0, 61.0]))
    def execution_due(self, choice: int, deadline: float) -> None:
        self.send(ExecutionDue(execution_id=self.execution(choice), deadline=deadline))

    @rule(off=incarnations)
    def report_spawned(self, off: int) -> None:
        self.send(spawned(self.state.incarnation + off, session_id=f"s{self.sent}"))

    @rule(off=incarnations, permanent=st.sampled_from([False, False, False, True]))
    def report_spawn_failed(self, off: int, permanent: bool) -> None:
        incarnation = self.state.incarnation + off
        self.send(ReportSpawnFailed(incarnation=incarnation, code="E2020", message="no", permanent=permanent))

    @rule(off=incarnations, usage=usages)
    def report_exit(self, off: int, usage: ResourceUsage) -> None:
        self.send(ReportExit(incarnation=self.state.incarnation + off, cause="killed", usage=usage))

    @rule(to=st.sampled_from(["n1", "n2"]))
    def recover_process(self, to: str) -> None:
        self.send(RecoverProcess(lost_node_id=self.node(), cause="its node is lost"), node_id=to)

    @rule(usage=usages)
    def report_terminated(self, usage: ResourceUsage) -> None:
        self.send(replace(terminated(), resource_usage=usage))

    @rule(choice=choices, call=calls, arguments=values)
    def request_tool(self, choice: int, call: int, arguments: Any) -> None:
        self.send(
            ToolRequested(execution_id=self.execution(choice), call=call, tool="t", arguments=arguments),
            node_id=self.node(),
        )

    @rule(choice=choices, call=calls, arguments=values)
    def ask_a_person(self, choice: int, call: int, arguments: Any) -> None:
        execution_id = self.execution(choice)
        asked = ApprovalRequested(execution_id=execution_id, call=call, server="s", tool="t", arguments=arguments)
        self.send(asked, node_id=self.node())

    @rule(choice=choices, call=calls, granted=st.booleans())
    def approve(self, choice: int, call: int, granted: bool) -> None:
        self.send(Approve(execution_id=self.execution(choice), call=call, granted=granted))

    @rule(choice=choices, call=calls, ok=st.booleans(), result=values)
    def record_tool(self, choice: int, call: int, ok: bool, result: Any) -> None:
        self.send(
            ToolCalled(
                execution_id=self.execution(choice),
                call=call,
                tool="t",
                arguments={},
                ok=ok,
                result=result,
                attempts=1,
                duration_seconds=0.1,
            ),
            node_id=self.node(),
        )

    @rule(choice=choices, call=calls, kind=effects, result=values, done=st.booleans())
    def record_effect(self, choice: int, call: int, kind: str, result: Any, done: bool) -> None:
        self.send(
            EffectRecorded(
                execution_id=self.execution(choice),
                call=call,
                kind=kind,
                request=None,
                result=result,
                done=done,
                deadline=None if done else 9.0,
            ),
            node_id=self.node(),
        )

    @rule(choice=choices, call=calls, kind=st.sampled_from(["now", "thread"]), result=values, off=incarnations)
    def record_steps(self, choice: int, call: int, kind: str, result: Any, off: int) -> None:
        """Of the agent's process, an earlier or a later one."""
        steps = (
            RecordedStep(call=call, kind=kind, after=0, result=result),
            RecordedStep(call=call + 1, kind="tool", after=0, tool="t", arguments={}, result=result),
        )
        before = self.state
        self.send(
            StepsRecorded(execution_id=self.execution(choice), steps=steps),
            node_id=self.node(),
            incarnation=self.state.incarnation + off,
        )
        assert off == 0 or self.state is before, "only the process that there is says what it did"

    @rule(choice=choices, call=calls, request=signal_requests, in_time=st.booleans())
    def take_signal(self, choice: int, call: int, request: Any, in_time: bool) -> None:
        result = {"payload": 1} if in_time else None
        execution_id = self.execution(choice)
        self.send(
            EffectRecorded(execution_id=execution_id, call=call, kind="signal", request=request, result=result),
            node_id=self.node(),
        )

    @rule(choice=choices, output=values, state=changes)
    def complete_execution(self, choice: int, output: Any, state: StateChange) -> None:
        self.send(
            ExecutionCompleted(
                execution_id=self.execution(choice),
                output=output,
                tokens=7,
                duration_seconds=1.0,
                calls=1,
                state=state,
            ),
            node_id=self.node(),
        )

    @rule(choice=choices, held=st.booleans())
    def fail_execution(self, choice: int, held: bool) -> None:
        execution_id = self.execution(choice)
        self.send(
            ExecutionFailed(execution_id=execution_id, code="E2005", message="no", held=held), node_id=self.node()
        )

    @invariant()
    def the_state_is_the_fold_of_the_events(self) -> None:
        assert reduce(AGENT.evolve, self.history, AGENT.initial_state()) == self.state

    @invariant()
    def each_awaited_command_is_completed_at_most_once(self) -> None:
        assert len(set(self.completed)) == len(self.completed)
        assert set(self.completed) <= set(self.awaited)

    @invariant()
    def what_is_still_owed_is_known(self) -> None:
        owed = {execution.awaited_by for execution in self.state.executions.values()}
        owed |= {self.state.spawn_awaited_by, *self.state.termination_awaited_by}
        owed |= {pending.awaited_by for pending in self.state.pending_checkpoints.values()}
        owed |= {self.state.restoring.awaited_by} if self.state.restoring else set()
        assert owed - {None} == set(self.awaited) - set(self.completed)

    @invariant()
    def the_state_is_a_defined_one(self) -> None:
        state = self.state
        assert (state.status is Status.NEW) == (not self.history)
        assert state.process_ready == (state.status is Status.RUNNING)
        assert not state.restart_pending or state.status is Status.PENDING
        assert not state.restart_pending or state.restart_attempt > 0, "no timer could ever be due"
        assert state.status is Status.NEW or state.restart_attempt <= state.specification.lifecycle.max_restart_count
        assert state.status is not Status.TERMINATED or state.terminating is not None
        if state.status in ENDED:
            assert state.executions == {}
            assert state.signals == ()
            assert state.held == {}
            assert state.pending_checkpoints == {}
            assert state.restoring is None
        assert not state.sleeps or state.executions == {}, "it sleeps though there is work"
        assert not state.executions.keys() & state.held.keys()
        assert not state.checkpoints.keys() & state.pending_checkpoints.keys()

    @invariant()
    def incarnations_count_up(self) -> None:
        given = [event.incarnation for event in self.history if isinstance(event, SpawnRequested | AgentResumed)]
        assert given == list(range(1, self.state.incarnation + 1))

    @invariant()
    def the_process_is_of_the_present_incarnation(self) -> None:
        spawned = [event.incarnation for event in self.history if isinstance(event, AgentSpawned)]
        assert len(set(spawned)) == len(spawned)
        assert not self.state.process_ready or spawned[-1] == self.state.incarnation

    @invariant()
    def each_call_is_recorded_once(self) -> None:
        results = [event for event in self.history if isinstance(event, ToolCalled | EffectRecorded)]
        recorded = Counter((event.execution_id, event.call) for event in results if getattr(event, "done", True))
        assert set(recorded.values()) <= {1}

    @invariant()
    def every_token_counts_once(self) -> None:
        completed = [event.tokens for event in self.history if isinstance(event, ExecutionCompleted)]
        assert self.state.usage.tokens_consumed == sum(completed)

    @invariant()
    def nothing_but_expiry_follows_the_end(self) -> None:
        history = [event for event in self.history if not isinstance(event, CheckpointExpired)]
        ends = [at for at, event in enumerate(history) if isinstance(event, AgentTerminated | AgentFailed)]
        assert ends == ([len(history) - 1] if self.state.status in ENDED else [])

    @invariant()
    def a_fork_begins_as_the_agent_is(self) -> None:
        """Whatever has happened: what a fork takes over is what it then has."""
        if self.state.spec is None:
            return
        past = past_of(self.state, len(self.history), len(self.history))
        events = AGENT.decide(AGENT.initial_state(), Fork(from_agent_id="a1").of(past, context()), context())
        forked = reduce(AGENT.evolve, events, AGENT.initial_state())
        assert past_of(forked, past.version, past.sequence) == past

    @invariant()
    def an_unchanged_agent_is_as_its_checkpoint_holds_it(self) -> None:
        kept = self.state.unchanged_since
        assert kept is None or self.at_revision[kept.revision] == content(self.state)


TestAgentLife = AgentLife.TestCase
TestAgentLife.settings = settings(max_examples=100, stateful_step_count=50)
