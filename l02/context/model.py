"""A task's context, and what can be wrong with a call."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from l02.context.arguments import ImmediateUpdates, Status, Updates


class ToolRefused(Exception):
    """The call makes no sense: it names something that is not known. The client is told so as an MCP error."""


class ImmediateContext(Struct, frozen=True, kw_only=True, rename="camel"):
    """What is being done right now."""

    working_on: str | None = None
    last_action: str | None = None
    next_step: str | None = None
    blockers: list[str] = []


class TaskContext(Struct, frozen=True, kw_only=True, rename="camel"):
    """What is known of a task, at one version of it."""

    status: Status = "pending"
    current_phase: str | None = None
    iteration: int = 0
    score: float | None = None
    locked_elements: list[Any] = []
    immediate_context: ImmediateContext = ImmediateContext()
    key_files: list[Any] = []
    technical_decisions: list[Any] = []
    resume_prompt: str | None = None

    def updated(self, updates: Updates) -> TaskContext:
        """This context with the changes."""
        changes = _given(updates)
        immediate = changes.get("immediate_context")
        if isinstance(immediate, ImmediateUpdates):
            changes["immediate_context"] = replace(self.immediate_context, **_given(immediate))
        return replace(self, **changes)

    def as_json(self) -> dict[str, Any]:
        """As it is shown."""
        shown: dict[str, Any] = msgspec.to_builtins(self)
        return shown


def _given(updates: Struct) -> dict[str, Any]:
    return {name: value for name in updates.__struct_fields__ if (value := getattr(updates, name)) is not UNSET}
