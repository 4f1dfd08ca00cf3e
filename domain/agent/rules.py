"""What all decisions about an agent have in common."""

from __future__ import annotations

from typing import NoReturn

from msgspec import UNSET, UnsetType

from l02.domain.agent import events as e
from l02.domain.agent.state import AgentState, Status
from l02.domain.errors import ErrorCode, Failure
from l02.domain.message import Command
from l02.domain.specification import AgentSpecification

__all__ = ["ENDED", "another_process", "command_ids", "counts_as_restart", "deadline", "is_live", "refuse", "resumed"]

ENDED = (Status.TERMINATED, Status.FAILED)


def refuse(state: AgentState, command: Command, advice: str) -> NoReturn:
    """Refuse a command that makes no sense in the present state (E2112)."""
    shown = "terminating" if state.terminating and state.status not in ENDED else state.status.value
    raise Failure(ErrorCode.INVALID_STATE, f"cannot {command.verb} an agent that is {shown}; {advice}")


def is_live(state: AgentState) -> bool:
    """Whether the agent takes commands at all."""
    return state.status not in ENDED and state.terminating is None


def command_ids(*command_ids: str | None) -> tuple[str, ...]:
    """Those command ids that are owed an outcome."""
    return tuple(command_id for command_id in command_ids if command_id is not None)


def deadline(specification: AgentSpecification, begins: float) -> float | UnsetType:
    """When work must have ended whose time `begins` then; both in seconds since 1970, UTC. UNSET if it has no limit."""
    seconds = specification.resource_limits.execution_seconds
    return UNSET if seconds is UNSET else begins + seconds


def counts_as_restart(state: AgentState, ended_with: str | None) -> bool:
    """Whether the end of a process counts towards `max_restart_count`: it does if the same may happen again at once.

    So it counts when the process failed by itself, or when the work that the node `ended_with` it is still open, and is
    begun anew. Work that is over cannot come again, whatever its code; its process is replaced at once, as often as may
    be.
    """
    return ended_with is None or ended_with in state.executions


def another_process(state: AgentState, node_id: str, requested_by: str) -> e.SpawnRequested:
    """The agent shall have a process that begins anew."""
    return e.SpawnRequested(
        spec=state.specification,
        requested_by=requested_by,
        node_id=node_id,
        incarnation=state.incarnation + 1,
        fleet_id=state.fleet_id,
    )


def resumed(state: AgentState, node_id: str, checkpoint_id: str | None = None) -> e.AgentResumed:
    """The suspended agent shall have a process again; `checkpoint_id` if it was brought back to that."""
    unchanged = state.unchanged_since
    return e.AgentResumed(
        session_id=state.session_id,
        node_id=node_id,
        incarnation=state.incarnation + 1,
        checkpoint_id=checkpoint_id or (unchanged.checkpoint_id if unchanged is not None else None),
    )
