"""The types on the wire as JSON Schemas, as other programs meet them."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc
from typing import Any

import msgspec
from msgspec import Struct

from l02.bus.commands.dead_letters import DeadLetter
from l02.bus.commands.outcomes import Outcome
from l02.bus.commands.service import Answer
from l02.bus.wire.codec import SOURCE, CloudEvent
from l02.domain.agent.resources import LiveUsage
from l02.domain.agent.state import NewestState
from l02.domain.aggregates import AGGREGATES, EVENT_TYPES
from l02.domain.identifiers import MAX_ID_LENGTH
from l02.domain.kernel.message import WireCommand
from l02.domain.values import ObjectReference
from l02.node.queries import QUERY_FIELDS
from l02.projections.folds.agents import AgentView
from l02.projections.folds.budgets import BudgetView
from l02.projections.folds.checkpoints import CheckpointView
from l02.projections.folds.executions import ExecutionView
from l02.projections.folds.nodes import NodeView
from l02.projections.folds.waiting import QuestionView
from l02.projections.queries import Usage
from l02.projections.tables.definitions import TABLES

Schema = dict[str, Any]
VIEWS: tuple[type[Struct], ...] = (
    *(table.fold.view for table in TABLES.values()),
    NewestState,
    LiveUsage,
    QuestionView,
    Usage,
)
REFERENCE = "#/components/schemas/"

_ID: Schema = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$", "minLength": 1, "maxLength": MAX_ID_LENGTH}


def _types() -> list[type[Struct]]:
    commands = [
        command
        for aggregate in AGGREGATES.values()
        for command in (*aggregate.wire_commands.values(), *aggregate.due_commands.values())
    ]
    others: tuple[type[Struct], ...] = (Outcome, Answer, DeadLetter, ObjectReference, *VIEWS)
    return [CloudEvent, *EVENT_TYPES.values(), *commands, *QUERY_FIELDS.values(), *others]


def _generate() -> tuple[dict[type[Struct], str], dict[str, Schema]]:
    """The name of each type's schema, and all schemas: those of the types and of what they are made of."""
    types = _types()
    references, generated = msgspec.json.schema_components(types, ref_template=REFERENCE + "{name}")
    names = {kind: reference["$ref"].removeprefix(REFERENCE) for kind, reference in zip(types, references, strict=True)}
    generated[names[CloudEvent]]["properties"] |= {
        "specversion": {"const": "1.0"},
        "source": {"const": SOURCE},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"const": "application/json"},
    }
    used = set(names.values()).union(*(referenced(generated[name], generated) for name in names.values()))
    return names, {name: _tidy(schema) for name, schema in generated.items() if name in used}


def referenced(schema: Any, schemas: dict[str, Schema]) -> set[str]:
    """The names of the schemas that `schema` is made of, directly or not."""
    found: set[str] = set()
    waiting = list(_references(schema))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(_references(schemas[name]))
    return found


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].removeprefix(REFERENCE)
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _tidy(value: Any) -> Any:
    """One line for each description, and nothing beside a `$ref`, which AsyncAPI would not see."""
    if isinstance(value, list | tuple):
        return [_tidy(item) for item in value]
    if not isinstance(value, dict):
        return value
    tidied = {key: _tidy(item) for key, item in value.items()}
    if isinstance(value.get("description"), str):
        tidied["description"] = " ".join(cleandoc(value["description"]).split())
    if "$ref" in tidied and len(tidied) > 1:
        tidied["allOf"] = [{"$ref": tidied.pop("$ref")}]
    if tidied.get("required") == []:
        del tidied["required"]
    return tidied


_NAMES, SCHEMAS = _generate()


def name_of(kind: type[Struct]) -> str:
    """The name of the type's schema in `SCHEMAS`."""
    return _NAMES[kind]


def reference_to(kind: type[Struct]) -> Schema:
    """A schema that says: as the type's own."""
    return {"$ref": REFERENCE + name_of(kind)}


def request_schema(command: type[WireCommand]) -> Schema:
    """The command's body with whom it goes to, and its id if the sender gives it one."""
    schema = SCHEMAS[name_of(command)]
    added: Schema = {
        "id": _ID | {"description": "The aggregate's id."},
        "command_id": _ID | {"description": "Makes the request safe to send again; made up if absent."},
    }
    return schema | {
        "title": f"{schema['title']}Request",
        "properties": added | schema["properties"],
        "required": ["id", *schema.get("required", [])],
    }


_STORED_EVENT: Schema = {
    "allOf": [reference_to(CloudEvent), {"type": "object", "properties": {"sequence": {"type": "integer"}}}],
}
RESULTS: dict[str, Schema] = {
    "agent.get": reference_to(AgentView),
    "agent.list": {"type": "array", "items": reference_to(AgentView)},
    "agent.state": reference_to(NewestState),
    "agent.executions": {"type": "array", "items": reference_to(ExecutionView)},
    "agent.checkpoints": {"type": "array", "items": reference_to(CheckpointView)},
    "agent.questions": {"type": "array", "items": reference_to(QuestionView)},
    "usage.get": {"type": "array", "items": reference_to(Usage)},
    "budget.get": reference_to(BudgetView),
    "budget.list": {"type": "array", "items": reference_to(BudgetView)},
    "node.list": {"type": "array", "items": reference_to(NodeView)},
    "events.read": {
        "type": "object",
        "properties": {"events": {"type": "array", "items": _STORED_EVENT}, "more": {"type": "boolean"}},
        "required": ["events", "more"],
        "description": "The CloudEvents, each with its stream `sequence`. If there are `more`, ask again with the last "
        "sequence as `after`.",
    },
}
