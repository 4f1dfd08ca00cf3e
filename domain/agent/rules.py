"""What all decisions about an agent have in common."""

from __future__ import annotations

from typing import NoReturn

from domain.agent.state import AgentState, Status
from domain.errors import ErrorCode, Failure
from domain.message import Command

__all__ = ["ENDED", "command_ids", "is_live", "refuse"]

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
