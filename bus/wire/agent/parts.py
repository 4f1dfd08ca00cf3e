"""What the messages of an agent and its node are made of: texts, as long as the types allow, whoever sends them."""

from __future__ import annotations

from functools import cache
from typing import Annotated, get_type_hints

import msgspec

from l02.bus.wire.agent.texts import MESSAGE_BYTES, cut


class Cut(msgspec.Struct, frozen=True):
    """The text of a field has at most so many bytes; a longer one is cut where it is decoded."""

    limit: int


Message = Annotated[str, Cut(MESSAGE_BYTES)]
NAME_BYTES = 256
Name = Annotated[str, Cut(NAME_BYTES)]
Code = Annotated[str, Cut(64)]
SignalName = Annotated[str, Cut(128)]
Alias = Annotated[str, Cut(128)]


@cache
def _limits(kind: type) -> tuple[tuple[str, int], ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple(
        (name, part.limit)
        for name, hint in hints.items()
        for one in (hint, *getattr(hint, "__args__", ()))
        for part in getattr(one, "__metadata__", ())
        if isinstance(part, Cut)
    )


class Part(msgspec.Struct, frozen=True):
    """A part of a message, whose texts are as long as their types allow, whoever made it."""

    def __post_init__(self) -> None:
        for field, limit in _limits(type(self)):
            text = getattr(self, field)
            if isinstance(text, str) and len(text) * 4 > limit:
                msgspec.structs.force_setattr(self, field, cut(text, limit))
