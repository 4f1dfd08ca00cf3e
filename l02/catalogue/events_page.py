"""`docs/events.md`: everything on the wire, for people."""

from __future__ import annotations

from msgspec import Struct

from l02.bus.connection.streams import OBJECTS_BUCKET
from l02.bus.wire.codec import CloudEvent
from l02.bus.wire.subjects import AggregateId, event_subject
from l02.catalogue import examples
from l02.catalogue.commands_section import COMMANDS_AND_QUERIES, commands_and_queries
from l02.catalogue.markdown import GENERATED, code_block, table
from l02.catalogue.schemas import SCHEMAS, VIEWS, name_of, referenced
from l02.catalogue.storage_section import storage
from l02.catalogue.words import default_words, fields_words, is_required, type_words
from l02.domain.aggregates import AGGREGATES
from l02.domain.values import INLINE_LIMIT_BYTES, ObjectReference

_INTRODUCTION = """\
Commands go in, events come out, all as JSON on NATS subjects. This page is the contract; the same for programs is in
[asyncapi.yaml](asyncapi.yaml), the codes of failures are in [errors.md](errors.md). Durations are seconds, sizes bytes,
times RFC 3339 in UTC; an id has 1 to 128 letters, digits, `-` or `_`. In the tables `name?` marks a field that may be
absent, and `= …` what then holds.

[Where the server is](#where-the-server-is) · [Events](#events) ·
[Commands](#commands) · [Outcomes](#outcomes) · [Requests and queries](#requests-and-queries) ·
[Streamed output](#streamed-output) · [Dead letters](#dead-letters) · [Timers](#timers) ·
[Streams and buckets](#streams-and-buckets) · [Types](#types)"""

_SERVER = """\
Any NATS client will do. The server is that of `L02_NATS_URL`, if the nodes were started with it. Else it is the one
that `l02 up` has started: the file `l02.json` in its data directory (`--data-dir`, else `$L02_DATA_DIR`, else
`~/.local/share/l02`) has its address with user and password as `nats_url`, for as long as the node runs.

    nats --server "$(jq -r .nats_url ~/.local/share/l02/l02.json)" sub 'l02.evt.>'
    nats --server "$(jq -r .nats_url ~/.local/share/l02/l02.json)" req l02.api.agent.list '{}'

Events are read from stream `L02_EVENTS` by a consumer of your own; a plain subscription hears those to come only."""

_READING = """\
Ignore fields and types that you do not know: more may be added, none is renamed or given a new meaning. The events of
one aggregate are in order, by `version`, without gaps; among aggregates the order is that of the stream."""

_ENVELOPE = {
    "specversion": "the version of CloudEvents",
    "id": "unique to the event",
    "source": "always the same",
    "type": "what happened: one of the names below",
    "subject": "whom it happened to: `<aggregate>/<id>`",
    "time": "when it was decided",
    "datacontenttype": "what `data` is",
    "version": "the aggregate's version after the event, counted from 1",
    "schemaversion": "the version of the shape of `data`",
    "causationid": "the direct cause: a command's id, or what the node acted upon",
    "correlationid": "the command at the root of the chain",
    "actor": "who sent the command; `timer`, or `node/<id>` if the node decided by itself",
    "traceparent": "W3C trace context of the command that the event goes back to; if it goes back to none, as the end "
    "of a process, that of the aggregate's first event",
    "commandhash": "on the first event of a command from outside: tells a repeated command from another one that "
    "wrongly has the same id",
    "data": "the fields of the event, below",
}


def events_page() -> str:
    """The page."""
    parts = ["# Events, commands and all else on the wire", GENERATED, _INTRODUCTION]
    parts += ["## Where the server is", _SERVER, "## Events", _envelope(), code_block(examples.event()), _READING]
    for kind in AGGREGATES:
        parts += [f"### Events of `{kind}`", _events(kind)]
    parts += [_large_values(), *commands_and_queries(), *storage(), "## Types", *_types()]
    return "\n\n".join(parts) + "\n"


def _envelope() -> str:
    schema = SCHEMAS[name_of(CloudEvent)]
    rows = [
        (f"`{name}`" + ("" if is_required(schema, name) else "?"), type_words(field), _ENVELOPE[name])
        for name, field in schema["properties"].items()
    ]
    introduction = (
        "Each event is a [CloudEvent 1.0](https://cloudevents.io) in structured JSON on "
        f"`{event_subject(AggregateId('<aggregate>', '<id>'), '<rest of the type>')}`:"
    )
    return f"{introduction}\n\n{table(('attribute', 'type', 'meaning'), rows)}\n\nFor example:"


def _events(kind: str) -> str:
    rows = [
        (
            f"`{event.type}`",
            str(SCHEMAS[name_of(event)]["description"]),
            fields_words(SCHEMAS[name_of(event)]),
            f"`{event_subject(AggregateId(kind, '<id>'), event.type)}`",
            str(event.schema_version),
        )
        for event in AGGREGATES[kind].events
    ]
    return table(("type", "what it means", "data", "subject", "schemaversion"), rows)


def _large_values() -> str:
    return (
        "**Large values.** A tool's `result`, an `output` and a value in a `state` whose JSON has more than "
        f"{INLINE_LIMIT_BYTES // 1024} KiB are not in the event, nor are smaller ones of a state that has many. "
        "In their place stands "
        '`{"$object": name, "sha256": …, "size": …}`: the object `name` in the object store bucket '
        f"`{OBJECTS_BUCKET}` holds the JSON, `size` bytes whose SHA-256 is `sha256`.\n\n"
        "**Who waits.** `awaited_by` is the id of the command whose outcome is still owed. The event that ends the "
        "wait has it in `completes`."
    )


def _types() -> list[str]:
    """What the fields above are made of."""
    shown: set[str] = set()
    for aggregate in AGGREGATES.values():
        for kind in (*aggregate.events, *aggregate.wire_commands.values(), *aggregate.due_commands.values()):
            shown |= referenced(SCHEMAS[name_of(kind)], SCHEMAS)
    others: tuple[type[Struct], ...] = (*VIEWS, ObjectReference, *COMMANDS_AND_QUERIES)
    for other in others:
        shown |= {name_of(other)} | referenced(SCHEMAS[name_of(other)], SCHEMAS)
    return [_type(name) for name in sorted(shown)]


def _type(name: str) -> str:
    schema = SCHEMAS[name]
    description = schema.get("description", "")
    if "enum" in schema:
        return f"### {name}\n\n{description} One of {type_words(schema)}."
    rows = [
        (f"`{field_name}`" + ("" if is_required(schema, field_name) else "?"), type_words(field), default_words(field))
        for field_name, field in schema["properties"].items()
    ]
    return f"### {name}\n\n{description}\n\n{table(('field', 'type', 'default'), rows)}"
