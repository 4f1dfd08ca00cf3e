"""Whatever comes in from outside, it is taken or refused with a code; nothing else comes out."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.agent.commands import WIRE_COMMANDS, Signal, Spawn, WireCommand
from domain.aggregates import AGENT
from domain.errors import ErrorCode, Failure
from domain.identifiers import MAX_ID_LENGTH, require_id
from domain.message import Event
from domain.specification import AgentSpecification, cpu_millis, memory_bytes, validate_specification
from domain.values import as_reference
from tests.domain.agent.story import EXECUTING, FAILED, RESTARTING, SUSPENDED, TERMINATING
from tests.domain.agent.story import given as an_agent
from tests.domain.json_values import json_values, texts
from tests.domain.read_back import read_back

any_text = st.text(max_size=300)
"""Also lone surrogates, which JSON cannot bring but a Python caller can."""


@given(any_text | st.from_regex(r"[A-Za-z0-9_-]{1,200}", fullmatch=True))
def test_ids(text: str) -> None:
    fits = re.fullmatch("[A-Za-z0-9_-]+", text) is not None and len(text) <= MAX_ID_LENGTH
    if fits:
        assert require_id(text, "$.id") == text
    else:
        refused = refusal(require_id, text)
        assert refused.path == "$.id"
        assert len(refused.message) < 500


@pytest.mark.parametrize("text", ["", "a b", "a.b", "a*", ">", "a\n", "ä", "x" * 129, "x" * 10_000, "\0"])
def test_what_is_no_id(text: str) -> None:
    refusal(require_id, text)


@given(any_text | st.from_regex(r"[0-9]{1,9}m?", fullmatch=True))
def test_cpu(text: str) -> None:
    with suppress(Failure):
        millis = cpu_millis(text)
        assert text in {f"{millis}m", str(millis // 1000)}
        assert millis > 0


@pytest.mark.parametrize(("text", "millis"), [("2", 2000), ("500m", 500), ("1m", 1), ("9999", 9_999_000)])
def test_cpu_amounts(text: str, millis: int) -> None:
    assert cpu_millis(text) == millis


@pytest.mark.parametrize("text", ["", "0", "0m", "-1", "1.5", "2 ", "2\n", "m", "1M", "02", "٢", "99999", "1e3"])
def test_what_is_no_cpu_amount(text: str) -> None:
    refusal(cpu_millis, text)


@given(any_text | st.from_regex(r"[0-9]{1,9}(Mi|Gi|M|k)?", fullmatch=True))
def test_memory(text: str) -> None:
    with suppress(Failure):
        size = memory_bytes(text)
        assert text in {f"{size // 1024**2}Mi", f"{size // 1024**3}Gi"}
        assert 0 < size < 2**63


@pytest.mark.parametrize(("text", "size"), [("512Mi", 512 * 1024**2), ("2Gi", 2 * 1024**3)])
def test_memory_amounts(text: str, size: int) -> None:
    assert memory_bytes(text) == size


@pytest.mark.parametrize("text", ["", "0Mi", "512", "512M", "1.5Gi", "-1Gi", "1Gi\n", " 1Gi", "1gi", "٢Gi", "1Ti"])
def test_what_is_no_memory_amount(text: str) -> None:
    refusal(memory_bytes, text)


def likely(kind: type[Any]) -> st.SearchStrategy[Any]:
    """An object with some of the struct's own fields, holding anything at all or something that nearly fits."""
    fields = {
        field.encode_name: st.deferred(lambda type_=field.type: fitting(type_) | json_values)
        for field in msgspec.structs.fields(kind)
    }
    return st.fixed_dictionaries({}, optional=fields) | st.dictionaries(texts, json_values, max_size=3)


def fitting(type_: Any) -> st.SearchStrategy[Any]:
    info = msgspec.inspect.type_info(type_)
    structs = [part for part in getattr(info, "types", [info]) if isinstance(part, msgspec.inspect.StructType)]
    if structs:
        return likely(structs[0].cls)
    return st.sampled_from(PLAUSIBLE)


PLAUSIBLE: list[Any] = [
    "historian", "/agents/historian.py", "module:agent", "a\0b", "", "2", "2Gi", "standard", "complete", "drain",
    1, 0, -1, 1.5, 10**30, True, None, [], {}, ["python", "agent.py"], [""], ["/etc", "relative"], [1.0, 2.0],
    {"A": "1"}, {"A=B": "1"}, {"": "\0"}, {"git": {"command": ["git"]}}, {"git": {"command": []}},
]  # fmt: skip


@given(likely(AgentSpecification))
def test_specifications(fields: Any) -> None:
    specification = converted(fields, AgentSpecification)
    if specification is not None:
        with suppress(Failure):
            validate_specification(specification)


@given(st.sampled_from(WIRE_COMMANDS).flatmap(lambda kind: st.tuples(st.just(kind), likely(kind))))
def test_commands(sent: tuple[type[WireCommand], Any]) -> None:
    kind, fields = sent
    command = converted(fields, kind)
    if command is None:
        return
    for past in ((), EXECUTING, RESTARTING, SUSPENDED, TERMINATING, FAILED):
        with suppress(Failure):
            events: list[Event] = AGENT.decide(an_agent(*past).state, command)
            assert [read_back(event) for event in events] == events


VALID: dict[str, Any] = {"name": "historian", "entrypoint": "/agents/historian.py"}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"command": ["python"]}, "$.spec.entrypoint"),
        ({"entrypoint": None}, "$.spec.entrypoint"),
        ({"entrypoint": "historian.py"}, "$.spec.entrypoint"),
        ({"entrypoint": "/agents/\0.py"}, "$.spec.entrypoint"),
        ({"entrypoint": None, "command": ["a", "\0"]}, "$.spec.command"),
        ({"entrypoint": None, "command": [""]}, "$.spec.command"),
        ({"fleet": "a.b"}, "$.spec.fleet"),
        ({"environment": {"A=B": "1"}}, "$.spec.environment"),
        ({"environment": {"": "1"}}, "$.spec.environment"),
        ({"environment": {"A": "\0"}}, "$.spec.environment"),
        ({"resource_limits": {"cpu": "2 cores"}}, "$.spec.resource_limits.cpu"),
        ({"resource_limits": {"memory": "2GB"}}, "$.spec.resource_limits.memory"),
        ({"files": {"read": ["docs"]}}, "$.spec.files.read"),
        ({"files": {"write": ["../x"]}}, "$.spec.files.write"),
        ({"tools": {"git": {"command": ["git", "\0"]}}}, "$.spec.tools.git.command"),
        ({"tools": {"git": {"command": ["git"], "read": ["."]}}}, "$.spec.tools.git.read"),
        ({"tools": {"git": {"command": ["git"], "environment": {"=": ""}}}}, "$.spec.tools.git.environment"),
    ],
)
def test_what_a_specification_may_not_say(change: dict[str, Any], path: str) -> None:
    validate_specification(msgspec.convert(VALID, AgentSpecification))
    with pytest.raises(Failure) as caught:
        validate_specification(msgspec.convert(VALID | change, AgentSpecification))
    assert caught.value.code is ErrorCode.COMMAND_INVALID
    assert caught.value.path == path


@pytest.mark.parametrize(
    "change",
    [
        {"unknown": 1},
        {"name": ""},
        {"name": "x" * 129},
        {"trust_level": "root"},
        {"command": []},
        {"lifecycle": {"restart_delay_seconds": []}},
        {"lifecycle": {"max_restart_count": -1}},
        {"executor": {"tool_timeout_seconds": 0}},
    ],
)
def test_what_the_types_refuse(change: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(VALID | change, AgentSpecification)


def test_a_command_has_no_unknown_fields() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `payloads`"):
        msgspec.convert({"name": "approve", "payloads": 1}, Signal)
    with pytest.raises(msgspec.ValidationError, match=r"\$\.spec"):
        msgspec.convert({"spec": {}}, Spawn)


@given(json_values | st.fixed_dictionaries({"$object": json_values, "sha256": json_values, "size": json_values}))
def test_only_a_reference_is_taken_for_one(value: Any) -> None:
    reference = as_reference(value)
    if reference is not None:
        assert msgspec.to_builtins(reference) == value
        assert isinstance(reference.name, str)
        assert type(reference.size) is int


def converted(fields: Any, kind: type[Any]) -> Any:
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError:
        return None


def refusal(check: Any, text: str) -> Failure:
    with pytest.raises(Failure) as caught:
        check(text, "$.id")
    assert caught.value.code is ErrorCode.COMMAND_INVALID
    return caught.value
