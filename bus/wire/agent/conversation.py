"""What an execution asks of models, request after request: known by a hash, and recorded as what is new.

A conversation is sent whole each time, so a record of whole requests would grow with its square. What is recorded says
which messages of an earlier request still stand, wherever those were, and has only the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import takewhile
from operator import eq
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from l02.domain.inference import ModelRequest

_encoder = msgspec.json.Encoder(order="sorted")


class Asked(Struct, frozen=True):
    """A request by its hashes: of all but its messages, and of each message; `sha256` of those together, in hex.

    Each is that of the JSON with sorted keys and without spaces; `sha256` is that of the hashes' bytes in their order.
    """

    sha256: str
    options: bytes
    messages: tuple[bytes, ...]

    @classmethod
    def of(cls, alias: str, request: ModelRequest) -> Asked:
        """That of a request to the model `alias`."""
        options = _hash((alias, options_of(request)))
        messages = tuple(map(_hash, request.messages))
        return cls(sha256(b"".join((options, *messages))).hexdigest(), options, messages)


class RecordedRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request as it stands on record: what is new since the `previous` one, of that `sha256` in the same execution.

    The first `keep` of that one's messages still stand; then come `messages`, in which `[start, count]` are so many
    of that one's again, counted from 0. `options` are all other fields; absent if they are those of the previous one.
    """

    previous: str | None
    keep: int
    messages: tuple[dict[str, Any] | tuple[int, int], ...]
    options: dict[str, Any] | UnsetType = UNSET


def options_of(request: ModelRequest) -> dict[str, Any]:
    """All of a request but its messages, without what is as it is by default."""
    options: dict[str, Any] = msgspec.to_builtins(request)
    del options["messages"]
    return options


def recorded(previous: Asked | None, asked: Asked, request: ModelRequest) -> RecordedRequest:
    """What is new in a request since the previous one, if there is one."""
    if previous is None:
        return RecordedRequest(previous=None, keep=0, messages=request.messages, options=options_of(request))
    keep = sum(1 for _ in takewhile(bool, map(eq, previous.messages, asked.messages)))
    return RecordedRequest(
        previous=previous.sha256,
        keep=keep,
        messages=tuple(_parts(previous.messages, asked.messages, request.messages, keep)),
        options=UNSET if previous.options == asked.options else options_of(request),
    )


def whole(previous: ModelRequest | None, record: RecordedRequest) -> ModelRequest:
    """The request again. Raises ValueError if it does not go with the previous one."""
    before = () if previous is None else previous.messages
    if record.keep > len(before) or (previous is None and record.options is UNSET):
        raise ValueError("the record belongs to another request before it")
    messages = [*before[: record.keep]]
    for part in record.messages:
        if isinstance(part, dict):
            messages.append(part)
        else:
            start, count = part
            if start + count > len(before):
                raise ValueError("the record belongs to another request before it")
            messages += before[start : start + count]
    if record.options is UNSET:
        assert previous is not None
        return msgspec.structs.replace(previous, messages=tuple(messages))
    return msgspec.convert({**record.options, "messages": messages}, ModelRequest)


def _parts(
    before: Sequence[bytes], now: Sequence[bytes], messages: Sequence[dict[str, Any]], place: int
) -> Iterator[dict[str, Any] | tuple[int, int]]:
    first = {digest: position for position, digest in reversed([*enumerate(before)])}
    while place < len(now):
        start = first.get(now[place])
        if start is None:
            yield messages[place]
            place += 1
            continue
        count = sum(1 for _ in takewhile(bool, map(eq, before[start:], now[place:])))
        yield start, count
        place += count


def _hash(value: Any) -> bytes:
    return sha256(_encoder.encode(value)).digest()
