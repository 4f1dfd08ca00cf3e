"""An agent's session with the context-orchestrator, as it follows from the agent's events.

What the other side has yet to be told is derived from here and nowhere else, so it outlives the node. The entries are
numbered in order; saying that one has arrived says so of all before it.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

MAX_UNSENT = 100
MAX_SAVED = 500
MAX_TOLD = 5
_SHOWN_CHARACTERS = 200
_NUMBER = re.compile("[0-9]+")


class SessionContext(Struct, frozen=True, kw_only=True):
    """What the agent was doing, in words for whoever takes its task up."""

    working_on: str | None = None
    last_action: str | None = None
    next_step: str | None = None
    blockers: tuple[str, ...] = ()

    @classmethod
    def shortened(cls, value: Any) -> str:
        """As much of a JSON value as is shown."""
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


class Unsent(Struct, frozen=True, kw_only=True):
    """A checkpoint that was created or restored, which the other side has yet to be told."""

    number: int
    kind: Literal["snapshot", "rollback"]
    checkpoint_id: str
    label: str | None
    context: SessionContext

    @property
    def is_superseded_by_a_newer(self) -> bool:
        """Whether nothing is lost when a newer entry takes its place."""
        return self.kind == "snapshot" and self.label is None


class SavedSnapshot(Struct, frozen=True, kw_only=True):
    """How the other side calls what it has of a checkpoint: a version of the task, a checkpoint of its own."""

    version: int | str | None
    context_checkpoint_id: str | None

    @property
    def has_name(self) -> bool:
        """Whether the other side can be asked to go back to it."""
        return self.version is not None or self.context_checkpoint_id is not None


class Session(Struct, frozen=True, kw_only=True):
    """`node_id` is the node that started or recovered it last, `incarnation` the agent's process at that time.

    `failures` holds, by operation, the code with which it fails at present, `told` what of that is on record.
    """

    task_id: str
    is_started: bool = False
    is_ended: bool = False
    node_id: str | None = None
    incarnation: int = 0
    queued: int = 0
    sent: int = 0
    unsent: tuple[Unsent, ...] = ()
    saved: dict[str, SavedSnapshot] = {}
    failures: dict[str, str] = {}
    told: dict[str, tuple[str, ...]] = {}

    @property
    def is_open(self) -> bool:
        """Whether the other side believes that the agent is at work."""
        return self.is_started and not self.is_ended

    def queue(
        self, kind: Literal["snapshot", "rollback"], checkpoint_id: str, label: str | None, context: SessionContext
    ) -> Session:
        """With one more to be sent, in order. The newest wins over one before it that has no label.

        Of more than a hundred the oldest are dropped.
        """
        entry = Unsent(number=self.queued + 1, kind=kind, checkpoint_id=checkpoint_id, label=label, context=context)
        kept = self.unsent[:-1] if self.unsent and self.unsent[-1].is_superseded_by_a_newer else self.unsent
        return replace(self, queued=entry.number, unsent=(*kept, entry)[-MAX_UNSENT:])

    def arrived(self, number: int) -> Session:
        """Without the entries up to this one."""
        return replace(self, sent=number, unsent=tuple(entry for entry in self.unsent if entry.number > number))

    def expects(self, number: int) -> bool:
        """Whether this entry, or one after it, has yet to arrive."""
        return self.is_open and number > self.sent

    def left_after(self, number: int) -> int:
        """How much is left to be said when this entry has arrived."""
        return len(self.arrived(number).unsent)

    def with_saved(self, checkpoint_id: str, saved: SavedSnapshot) -> Session:
        """Knowing how the other side calls a checkpoint; only the newest are remembered."""
        kept = {key: value for key, value in self.saved.items() if key != checkpoint_id} | {checkpoint_id: saved}
        if len(kept) > MAX_SAVED:
            del kept[next(iter(kept))]
        return replace(self, saved=kept)

    def works(self, operation: str) -> Session:
        """With an operation that has just succeeded."""
        failures, told = (
            {key: value for key, value in of.items() if key != operation} for of in (self.failures, self.told)
        )
        return replace(self, failures=failures, told=told)

    def fails(self, operation: str, code: str, message: str) -> Session:
        """With an operation that has just failed so."""
        told = (*self.told.get(operation, ()), _essence(code, message))
        return replace(
            self, failures={**self.failures, operation: code}, told={**self.told, operation: told[-MAX_TOLD:]}
        )

    def is_news(self, operation: str, code: str, message: str) -> bool:
        """Whether a failure is another than those on record; of one code there are only some, whatever its words."""
        told = self.told.get(operation, ())
        if self.failures.get(operation) != code:
            return True
        return _essence(code, message) not in told and len(told) < MAX_TOLD


def _essence(code: str, message: str) -> str:
    """What is the same when the same happens again: times, sizes and ids differ."""
    return f"{code} {_NUMBER.sub('#', message)}"[:_SHOWN_CHARACTERS]
