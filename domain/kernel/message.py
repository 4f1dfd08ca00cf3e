"""Commands and events: what may be asked of an aggregate, what has happened to it, and what a decision knows besides.

A command decides and an event evolves by itself, so what belongs to a topic stands together, and one that says nothing
of what follows from it passes neither the type checker nor the start of a node.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from msgspec import Meta, Struct

from l02.domain.errors import OwnError

TIMER_ACTOR = "timer"


class Metadata(Struct, frozen=True, kw_only=True):
    """Why an event came to be: the direct cause, the command at the root of the chain, and who sent it.

    `command_hash` is set on the first event of a command from the wire; it tells a repeated command from another
    command that wrongly uses the same id.
    """

    causation_id: str
    correlation_id: str
    actor: str
    traceparent: str | None = None
    command_hash: str | None = None

    @property
    def is_of_runtime(self) -> bool:
        """Whether nobody outside has asked for it: the runtime decided by itself, or set a timer to."""
        return self.command_hash is None or self.actor == TIMER_ACTOR


class Context(Struct, frozen=True, kw_only=True):
    """What a decision knows besides the state: whose it is, who asked and why, and the node and time it is made at.

    The runtime fills it in, never the sender. `time` is in seconds since 1970, UTC. `incarnation` says which process of
    an agent's speaks; None if it is the node's own word.
    """

    aggregate_id: str
    node_id: str
    time: float
    metadata: Metadata
    incarnation: int | None = None

    @property
    def command_id(self) -> str:
        """The id of the command that is decided, or of what a report of the runtime's own goes back to."""
        return self.metadata.causation_id

    @property
    def actor(self) -> str:
        """Who has sent it."""
        return self.metadata.actor


class Refused(Struct, frozen=True, kw_only=True):
    """That a command came to a bad end: its code and message, and what an agent itself calls its failure."""

    code: str
    message: str
    detail: OwnError | None = None


class Event(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A fact, named in the past tense. Fields are its data on the wire: none is ever renamed or given a new meaning.

    `type` is the CloudEvents type; `schema_version` grows when the shape changes and an upcaster is added for it.
    """

    type: ClassVar[str]
    schema_version: ClassVar[int] = 1

    @abstractmethod
    def evolve(self, state: Any, /) -> Any:
        """The state after it. Never fails on an event that was decided."""

    def owed_to(self) -> str | None:
        """The command whose outcome comes only with a later event, if it does."""
        return None

    def outcome(self) -> dict[str, Any] | Refused:
        """What the sender of a command that has led to it, or is completed by it, is told."""
        return {}


class Completing(Event, frozen=True, kw_only=True):
    """An event that is the outcome of earlier commands; `completes` holds their ids."""

    completes: tuple[str, ...] = ()


class Command(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A wish, named by an imperative verb. Its decision makes events of it, or refuses it."""

    begins: ClassVar[bool] = False
    """Whether it may be decided before the aggregate's first event."""

    @abstractmethod
    def decide(self, state: Any, context: Context, /) -> Sequence[Any]:
        """The events that follow; none if it changes nothing. Raises Failure when it is refused."""


class WireCommand(Command, frozen=True, kw_only=True):
    """A command from outside. `wait` says when its outcome is wanted, `expected_version` what it was decided upon."""

    verb: ClassVar[str]
    wait: Literal["complete", "accepted"] = "complete"
    expected_version: Annotated[int, Meta(ge=0)] | None = None

    def as_first_read(self) -> Self:
        """With what the first release read where nothing is said and now something else is read: for its hash only.

        Hashes are stored for ever. Fields that are newer need nothing here, they are left out where they say nothing.
        """
        return self

    def awaited_by(self, context: Context) -> str | None:
        """The id to complete later, if the sender waits for the effect."""
        return context.command_id if self.wait == "complete" else None


class TimerCommand(WireCommand, frozen=True, kw_only=True):
    """What the runtime's own timers send, and nobody else may."""


class Report(Event, frozen=True, kw_only=True):
    """A fact that the runtime itself reports. Its decision says whether it is news, and completes what follows."""

    begins: ClassVar[bool] = False

    @abstractmethod
    def decide(self, state: Any, context: Context, /) -> Sequence[Any]:
        """The events that follow, itself among them; none if it is no news. Raises Failure when it cannot be."""


def command_ids(*command_ids: str | None) -> tuple[str, ...]:
    """Those command ids that are owed an outcome."""
    return tuple(command_id for command_id in command_ids if command_id is not None)
