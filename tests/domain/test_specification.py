"""Specifications of any shape: each is taken, and can be kept for ever, or refused with the place of what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from l02.domain.errors import ErrorCode, Failure
from l02.domain.specification import (
    AgentSpecification,
    FileAccess,
    ModelAgent,
    ResourceLimits,
    RuntimeClass,
    ToolServer,
    TrustLevel,
    cpu_millis,
    memory_bytes,
    validate_specification,
)
from l02.domain.spending.limits import LimitAction, LimitName
from tests.domain.json_values import json_values, texts

PYTHON = AgentSpecification(name="historian", entrypoint="/agents/historian.py")
PROGRAM = AgentSpecification(name="historian", command=("/bin/sh", "historian.sh"))
THINKER = AgentSpecification(name="historian", model=ModelAgent(alias="small", output_schema={"type": "object"}))
GIT = ToolServer(command=("git-server",), allow=("git_log", "git_push"), ask=("git_push",))

WHOLE = msgspec.to_builtins(
    replace(PROGRAM, tools={"git": GIT}, environment={"LANG": "C"}, files=FileAccess(read=("/a",), write=("/b",)))
)
"""A good specification with something in every part, as it stands in a file."""
THINKS = WHOLE | {"command": None, "model": msgspec.to_builtins(THINKER.model)}

amounts = st.text(st.sampled_from("0123456789mMGiKk.-+e _\n٣２"), max_size=10)
some_json = st.none() | json_values
one_value = some_json | amounts | st.floats() | st.integers(0, 10) | st.lists(texts | amounts | st.floats(), max_size=2)


def paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    if isinstance(value, dict | list | tuple):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths(inner, (*path, key))


def with_other(value: Any, path: tuple[str | int, ...], other: Any) -> Any:
    """`value` with `other` at `path`; unchanged if there is no such place (any more)."""
    if not path:
        return other
    key, *rest = path
    match value:
        case dict():
            return {**value, key: with_other(value.get(key), tuple(rest), other)}
        case list() | tuple() if isinstance(key, int) and key < len(value):
            return [*value[:key], with_other(value[key], tuple(rest), other), *value[key + 1 :]]
        case _:
            return value


def with_changes(whole: Any, changes: list[tuple[tuple[str | int, ...], Any]]) -> Any:
    return reduce(lambda value, change: with_other(value, *change), changes, whole)


places = st.sampled_from(list({*paths(WHOLE), *paths(THINKS)})) | st.sampled_from(
    [("entrypoint",), ("fleet",), ("other",), ("tools", "x")]
)
specifications = st.builds(
    with_changes, st.sampled_from([WHOLE, THINKS]), st.lists(st.tuples(places, one_value), max_size=3)
)


def refused(specification: AgentSpecification, path: str, saying: str = "") -> None:
    with pytest.raises(Failure) as caught:
        validate_specification(specification)
    assert saying in caught.value.message
    assert caught.value.code is ErrorCode.COMMAND_INVALID
    assert caught.value.path == path


@settings(max_examples=500)
@given(specifications)
def test_anything_is_taken_or_refused(value: Any) -> None:
    try:
        specification = msgspec.convert(value, AgentSpecification)
        validate_specification(specification)
    except (Failure, msgspec.ValidationError):
        return
    assert msgspec.json.decode(msgspec.json.encode(specification), type=AgentSpecification) == specification
    assert cpu_millis(specification.resource_limits.cpu) > 0
    assert memory_bytes(specification.resource_limits.memory) > 0


@given(st.binary(max_size=40) | some_json.map(msgspec.json.encode))
@example(b"[" * 100_000)
@example(b'{"name":"a","lifecycle":{"spawn_timeout_seconds":' + b"9" * 5000 + b"}}")
@example(b'{"name":"a","lifecycle":{"spawn_timeout_seconds":1e400}}')
@example(b'{"name":"\\ud800"}')
def test_any_bytes_are_taken_or_refused(raw: bytes) -> None:
    try:
        validate_specification(msgspec.json.decode(raw, type=AgentSpecification))
    except Failure as failure:
        assert failure.code is ErrorCode.COMMAND_INVALID
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass


@pytest.mark.parametrize(
    "specification", [PYTHON, PROGRAM, THINKER, replace(PYTHON, entrypoint="agents.historian:agent")]
)
def test_the_least_one_can_write(specification: AgentSpecification) -> None:
    validate_specification(specification)
    assert msgspec.convert(msgspec.to_builtins(specification), AgentSpecification) == specification


def test_there_is_exactly_one_thing_to_run() -> None:
    refused(replace(PYTHON, entrypoint=None), "$.spec.entrypoint", "exactly one")
    refused(replace(PYTHON, command=("/bin/sh",)), "$.spec.entrypoint", "exactly one")
    refused(replace(THINKER, command=("/bin/sh",)), "$.spec.entrypoint", "exactly one")
    refused(replace(PYTHON, model=THINKER.model), "$.spec.entrypoint", "exactly one")


def test_an_agent_may_ask_its_own_model_and_those_it_names() -> None:
    assert PYTHON.allowed_models == ()
    assert replace(PYTHON, models=("large",)).allowed_models == ("large",)
    assert replace(THINKER, models=("large", "small")).allowed_models == ("small", "large")


def with_path(path: str) -> AgentSpecification:
    return replace(PYTHON, files=FileAccess(read=(path,)))


def test_paths_are_no_longer_than_linux_takes() -> None:
    """The system refuses a longer one with an error, not with "there is no such file"."""
    validate_specification(with_path("/" + "é" * 127 + "a"))
    refused(with_path("/" + "é" * 128), "$.spec.files.read", "255 between two slashes")
    validate_specification(with_path("/abc" * 1023 + "/ab"))
    refused(with_path("/abc" * 1024), "$.spec.files.read", "at most 4095 bytes")


@pytest.mark.parametrize("path", ["", ".", "a.py", "../a.py", "~/a.py", "/a\0.py"])
def test_paths_are_absolute(path: str) -> None:
    refused(replace(PYTHON, entrypoint=path), "$.spec.entrypoint", "not an absolute path")
    refused(replace(PYTHON, files=FileAccess(read=("/a", path))), "$.spec.files.read")
    refused(replace(PYTHON, files=FileAccess(write=(path,))), "$.spec.files.write")
    refused(replace(PYTHON, tools={"git": replace(GIT, read=(path,))}), "$.spec.tools.git.read")
    refused(replace(PYTHON, tools={"git": replace(GIT, write=(path,))}), "$.spec.tools.git.write")


@pytest.mark.parametrize("command", [("",), ("", "a"), ("sh", "a\0b"), ("s\0h",)])
def test_a_program_can_be_run_as_it_is_written(command: tuple[str, ...]) -> None:
    refused(replace(PROGRAM, command=command), "$.spec.command")
    refused(replace(PYTHON, tools={"git": ToolServer(command=command)}), "$.spec.tools.git.command")


@pytest.mark.parametrize(("name", "value"), [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "\0")])
def test_an_environment_can_be_set_as_it_is_written(name: str, value: str) -> None:
    refused(replace(PYTHON, environment={name: value}), "$.spec.environment")
    tools = {"git": replace(GIT, environment={name: value})}
    refused(replace(PYTHON, tools=tools), "$.spec.tools.git.environment")


def test_the_path_begins_where_the_specification_does() -> None:
    bad = replace(PYTHON, resource_limits=ResourceLimits(cpu="two"))
    with pytest.raises(Failure) as caught:
        validate_specification(bad, "$")
    assert caught.value.path == "$.resource_limits.cpu"


@pytest.mark.parametrize(
    ("text", "millis"),
    [("1", 1000), ("2", 2000), ("9999", 9_999_000), ("1m", 1), ("500m", 500), ("9999999m", 9_999_999)],
)
def test_cpu(text: str, millis: int) -> None:
    assert cpu_millis(text) == millis


@pytest.mark.parametrize(
    ("text", "size"), [("1Mi", 2**20), ("512Mi", 2**29), ("2Gi", 2**31), ("9999999Gi", 9_999_999 * 2**30)]
)
def test_memory(text: str, size: int) -> None:
    assert memory_bytes(text) == size


@given(amounts | st.text())
@example("２")
@example("2\n")
@example("0")
@example("0m")
@example("10000")
@example("9" * 10_000)
def test_cpu_is_an_amount_or_refused(text: str) -> None:
    try:
        millis = cpu_millis(text, "$.here")
    except Failure as failure:
        assert (failure.code, failure.path) == (ErrorCode.COMMAND_INVALID, "$.here")
    else:
        assert text in (f"{millis}m", str(millis // 1000))
        assert 1 <= millis <= 9_999_999


@given(amounts | st.text())
@example("２Gi")
@example("2Gi\n")
@example("0Mi")
@example("2G")
@example("9" * 10_000 + "Gi")
def test_memory_is_an_amount_or_refused(text: str) -> None:
    try:
        size = memory_bytes(text, "$.here")
    except Failure as failure:
        assert (failure.code, failure.path) == (ErrorCode.COMMAND_INVALID, "$.here")
    else:
        assert text in (f"{size // 2**20}Mi", f"{size // 2**30}Gi")


def test_trust_chooses_the_sandbox() -> None:
    assert {level: RuntimeClass.of(level) for level in TrustLevel} == {
        "trusted": "process",
        "standard": "landlock",
        "untrusted": "gvisor",
        "confidential": "kata-cc",
    }


def test_a_tool_server_starts_when_it_is_wanted_or_with_the_agent() -> None:
    servers = msgspec.json.decode(b'[{"command": ["a"]}, {"command": ["a"], "start": "eager"}]', type=list[ToolServer])
    assert [server.start for server in servers] == [msgspec.UNSET, "eager"]
    assert b"start" not in msgspec.json.encode(servers[0]), "what was stored before is stored in the same bytes"
    with pytest.raises(msgspec.ValidationError, match="soon"):
        msgspec.json.decode(b'{"command": ["a"], "start": "soon"}', type=ToolServer)


def _refusal(**limits: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        validate_specification(replace(PYTHON, resource_limits=ResourceLimits(**limits)))
    return caught.value


def test_limits_on_models_fit_each_other() -> None:
    validate_specification(replace(PYTHON, resource_limits=ResourceLimits(tokens_per_hour=7, tokens_per_day=7)))
    validate_specification(replace(PYTHON, resource_limits=ResourceLimits(tokens_per_hour=None, tokens_per_day=0)))
    hourly = _refusal(tokens_per_hour=8, tokens_per_day=7)
    assert (hourly.code, hourly.path) == (ErrorCode.COMMAND_INVALID, "$.spec.resource_limits.tokens_per_hour")
    assert "make the daily limit the larger one" in hourly.message
    finer = _refusal(cost_per_day=0.0000001)
    assert (finer.code, finer.path) == (ErrorCode.COMMAND_INVALID, "$.spec.resource_limits.cost_per_day")
    descending = _refusal(warn_at=(0.9, 0.8))
    assert (descending.code, descending.path) == (ErrorCode.COMMAND_INVALID, "$.spec.resource_limits.warn_at")


def test_what_a_specification_leaves_out_is_as_the_settings_say() -> None:
    left_out = ResourceLimits().with_defaults(5000, LimitAction.ASK, (0.5,))
    assert left_out == ResourceLimits(tokens_per_hour=5000, action=LimitAction.ASK, warn_at=(0.5,))
    said = ResourceLimits(tokens_per_hour=None, action=LimitAction.WARN, warn_at=())
    assert said.with_defaults(5000, LimitAction.ASK, (0.5,)) == said
    daily = ResourceLimits(tokens_per_day=800, action=LimitAction.WARN, warn_at=())
    assert daily.with_defaults(5000, LimitAction.ASK, ()).tokens_per_hour == 800
    assert daily.with_defaults(500, LimitAction.ASK, ()).tokens_per_hour == 500


def test_limits_are_tokens_and_millionths() -> None:
    assert ResourceLimits().amounts == {LimitName.TOKENS_PER_HOUR: 100_000}
    assert ResourceLimits(tokens_per_hour=None, tokens_per_day=0, cost_per_day=2.5).amounts == {
        LimitName.TOKENS_PER_DAY: 0,
        LimitName.COST_PER_DAY: 2_500_000,
    }
