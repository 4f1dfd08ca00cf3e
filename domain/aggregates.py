"""The table of contents: every aggregate, by the topics its commands and events are written in."""

from __future__ import annotations

from typing import Any

from l02.domain.agent import resources, sessions
from l02.domain.agent.life import restarts, resuming, spawning, suspension, termination
from l02.domain.agent.saved import checkpoints, forks, restoring
from l02.domain.agent.state import AgentState
from l02.domain.agent.work import approvals, blocking, effects, executions, models, quotas, signals
from l02.domain.budget import configuring, granting, lending, resetting, watching
from l02.domain.budget.state import BudgetState
from l02.domain.kernel.aggregate import Aggregate, messages_of
from l02.domain.kernel.message import Event
from l02.domain.node import membership
from l02.domain.node.state import NodeState
from l02.domain.upcasting import UPCASTERS

AGENT: Aggregate[AgentState] = Aggregate(
    name="agent",
    initial_state=AgentState,
    exists=lambda agent: agent.exists,
    messages=messages_of(
        spawning,
        suspension,
        resuming,
        restarts,
        termination,
        executions,
        effects,
        approvals,
        models,
        blocking,
        quotas,
        signals,
        checkpoints,
        restoring,
        forks,
        resources,
        sessions,
    ),
    fold_version=3,
    absent="there is no such agent; `l02 ps` lists those that exist",
    upcasters=UPCASTERS,
)

NODE: Aggregate[NodeState] = Aggregate(
    name="node",
    initial_state=NodeState,
    exists=lambda node: node.exists,
    messages=messages_of(membership),
    fold_version=1,
    absent="there is no such node",
)

BUDGET: Aggregate[BudgetState] = Aggregate(
    name="budget",
    initial_state=BudgetState,
    exists=lambda budget: budget.exists,
    messages=messages_of(configuring, granting, resetting, lending, watching),
    fold_version=2,
    absent="there is no such budget; `l02 budget list` lists those that exist",
)

AGGREGATES: dict[str, Aggregate[Any]] = {
    aggregate.name: aggregate
    for aggregate in (
        AGENT,
        NODE,
        BUDGET,
    )
}

EVENT_TYPES: dict[str, type[Event]] = {
    event.type: event for aggregate in AGGREGATES.values() for event in aggregate.events
}
