"""`docs/asyncapi.yaml`: the subjects and messages for programs, as AsyncAPI 3.1. The runtime is its application."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import yaml
from msgspec import Struct
from nats.micro.request import ERROR_CODE_HEADER, ERROR_HEADER

from l02.bus.commands.dead_letters import DeadLetter
from l02.bus.commands.outcomes import COMMAND_SEQUENCE_HEADER, Outcome
from l02.bus.commands.service import Answer
from l02.bus.connection.streams import VIEWS_BUCKET
from l02.bus.wire.codec import CloudEvent
from l02.bus.wire.incoming import ACTOR_HEADER, COMMAND_ID_HEADER
from l02.bus.wire.subjects import (
    API,
    AggregateId,
    command_subject,
    dead_subject,
    due_subject,
    event_subject,
    outcome_subject,
    stream_subject,
    timer_subject,
    usage_subject,
)
from l02.catalogue.schemas import RESULTS, SCHEMAS, Schema, name_of, reference_to, request_schema
from l02.domain.agent.resources import LiveUsage
from l02.domain.aggregates import AGGREGATES
from l02.domain.identifiers import MAX_ID_LENGTH
from l02.domain.kernel.message import Event
from l02.node.queries import QUERY_FIELDS
from l02.projections.views.projector import LIVE_VIEWS

_DESCRIPTION = (
    "Commands go in, events come out, both on NATS JetStream. The same for people: docs/events.md; codes of failures: "
    "docs/errors.md."
)
_PARAMETERS = {
    "id": f"The aggregate's id: 1 to {MAX_ID_LENGTH} letters, digits, - or _.",
    "command_id": "The id that the command was sent with.",
    "agent_id": "The agent's id.",
    "execution_id": "The id of the `execute` command.",
    "consumer": "Who could not handle the message.",
}
_COMMAND_HEADERS: Schema = {
    "type": "object",
    "properties": {
        COMMAND_ID_HEADER: {"type": "string", "description": "The command's id; makes it safe to send again."},
        ACTOR_HEADER: {"type": "string", "description": "Who asks; it stands in the events."},
        "traceparent": {"type": "string", "description": "W3C trace context."},
    },
}
_OUTCOME_HEADERS: Schema = {
    "type": "object",
    "properties": {
        COMMAND_SEQUENCE_HEADER: {
            "type": "string",
            "description": "The stream sequence of the command that the outcome was said for; 0 if that is not known.",
        },
    },
}
_REPLY_HEADERS: Schema = {
    "type": "object",
    "properties": {
        ERROR_HEADER: {"type": "string", "description": "Of a failure: the text, in one line."},
        ERROR_CODE_HEADER: {"type": "string", "description": "Of a failure: its code."},
    },
}
_SERVER = {
    "host": "{host}:{port}",
    "protocol": "nats",
    "title": "NATS with JetStream",
    "description": "The server in L02_NATS_URL; that which `l02 up` starts stands in l02.json of its data directory, "
    "as nats_url, with user and password.",
    "variables": {
        "host": {"default": "127.0.0.1"},
        "port": {"default": "4222", "description": "One started by `l02 up` has a free port."},
    },
    "security": [{"$ref": "#/components/securitySchemes/user"}],
}
_PIECE: Schema = {
    "title": "Piece",
    "oneOf": [
        {
            "type": "object",
            "properties": {"n": {"type": "integer", "minimum": 0}, "delta": {"type": "string"}},
            "required": ["n", "delta"],
        },
        {
            "type": "object",
            "properties": {"n": {"type": "integer", "minimum": 0}, "void_from": {"type": "integer", "minimum": 0}},
            "required": ["n", "void_from"],
        },
        {
            "type": "object",
            "properties": {"n": {"type": "integer", "minimum": 0}, "done": {"const": True}},
            "required": ["n", "done"],
        },
    ],
}


class _Document:
    """Channels, operations and messages, as they are added."""

    def __init__(self) -> None:
        self.channels: dict[str, Any] = {}
        self.operations: dict[str, Any] = {}
        self.messages: dict[str, Any] = {}

    def add_channel(self, name: str, address: str | None, *messages: str) -> None:
        channel: dict[str, Any] = {"address": address}
        parameters = [name for name in _PARAMETERS if f"{{{name}}}" in (address or "")]
        if parameters:
            channel["parameters"] = {name: {"description": _PARAMETERS[name]} for name in parameters}
        channel["messages"] = {message: {"$ref": f"#/components/messages/{message}"} for message in messages}
        self.channels[name] = channel

    def add_operation(self, action: str, channel: str, **more: Any) -> None:
        self.operations[f"{action}.{channel}"] = {"action": action, "channel": _reference(channel), **more}


def _reference(channel: str, message: str | None = None) -> dict[str, str]:
    return {"$ref": f"#/channels/{channel}" + (f"/messages/{message}" if message else "")}


def _message(kind: type[Struct], payload: Schema | None = None, **more: Any) -> dict[str, Any]:
    described = {"summary": SCHEMAS[name_of(kind)].get("description", name_of(kind))}
    return {**described, **more, "payload": payload or reference_to(kind)}


def asyncapi_document() -> str:
    """The document, as YAML."""
    document = _Document()
    for kind in AGGREGATES:
        _add_commands(document, kind)
        _add_events(document, kind)
    _add_rest(document)
    for kind in AGGREGATES:
        _add_requests(document, kind)
    _add_queries(document)
    content = {
        "asyncapi": "3.1.0",
        "info": {
            "title": "l02",
            "version": version("l02"),
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"nats": _SERVER},
        "channels": document.channels,
        "operations": document.operations,
        "components": {
            "messages": document.messages,
            "schemas": SCHEMAS,
            "securitySchemes": {"user": {"type": "userPassword"}},
        },
    }
    return "# Written by `python -m l02.catalogue docs/`. Change the types, not this file.\n" + yaml.dump(
        content, Dumper=_WithoutAliases, sort_keys=False, allow_unicode=True, width=110
    )


class _WithoutAliases(yaml.SafeDumper):
    """Writes what occurs twice twice: an alias would be one more thing that a reader has to resolve."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _add_commands(document: _Document, kind: str) -> None:
    for verb, command in AGGREGATES[kind].wire_commands.items():
        name = f"command.{kind}.{verb}"
        document.messages[name] = _message(command, headers=_COMMAND_HEADERS)
        document.add_channel(name, command_subject(AggregateId(kind, "{id}"), verb), name)
        document.add_operation("receive", name)
    for verb, command in AGGREGATES[kind].due_commands.items():
        name = f"due.{kind}.{verb}"
        document.messages[name] = _message(command)
        aggregate = AggregateId(kind, "{id}")
        part = next((name for name in ("execution_id", "at") if name in command.__struct_fields__), None)
        timer = verb if part is None else f"{verb}.{{{part}}}"
        document.add_channel(f"timer.{kind}.{verb}", timer_subject(aggregate, timer), name)
        document.add_channel(name, due_subject(aggregate, verb), name)
        document.add_operation("send", f"timer.{kind}.{verb}")
        document.add_operation("receive", name)


def _add_events(document: _Document, kind: str) -> None:
    for event in AGGREGATES[kind].events:
        name = f"event.{event.type}"
        document.messages[name] = _message(event, _event_payload(kind, event))
        document.add_channel(name, event_subject(AggregateId(kind, "{id}"), event.type), name)
        document.add_operation("send", name)


def _event_payload(kind: str, event: type[Event]) -> Schema:
    properties = {
        "type": {"const": event.type},
        "schemaversion": {"const": event.schema_version},
        "subject": {"type": "string", "pattern": f"^{kind}/"},
        "data": reference_to(event),
    }
    return {"allOf": [reference_to(CloudEvent), {"type": "object", "properties": properties}]}


def _add_rest(document: _Document) -> None:
    document.messages |= {
        "outcome": _message(Outcome, headers=_OUTCOME_HEADERS),
        "reply": _message(Outcome, headers=_REPLY_HEADERS),
        "piece": {"summary": "A piece of streamed output, or its end.", "payload": _PIECE},
        "dead": _message(DeadLetter),
    }
    document.add_channel("outcome", outcome_subject("{command_id}"), "outcome")
    document.add_channel("stream", stream_subject("{agent_id}", "{execution_id}"), "piece")
    document.add_channel("dead", dead_subject("{consumer}"), "dead")
    for channel in ("outcome", "stream", "dead"):
        document.add_operation("send", channel)
    for kind, fold in LIVE_VIEWS.items():
        document.messages[f"view.{kind}"] = _message(fold.view)
        document.add_channel(f"view.{kind}", f"$KV.{VIEWS_BUCKET}.{kind}.{{id}}", f"view.{kind}")
        document.add_operation("send", f"view.{kind}")
    document.messages["usage"] = _message(LiveUsage)
    document.add_channel("usage", usage_subject("{id}"), "usage")
    document.add_operation("send", "usage")


def _add_requests(document: _Document, kind: str) -> None:
    for verb, command in AGGREGATES[kind].wire_commands.items():
        message = _message(command, request_schema(command), headers=_COMMAND_HEADERS)
        _add_endpoint(document, f"{kind}.{verb}", message, "reply")


def _add_queries(document: _Document) -> None:
    for name, fields in QUERY_FIELDS.items():
        document.messages[f"answer.{name}"] = _message(Answer, _answer_payload(name), headers=_REPLY_HEADERS)
        _add_endpoint(document, name, _message(fields), f"answer.{name}")


def _add_endpoint(document: _Document, name: str, message: dict[str, Any], answer: str) -> None:
    request, reply = f"request.{name}", f"reply.{name}"
    document.messages[request] = message
    document.add_channel(request, f"{API}.{name}", request)
    document.add_channel(reply, None, answer)
    document.add_operation(
        "receive", request, reply={"channel": _reference(reply), "messages": [_reference(reply, answer)]}
    )


def _answer_payload(query: str) -> Schema:
    return {"allOf": [reference_to(Answer), {"type": "object", "properties": {"result": RESULTS[query]}}]}
