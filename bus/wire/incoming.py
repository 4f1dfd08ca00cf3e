"""Commands as they come in from outside: bytes of any size and shape become a command or a Failure with a code."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import NODEFAULT, UNSET, Struct
from msgspec.structs import replace

from l02.bus.wire.codec import UNDECODABLE
from l02.bus.wire.subjects import AggregateId, CommandAddress, parse_command_subject
from l02.bus.wire.traces import valid_traceparent
from l02.domain.errors import ErrorCode, Failure
from l02.domain.identifiers import require_id
from l02.domain.kernel.aggregate import Aggregate
from l02.domain.kernel.message import Metadata, WireCommand
from l02.domain.values import is_deeper
from l02.domain.weight import WEIGHT_IN_WORDS, is_too_heavy

MAX_COMMAND_BYTES = 1024 * 1024
COMMAND_ID_HEADER = "Nats-Msg-Id"
ACTOR_HEADER = "L02-Actor"
TRACE_HEADER = "traceparent"
TIMER_COMMAND_ID_HEADER = "L02-Command-Id"
_DEFAULT_ACTOR = "anonymous"
_MAX_HEADER_LENGTH = 256
_MAX_DEPTH = 128
# What commands had when their hashes were first stored, which is for ever, and a field that all of them had then.
_FIRST_FIELDS = frozenset(
    {
        "wait",
        "expected_version",
        "spec",
        "fleet_id",
        "input",
        "name",
        "payload",
        "label",
        "checkpoint_id",
        "from_agent_id",
        "at",
        "version",
        "reason",
        "assume",
        "execution_id",
        "result",
        "attempt",
        "checkpoint_ids",
        "keep",
    }
)
_FORMER_FIELD = b',"origin":{"agent_id":"","command_id":"","node_id":"","actor":"","past":null}'
_PATH = re.compile(r"^(?P<message>.*) - at `(?:key in )?`?(?P<path>\$[^`]*)`$", re.DOTALL)

_Part = TypeVar("_Part", bound=Struct)
Aggregates = Mapping[str, Aggregate[Any]]
"""Those that a process knows, by kind."""


class CommandIdReused(Failure):
    """The id of a command was used before for another one (E2110)."""

    def __init__(self, command_id: str) -> None:
        super().__init__(
            ErrorCode.COMMAND_INVALID,
            f"command id {command_id} was used before with another body, verb or address; "
            "use a new id for a new command",
            "$.command_id",
        )


class Incoming(Struct, frozen=True):
    """A command that can be decided."""

    aggregate: AggregateId
    command_id: str
    command: WireCommand
    metadata: Metadata
    content: str
    """See `content_of`."""


def command_id_of(headers: Mapping[str, str], made_up: str) -> str:
    """The sender's id for its command, or `made_up` if it gave none; E2110 if it cannot be an id."""
    given = headers.get(COMMAND_ID_HEADER) or headers.get(TIMER_COMMAND_ID_HEADER)
    return require_id(given, COMMAND_ID_HEADER) if given else made_up


def read_command(
    aggregates: Aggregates, address: CommandAddress, body: bytes, headers: Mapping[str, str], *, command_id: str
) -> Incoming:
    """The command in `body`; Failure E2110 or E2115 says what is wrong with it and where."""
    aggregate = aggregates.get(address.aggregate.kind)
    if aggregate is None:
        raise Failure(
            ErrorCode.COMMAND_INVALID,
            f"unknown aggregate {address.aggregate.kind[:40]!r}; there are: {', '.join(sorted(aggregates))}",
        )
    known = aggregate.due_commands if address.is_due else aggregate.wire_commands
    command_type = known.get(address.verb)
    if command_type is None and address.verb in aggregate.due_commands:
        raise Failure(ErrorCode.COMMAND_INVALID, f"{address.verb!r} is sent by the runtime's own timers only")
    if command_type is None:
        raise Failure(
            ErrorCode.COMMAND_INVALID,
            f"unknown verb {address.verb[:40]!r}; {address.aggregate.kind} takes: " + ", ".join(sorted(known)),
        )
    require_id(address.aggregate.id, "id")
    command = _decode(command_type, body)
    actor = headers.get(ACTOR_HEADER, _DEFAULT_ACTOR)[:_MAX_HEADER_LENGTH]
    content = _hash(address, command)
    metadata = Metadata(
        causation_id=command_id,
        correlation_id=command_id,
        actor=actor,
        traceparent=valid_traceparent(headers.get(TRACE_HEADER)),
        command_hash=content,
    )
    return Incoming(address.aggregate, command_id, command, metadata, content)


def content_of(aggregates: Aggregates, subject: str, body: bytes) -> str:
    """What a command says and to whom, as 32 hex digits: the same for two that say the same in other words.

    One that cannot be read is the same as another only byte for byte.
    """
    address = parse_command_subject(subject)
    if address is not None:
        with suppress(Failure):
            return read_command(aggregates, address, body, {}, command_id="").content
    return hashlib.sha256(subject.encode() + b"\0" + body).hexdigest()[:32]


def require_bounded(body: bytes) -> None:
    """Failure E2115 if a request is too large, or takes too long to build; what msgspec raises if it is no JSON."""
    if len(body) > MAX_COMMAND_BYTES:
        raise Failure(
            ErrorCode.PAYLOAD_TOO_LARGE,
            f"the command has {len(body)} bytes, at most {MAX_COMMAND_BYTES} are taken; name files instead",
        )
    if is_too_heavy(body):
        msgspec.json.decode(body, type=msgspec.Raw)
        raise Failure(ErrorCode.PAYLOAD_TOO_LARGE, f"the command holds {WEIGHT_IN_WORDS}; name files instead")


def _decode(command_type: type[WireCommand], body: bytes) -> WireCommand:
    if not body:
        raise Failure(ErrorCode.COMMAND_INVALID, "the body is empty; send a JSON object, at least {}")
    try:
        require_bounded(body)
        fields = msgspec.json.decode(body, type=dict[str, Any])
        _require_shallow(body, fields)
        return msgspec.convert(fields, command_type)
    except UNDECODABLE as error:
        raise wire_failure(error) from error


def _require_shallow(body: bytes, fields: dict[str, Any]) -> None:
    """What nests deeper than every reader of the events can follow is refused here."""
    if body.count(b"[") + body.count(b"{") > _MAX_DEPTH and is_deeper(fields, _MAX_DEPTH):
        raise Failure(ErrorCode.COMMAND_INVALID, f"the body is nested more than {_MAX_DEPTH} levels deep")


def wire_failure(error: Exception) -> Failure:
    """E2110 for what msgspec found wrong, with the field's path apart."""
    match = _PATH.match(str(error))
    if match:
        return Failure(ErrorCode.COMMAND_INVALID, match["message"], match["path"])
    if isinstance(error, msgspec.ValidationError):
        return Failure(ErrorCode.COMMAND_INVALID, str(error), "$")
    return Failure(ErrorCode.COMMAND_INVALID, f"the body cannot be read as JSON: {error}")


def _hash(address: CommandAddress, command: WireCommand) -> str:
    digest = hashlib.sha256(f"{address.aggregate}/{address.verb}\n".encode())
    said = msgspec.json.encode(_as_first(command.as_first_read()), order="deterministic")
    head = msgspec.json.encode({"wait": command.wait, "expected_version": command.expected_version})[:-1]
    digest.update(head + _FORMER_FIELD + said.removeprefix(head))
    return digest.hexdigest()[:32]


def _as_first(part: _Part) -> _Part:
    """Without the fields that are newer and at their defaults: a command of before is the same one after an upgrade."""
    left_out = {name: UNSET for name, default in _later_fields(type(part)) if getattr(part, name) == default}
    return replace(part, **left_out) if left_out else part


@cache
def _later_fields(kind: type[Struct]) -> tuple[tuple[str, Any], ...]:
    later = [field for field in msgspec.structs.fields(kind) if field.name not in _FIRST_FIELDS]
    return tuple(
        (field.name, field.default if field.default_factory is NODEFAULT else field.default_factory())
        for field in later
    )
