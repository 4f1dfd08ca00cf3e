"""Specification files: what loads, and that every mistake is E2110 with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from l02.client.specification_file import load_specification
from l02.domain.errors import ErrorCode, Failure
from l02.domain.specification import AgentSpecification, TrustLevel

WHOLE = """\
name: historian
entrypoint: historian.py
trust_level: trusted
resource_limits: {cpu: 2, memory: 512Mi, tokens_per_hour: 1000}
environment: {COUNTRY: NO, VERSION: 1.10, PORT: 8080, EMPTY: ""}
fleet: null
tools:
  git:
    command: [python, -m, mcp_server_git, --repository, ., ../other, ./bin/x, .hidden, a/b]
    idempotent: [git_log]
    read: ["."]
    network: []
files: {read: [docs, /etc/hosts, ../up], write: ["out/"]}
executor: {enable_streaming: false, tool_timeout_seconds: 2.5}
lifecycle: {restart_delay_seconds: [1, 2]}
"""


def write(folder: Path, text: str | bytes, name: str = "agent.yaml") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def mistake(path: Path) -> Failure:
    with pytest.raises(Failure) as caught:
        load_specification(path)
    assert caught.value.code is ErrorCode.COMMAND_INVALID
    return caught.value


def test_values_have_the_type_of_their_field(tmp_path: Path) -> None:
    write(tmp_path, "", "historian.py")
    found = load_specification(write(tmp_path, WHOLE))
    assert found.trust_level is TrustLevel.TRUSTED
    assert found.resource_limits.cpu == "2"
    assert found.resource_limits.tokens_per_hour == 1000
    assert found.environment == {"COUNTRY": "NO", "VERSION": "1.10", "PORT": "8080", "EMPTY": ""}
    assert found.fleet is None
    assert found.executor.enable_streaming is False
    assert found.executor.tool_timeout_seconds == 2.5
    assert found.lifecycle.restart_delay_seconds == (1.0, 2.0)


def test_relative_paths_are_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "agents"
    folder.mkdir()
    write(folder, "", "historian.py")
    write(folder, WHOLE)
    monkeypatch.chdir(tmp_path)
    found = load_specification("agents/agent.yaml")
    assert found.entrypoint == f"{folder}/historian.py"
    assert found.files.read == (f"{folder}/docs", "/etc/hosts", f"{tmp_path}/up")
    assert found.files.write == (f"{folder}/out",)
    assert found.tools["git"].read == (str(folder),)
    assert found.tools["git"].command == (
        *("python", "-m", "mcp_server_git", "--repository"),
        *(str(folder), f"{tmp_path}/other", f"{folder}/bin/x", ".hidden", "a/b"),
    )


def test_a_program_beside_the_file(tmp_path: Path) -> None:
    found = load_specification(write(tmp_path, "name: shell\ncommand: [./agent.sh, --fast]"))
    assert found.command == (f"{tmp_path}/agent.sh", "--fast")


def test_a_module_is_no_path(tmp_path: Path) -> None:
    assert load_specification(write(tmp_path, "name: a\nentrypoint: pkg.mod:agent")).entrypoint == "pkg.mod:agent"


def test_home_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    found = load_specification(write(tmp_path, "name: a\ncommand: [x]\nfiles: {read: [~/docs]}"))
    assert found.files.read == ("/home/ada/docs",)


def test_json_is_taken_strictly(tmp_path: Path) -> None:
    body = {"name": "a", "command": ["x"], "executor": {"max_tool_retries": 2}}
    assert load_specification(write(tmp_path, json.dumps(body), "a.json")).executor.max_tool_retries == 2
    body["executor"] = {"max_tool_retries": "2"}
    assert mistake(write(tmp_path, json.dumps(body), "a.json")).path == "$.executor.max_tool_retries"


@pytest.mark.parametrize(
    ("text", "said", "field"),
    [
        ("name: [", "line 1:", None),
        ("name: a\n\tcommand: [x]", "line 2:", None),
        ("name: a\nname: b", "line 2: the key 'name' comes twice", None),
        ("name: a\ncommand: [x]\nenvironment:\n  A: 1\n  A: 2", "line 5:", None),
        ("name: a\n---\nname: b", "line 2:", None),
        ("name: !!python/object/apply:os.getcwd []", "line 1: the tag", None),
        ("&a [*a]", "line 1:", None),
        ("name: *b", "line 1:", None),
        ("name: \x00", "line 1: the character U+0000", None),
        ("[" * 5000, "nested", None),
        ('name: "\\ud800"\ncommand: [x]', "surrogate", None),
        (b"name: a\ncommand: [\xff]", "line 2: byte 0xff", None),
        ("", "Expected `object`", "$"),
        ("just text", "Expected `object`", "$"),
        ("name: a\nentry: x", "unknown field `entry`", "$"),
        ("name: a\ncommand: [x]\nresource_limits: {gpu: 1}", "unknown field `gpu`", "$.resource_limits"),
        ("name: a\ncommand: [x]\nexecutor: {max_tool_retries: 1.5}", "Expected `int`", "$.executor.max_tool_retries"),
        ("name: a\ncommand: [x]\nresource_limits: {cpu: two}", "CPU amount", "$.resource_limits.cpu"),
        ("name: a\ncommand: [x]\ntrust_level: full", "Invalid enum", "$.trust_level"),
        ("name: a", "exactly one of", "$.entrypoint"),
        ("name: a\ncommand: [x]\nentrypoint: 'm:o'", "exactly one of", "$.entrypoint"),
        ("name: a\nentrypoint: gone.py", "there is no file", "$.entrypoint"),
        ("name: a\ncommand: [x]\nfiles: {read: ['']}", "is not a path", "$.files.read"),
        ('name: a\ncommand: [x]\ntools: {t: {command: [y], write: ["a\\0b"]}}', "not a path", "$.tools.t.write"),
    ],
)
def test_mistakes_in_yaml(tmp_path: Path, text: str | bytes, said: str, field: str | None) -> None:
    failure = mistake(write(tmp_path, text))
    assert said in failure.message
    assert str(tmp_path / "agent.yaml") in failure.message
    assert failure.path == field


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"name": "a",\n}', "line 2:"),
        ('{"name": "a", "name": "b"}', "comes twice"),
        ('{"n": ' + "1" * 5000 + "}", "integer"),
        ("[" * 100_000, "nested"),
        ('{"name": "\\ud800", "command": ["x"]}', "surrogate"),
    ],
)
def test_mistakes_in_json(tmp_path: Path, text: str, said: str) -> None:
    assert said in mistake(write(tmp_path, text, "agent.json")).message


@pytest.mark.parametrize(
    ("name", "said"),
    [("gone.yaml", "No such file"), ("", "directory"), ("a\0b", "null byte"), ("n" * 300, "name too long")],
)
def test_no_such_file(tmp_path: Path, name: str, said: str) -> None:
    assert said in mistake(tmp_path / name).message


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    assert "1048576 bytes" in mistake(write(tmp_path, b" " * (1024 * 1024 + 1))).message


def is_plain(word: str) -> bool:
    return word not in (".", "..") and not word.startswith(("./", "../"))


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\u2028\u2029\x85"))
VARIABLES = TEXT.map(lambda text: text.replace("=", "") or "X")
WORDS = st.lists(TEXT.map(lambda text: text or "x").filter(is_plain), min_size=1, max_size=4)
ABSOLUTE = st.lists(st.text("abc.-_ é", min_size=1).map(lambda name: f"/x{name}"), max_size=3).map(tuple)
SERVERS = st.fixed_dictionaries({"command": WORDS, "read": ABSOLUTE, "idempotent": WORDS})
SPECIFICATIONS = st.fixed_dictionaries(
    {"name": st.text("ab é:#-", min_size=1, max_size=20), "command": WORDS},
    optional={
        "trust_level": st.sampled_from(list(TrustLevel)),
        "resource_limits": st.fixed_dictionaries({"cpu": st.sampled_from(["1", "500m"])}),
        "environment": st.dictionaries(VARIABLES, TEXT, max_size=4),
        "files": st.fixed_dictionaries({"read": ABSOLUTE}),
        "fleet": st.none() | st.text("aZ0-_", min_size=1, max_size=9),
        "tools": st.dictionaries(TEXT, SERVERS, max_size=3),
        "executor": st.fixed_dictionaries({"max_tool_retries": st.integers(0, 100), "enable_streaming": st.booleans()}),
        "lifecycle": st.fixed_dictionaries({"spawn_timeout_seconds": st.floats(0.001, 1e6)}),
    },
)
REPEAT = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@REPEAT
@given(SPECIFICATIONS)
@example({"name": "null", "command": ["~", "1", "yes", "2020-01-01", "0x10", ""], "environment": {"<<": "=", "~": "~"}})
def test_yaml_and_json_say_the_same_as_the_wire(tmp_path: Path, fields: dict[str, Any]) -> None:
    fields = msgspec.to_builtins(fields)
    wanted = msgspec.convert(fields, AgentSpecification)
    in_yaml = yaml.safe_dump(fields, allow_unicode=True)
    assert load_specification(write(tmp_path, in_yaml)) == wanted
    assert load_specification(write(tmp_path, json.dumps(fields), "agent.json")) == wanted


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5) | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from([*AgentSpecification.__struct_fields__, "cpu", "read", "network", "zzz"])
NEARLY = st.dictionaries(NAMES, JUNK | st.dictionaries(NAMES, JUNK, max_size=4), max_size=6)


def check_outcome(path: Path) -> None:
    try:
        found = load_specification(path)
    except Failure as failure:
        assert failure.code is ErrorCode.COMMAND_INVALID
        assert failure.message
    else:
        assert msgspec.json.decode(msgspec.json.encode(found), type=AgentSpecification) == found


@REPEAT
@given(NEARLY)
def test_any_data_loads_or_is_refused(tmp_path: Path, fields: dict[str, Any]) -> None:
    check_outcome(write(tmp_path, yaml.dump(fields)))


@REPEAT
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"name: !!bool maybe")
@example(b"? [a]\n: b")
@example(b"<<: {name: a}\ncommand: [x]")
@example(b"%YAML 9.9\n--- a")
def test_any_bytes_load_or_are_refused(tmp_path: Path, raw: bytes) -> None:
    check_outcome(write(tmp_path, raw))
    check_outcome(write(tmp_path, raw, "agent.json"))


@REPEAT
@given(st.text("namecod:[]{}&*!|>-?,#'\"% \n\t\\u0~<=", max_size=60))
def test_anything_like_yaml_loads_or_is_refused(tmp_path: Path, text: str) -> None:
    check_outcome(write(tmp_path, text))
