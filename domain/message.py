"""What every command and event has in common, so that one codec, one store and one catalogue serve all aggregates."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

__all__ = ["Command", "Event"]


class Command(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A wish, named by an imperative verb. The decider of its aggregate turns it into events or refuses it."""

    verb: ClassVar[str]


class Event(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A fact, named in the past tense. Fields are its data on the wire: none is ever renamed or given a new meaning.

    `type` is the CloudEvents type; `schema_version` grows when the shape changes and an upcaster is added for it.
    """

    type: ClassVar[str]
    schema_version: ClassVar[int] = 1
