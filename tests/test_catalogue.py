"""The pages of the catalogue are those that the types give, and AsyncAPI's references and schemas hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import jsonschema
import msgspec
import pytest
import yaml

from l02.catalogue import examples, pages
from l02.catalogue.commands_section import COMPLETED_BY
from l02.catalogue.schemas import RESULTS
from l02.domain.aggregates import EVENT_TYPES
from l02.domain.errors import EXPLANATIONS, ErrorCode
from l02.domain.kernel.message import Completing
from l02.node.queries import QUERY_FIELDS, query_table
from l02.projections.views.projector import LIVE_VIEWS

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def asyncapi() -> dict[str, Any]:
    return cast(dict[str, Any], yaml.safe_load(pages()["asyncapi.yaml"]))


@pytest.mark.parametrize("name", ["events.md", "asyncapi.yaml", "errors.md", "settings.md"])
def test_the_committed_page_is_up_to_date(name: str) -> None:
    committed = (DOCS / name).read_text(encoding="utf-8")
    assert committed == pages()[name], "run `python -m l02.catalogue docs/`"


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            assert value.keys() == {"$ref"}, "AsyncAPI sees nothing beside a $ref"
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_every_reference_resolves(asyncapi: dict[str, Any]) -> None:
    found = set(references(asyncapi))
    assert len(found) > 50
    for reference in found:
        place: Any = asyncapi
        assert reference.startswith("#/")
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_every_schema_is_one(asyncapi: dict[str, Any]) -> None:
    for schema in asyncapi["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for message in asyncapi["components"]["messages"].values():
        jsonschema.Draft202012Validator.check_schema(message["payload"])


def test_every_channel_and_message_is_used(asyncapi: dict[str, Any]) -> None:
    found = set(references(asyncapi["operations"]))
    assert {f"#/channels/{name}" for name in asyncapi["channels"]} <= found
    assert {f"#/components/messages/{name}" for name in asyncapi["components"]["messages"]} <= set(
        references(asyncapi["channels"])
    )


def validator(asyncapi: dict[str, Any], message: str) -> jsonschema.Draft202012Validator:
    payload = asyncapi["components"]["messages"][message]["payload"]
    return jsonschema.Draft202012Validator({"components": asyncapi["components"], "allOf": [payload]})


def test_who_has_the_document_alone_finds_the_server_and_what_may_be_watched(asyncapi: dict[str, Any]) -> None:
    [server] = asyncapi["servers"].values()
    assert server["protocol"] == "nats"
    named = set(re.findall(r"{(\w+)}", server["host"]))
    assert named == server["variables"].keys()
    addresses = {channel["address"] for channel in asyncapi["channels"].values()}
    assert {f"$KV.l02_views.{kind}.{{id}}" for kind in LIVE_VIEWS} <= addresses


def test_what_is_on_the_wire_fits_its_schema(asyncapi: dict[str, Any]) -> None:
    event = examples.event()
    validator(asyncapi, f"event.{event['type']}").validate(event)
    for outcome in (examples.completed_outcome(), examples.refused_outcome(), examples.unreadable_outcome()):
        validator(asyncapi, "outcome").validate(msgspec.to_builtins(outcome))
    specification = {"name": "historian", "entrypoint": "/srv/historian.py"}
    validator(asyncapi, "command.agent.spawn").validate({"spec": specification, "wait": "accepted"})
    validator(asyncapi, "request.agent.spawn").validate({"spec": specification, "id": "a1"})
    validator(asyncapi, "reply").validate(msgspec.to_builtins(examples.refused_outcome()))
    validator(asyncapi, "piece").validate({"n": 0, "delta": "text"})


@pytest.mark.parametrize(
    ("message", "value"),
    [
        ("event.agent.spawned", examples.event()),
        ("event.agent.execution.completed", examples.event() | {"data": {"execution_id": "e1"}}),
        ("command.agent.spawn", {"spec": {"name": 7, "entrypoint": "/srv/historian.py"}}),
        ("command.agent.execute", {"input": "count", "origin": {"actor": "somebody else"}}),
        ("request.agent.execute", {"input": "count"}),
        ("request.agent.execute", {"input": "count", "id": "a.1"}),
        ("outcome", {"command_id": "c1"}),
        ("piece", {"n": 0}),
    ],
)
def test_what_is_wrong_does_not_fit(asyncapi: dict[str, Any], message: str, value: Any) -> None:
    assert not validator(asyncapi, message).is_valid(value)


def test_every_event_that_completes_commands_has_its_commands() -> None:
    named = {event for events in COMPLETED_BY.values() for event in events}
    assert named == {event for event in EVENT_TYPES.values() if issubclass(event, Completing)}


def test_every_query_is_described() -> None:
    nothing = cast(Any, None)
    assert query_table(nothing, nothing, nothing, nothing).keys() == QUERY_FIELDS.keys() == RESULTS.keys()


def test_every_error_is_explained_on_one_line_each() -> None:
    assert EXPLANATIONS.keys() == set(ErrorCode)
    assert all(text and "\n" not in text for explanation in EXPLANATIONS.values() for text in explanation)
