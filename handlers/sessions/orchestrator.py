"""The tools of a context-orchestrator as the bridge uses them, with the argument names of any such server."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from l02.domain.agent.session import SavedSnapshot
from l02.handlers.sessions.calls import CallFailed, Calls, Refused

Name = Annotated[str, Meta(max_length=256, pattern=r"^[^\x00]*$")]
"""What the other side calls something: it goes into events, so it is short, and text that PostgreSQL takes."""
Version = Annotated[int, Meta(ge=-(2**53), le=2**53)] | Name
_CONTEXT = {"includeRelationships": False}


class TaskUnknown(CallFailed):
    """The server is well, and does not know the task."""


class _Answer(Struct, frozen=True, rename="camel"):
    """Only what the bridge needs of an answer is read; what it does not need may be missing."""


class _Saved(_Answer, frozen=True, rename="camel"):
    success: bool
    version: Version | None = None


class _Created(_Answer, frozen=True, rename="camel"):
    success: bool
    checkpoint_id: Name


class _RolledBack(_Answer, frozen=True, rename="camel"):
    success: bool
    backup_checkpoint_id: Name | None = None


class LostSession(_Answer, frozen=True, rename="camel"):
    """A session that the server names as interrupted."""

    session_id: str
    recovery_type: Name = "unknown"
    last_activity: Version | float | None = None


class _Context(_Answer, frozen=True, rename="camel"):
    task: Any = None


class _Recovery(_Answer, frozen=True, rename="camel"):
    sessions: list[LostSession]
    needs_recovery: bool | UnsetType = UNSET


class Orchestrator:
    """What can be said to the other side. Everything raises CallFailed: Unreachable, Refused or TaskUnknown."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls

    async def save(
        self, operation: str, task_id: str, session_id: str, updates: dict[str, Any], summary: str
    ) -> int | str | None:
        """Save a snapshot of the task's context; the version that it is."""
        arguments = {"taskId": task_id, "sessionId": session_id, "updates": updates, "changeSummary": summary}
        answer: _Saved = await self._about(task_id, operation, "save_context_snapshot", arguments, _Saved)
        return answer.version

    async def create_checkpoint(self, task_id: str, session_id: str, label: str, description: str) -> str:
        """Give the task's present context a label; the other side's id for it."""
        arguments = {
            "label": label,
            "description": description,
            "taskId": task_id,
            "checkpointType": "manual",
            "sessionId": session_id,
        }
        answer: _Created = await self._about(task_id, "checkpoint", "create_checkpoint", arguments, _Created)
        return answer.checkpoint_id

    async def roll_back(self, task_id: str, session_id: str, saved: SavedSnapshot) -> tuple[str, str | None]:
        """Take the task back to what is known of a checkpoint: what that is called there, and the backup's id."""
        if saved.context_checkpoint_id is not None:
            target: dict[str, Any] = {"type": "checkpoint", "checkpointId": saved.context_checkpoint_id}
            name = f"checkpoint {saved.context_checkpoint_id}"
        else:
            target = {"type": "version", "version": saved.version}
            name = f"version {saved.version}"
        arguments = {"taskId": task_id, "target": target, "createBackup": True, "sessionId": session_id}
        answer: _RolledBack = await self._about(task_id, "rollback", "rollback_to", arguments, _RolledBack)
        return name, answer.backup_checkpoint_id

    async def lost_sessions(self) -> dict[str, LostSession]:
        """The sessions that the server names as interrupted."""
        answer = await self.calls.call("recovery", "check_recovery", {}, _Recovery)
        return {session.session_id: session for session in answer.sessions}

    async def mark_recovered(self, session_id: str) -> None:
        """Have the server name this session no more."""
        await self.calls.call("recovery", "check_recovery", {"markRecovered": session_id}, _Recovery)

    async def heartbeat(self, task_id: str) -> None:
        """See whether the server answers and knows the task. It has no tool for that: reading the task's context does.

        A server that does not run is not waited for.
        """
        arguments = {"taskId": task_id, **_CONTEXT}
        answer: _Context = await self._about(
            task_id, "heartbeat", "get_unified_context", arguments, _Context, may_start=False
        )
        if answer.task is None:
            raise TaskUnknown(f"get_unified_context: the server does not know task {task_id!r}")

    async def _about(
        self, task_id: str, operation: str, tool: str, arguments: dict[str, Any], answer: Any, *, may_start: bool = True
    ) -> Any:
        """A call about a task. Servers say in words of their own that they do not know it, so it is asked, not read."""
        try:
            return await self.calls.call(operation, tool, arguments, answer, may_start=may_start)
        except Refused as refusal:
            if await self._refuses_only(task_id):
                raise TaskUnknown(str(refusal)) from refusal
            raise

    async def _refuses_only(self, task_id: str) -> bool:
        """Whether the server shows its context, and only not that of the task: refuses it, or leaves it out."""
        tool = "get_unified_context"
        try:
            await self.calls.call("heartbeat", tool, {**_CONTEXT}, _Context)
        except CallFailed:
            return False
        try:
            shown: _Context = await self.calls.call("heartbeat", tool, {"taskId": task_id, **_CONTEXT}, _Context)
        except CallFailed as failure:
            return isinstance(failure, Refused)
        return shown.task is None
