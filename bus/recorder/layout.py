"""How an application's events and tracking records are written as messages, and read back."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote
from uuid import UUID

from eventsourcing.persistence import DataError, Notification, StoredEvent, Tracking

from l02.bus.connection.leader import StoredMessage

TOPIC_HEADER = "Eventsourcing-Topic"
VERSION_HEADER = "Eventsourcing-Version"
HIGHEST_HEADER = "Eventsourcing-Highest-Version"
_HEADER_VALUE = re.compile(r"\S(?:[^\r\n]*\S)?")


class NewMessage(NamedTuple):
    """A message that has not found its place yet. Its version is unique on its subject, or above all others there."""

    subject: str
    version: int
    headers: dict[str, str]
    payload: bytes = b""
    must_rise: bool = False


class Layout(ABC):
    """Which messages of a stream are events, and what they say."""

    @property
    @abstractmethod
    def events(self) -> str:
        """The filter of all events."""

    @abstractmethod
    def originator(self, originator_id: UUID | str) -> str:
        """The subject, or filter, of one originator's events."""

    def topics(self, topics: Sequence[str]) -> Sequence[str]:
        """Filters that let through at least the events of these topics."""
        return [self.events]

    @abstractmethod
    def read(self, message: StoredMessage) -> Notification:
        """The event that a message is."""

    @abstractmethod
    def highest_version(self, message: StoredMessage) -> int:
        """The highest version on the message's subject up to the message."""


class EventLayout(Layout):
    """The layout of the streams this package writes: see the package's docstring."""

    def __init__(self, prefix: str, purpose: str, *, uuids: bool) -> None:
        self._prefix = prefix
        self._purpose = token(purpose)
        self._uuids = uuids

    @property
    def events(self) -> str:
        return f"{self._prefix}.{self._purpose}.*"

    @property
    def subjects(self) -> list[str]:
        """What the stream listens to. Tracking records go with the application's events, not with other purposes."""
        return [self.events, f"{self._prefix}.tracking.*"] if self._purpose == "events" else [self.events]

    def originator(self, originator_id: UUID | str) -> str:
        if self._uuids != isinstance(originator_id, UUID):
            expected, given = ("UUIDs", "text") if self._uuids else ("text", "a UUID")
            raise DataError(f"originator ids are {expected} here (ORIGINATOR_ID_TYPE), {originator_id!r} is {given}")
        return f"{self._prefix}.{self._purpose}.{token(str(originator_id))}"

    def tracked(self, application_name: str) -> str:
        """The subject of the tracking records for one upstream application."""
        return f"{self._prefix}.tracking.{token(application_name)}"

    def new_event(self, event: StoredEvent) -> NewMessage:
        """Raises DataError if it cannot be stored."""
        if not _HEADER_VALUE.fullmatch(event.topic):
            raise DataError(f"a topic must be one line without space around it, not {event.topic!r}")
        if event.originator_version < 0:
            raise DataError(f"a version must not be negative: {event.originator_version}")
        headers = {VERSION_HEADER: str(event.originator_version), TOPIC_HEADER: event.topic}
        return NewMessage(self.originator(event.originator_id), event.originator_version, headers, event.state)

    def new_tracking(self, tracking: Tracking) -> NewMessage:
        """A tracking record is an empty message whose version is the notification id."""
        position = tracking.notification_id
        headers = {VERSION_HEADER: str(position)}
        return NewMessage(self.tracked(tracking.application_name), position, headers, must_rise=True)

    def read(self, message: StoredMessage) -> Notification:
        originator = message.subject.rpartition(".")[2]
        try:
            return Notification(
                originator_id=UUID(originator) if self._uuids else unquote(originator),
                originator_version=self.version(message),
                topic=message.headers[TOPIC_HEADER],
                state=message.data,
                id=message.sequence,
            )
        except (KeyError, ValueError) as error:
            raise _not_ours(message) from error

    def version(self, message: StoredMessage) -> int:
        """The version of an event, or the notification id of a tracking record."""
        try:
            return int(message.headers[VERSION_HEADER])
        except (KeyError, ValueError) as error:
            raise _not_ours(message) from error

    def highest_version(self, message: StoredMessage) -> int:
        highest = message.headers.get(HIGHEST_HEADER)
        return self.version(message) if highest is None else int(highest)


def _not_ours(message: StoredMessage) -> DataError:
    return DataError(f"message {message.sequence} on {message.subject} was not written by this persistence module")


def token(name: str) -> str:
    """Any text as one token of a subject, or part of a stream's name. Raises DataError if it is empty."""
    if not name:
        raise DataError("a name or id must not be empty")
    return quote(name, safe="").replace(".", "%2E")
