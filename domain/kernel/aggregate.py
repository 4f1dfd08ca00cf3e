"""One kind of aggregate: the messages of its topics, and the one way in which they are decided and applied."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Generic, TypeVar

from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.message import Command, Context, Event, Report, TimerCommand, WireCommand

S = TypeVar("S")
Step = Callable[[dict[str, Any]], dict[str, Any]]
"""The data of an event of one schema version as data of the next one."""


@dataclass(frozen=True)
class Aggregate(Generic[S]):
    """One kind of aggregate. Raises TypeError if a message says nothing of what follows from it."""

    name: str
    initial_state: Callable[[], S]
    exists: Callable[[S], bool]
    """Whether there has been a first event."""
    messages: tuple[type[Event | Command], ...]
    fold_version: int
    """Raised when the same events make another state, so that states kept by earlier versions are folded anew."""
    absent: str
    """What is said of one that does not exist, and what to do."""
    upcasters: Mapping[tuple[str, int], Step] = field(default_factory=dict)
    """By event type and the schema version that the step starts from."""
    events: tuple[type[Event], ...] = field(init=False)
    wire_commands: dict[str, type[WireCommand]] = field(init=False)
    due_commands: dict[str, type[WireCommand]] = field(init=False)
    """What timers send, and nobody else may."""

    def __post_init__(self) -> None:
        for message in self.messages:
            for step in ("evolve", "decide"):
                if getattr(getattr(message, step, None), "__isabstractmethod__", False):
                    raise TypeError(f"{message.__qualname__} has no `{step}`")
        wire = [message for message in self.messages if issubclass(message, WireCommand)]
        set_once = object.__setattr__
        set_once(self, "events", tuple(message for message in self.messages if issubclass(message, Event)))
        set_once(self, "wire_commands", {item.verb: item for item in wire if not issubclass(item, TimerCommand)})
        set_once(self, "due_commands", {item.verb: item for item in wire if issubclass(item, TimerCommand)})

    @property
    def takes_commands(self) -> bool:
        """Whether anybody, or a timer, may ask something of it; else only nodes report what they see of it."""
        return bool(self.wire_commands or self.due_commands)

    def decide(self, state: S, command: Command | Report, context: Context) -> list[Event]:
        """The events that follow from `command`; none if it changes nothing. Raises Failure when it is refused."""
        if not self.exists(state) and not command.begins:
            raise Failure(ErrorCode.AGGREGATE_NOT_FOUND, self.absent)
        return list(command.decide(state, context))

    def evolve(self, state: S, event: Event) -> S:
        """The state after `event`. Never fails on an event that was decided."""
        after: S = event.evolve(state)
        return after


def messages_of(*topics: ModuleType) -> tuple[type[Event | Command], ...]:
    """The events and commands that are written in these modules, in that order."""
    return tuple(message for topic in topics for message in _written_in(topic))


def _written_in(topic: ModuleType) -> Iterator[type[Event | Command]]:
    for value in vars(topic).values():
        is_message = (
            isinstance(value, type) and issubclass(value, Event | Command) and value.__module__ == topic.__name__
        )
        if is_message and (issubclass(value, Command) or hasattr(value, "type")):
            yield value
