"""The commands, as far as they go without a node: their help, their words, their errors and exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
import typer
from typer.testing import CliRunner, Result

from l02.cli import app
from l02.cli.options import json_or_text, point_in_log
from l02.cli.terminal.output import safe
from l02.domain.errors import EXPLANATIONS, ErrorCode

COMMANDS = [
    *(["up"], ["demo"], ["spawn"], ["exec"], ["ps"], ["show"], ["events"], ["suspend"], ["resume"], ["terminate"]),
    *(["signal"], ["dead", "list"], ["dead", "show"], ["dead", "retry"], ["rebuild"], ["errors"]),
    *(["replay"], ["verify"], ["checkpoint"], ["checkpoints"], ["restore"], ["fork"], ["executions"], ["state"]),
    *(
        ["budget", "configure"],
        ["budget", "show"],
        ["budget", "list"],
        *(["budget", "raise"], ["budget", "deny"], ["budget", "reset"]),
        ["config", "check"],
        ["config", "show"],
        ["top"],
        *(["approve", "list"], ["approve", "grant"], ["approve", "deny"], ["set-quota"], ["usage"]),
    ),
]
NEED_A_NODE = [
    *(["exec", "a1", "hello"], ["exec", "a1", "{}", "--stream"], ["ps"], ["show", "a1"], ["events"]),
    *(["events", "a1", "--follow"], ["suspend", "a1"], ["resume", "a1"], ["terminate", "a1"]),
    *(
        ["signal", "a1", "go", "1"],
        ["dead", "list"],
        ["dead", "show", "1"],
        ["dead", "retry", "1"],
        ["rebuild", "agents"],
        ["replay", "--to", "1"],
        ["checkpoint", "a1"],
        ["checkpoints", "a1"],
        ["executions"],
        ["executions", "a1", "--state", "failed"],
        ["state", "a1"],
        ["restore", "a1", "k1"],
        ["fork", "a1", "--at", "1"],
        ["resume", "a1", "--assume", "done"],
        ["replay", "a1", "--to", "10m"],
        ["verify"],
        ["budget", "configure", "b1"],
        ["budget", "show", "b1"],
        ["budget", "list"],
        *(["budget", "raise", "b1"], ["budget", "deny", "b1"], ["budget", "reset", "b1"]),
        ["top"],
        ["top", "--once"],
        *(["approve", "list"], ["approve", "grant", "a1/x1/3"], ["approve", "deny", "a1/x1/3"]),
        *(["set-quota", "a1", "--tokens-per-hour", "1000"], ["usage", "--by", "model"]),
    ),
]


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No node is to be found by default; and a command, which is the program, sets up logging as it likes."""
    monkeypatch.setenv("L02_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("L02_NATS_URL", raising=False)
    yield
    structlog.reset_defaults()


def run(*words: str, given: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, words, input=given)


def test_every_command_is_listed_here() -> None:
    listed = re.findall(r"^  ([a-z-]+)  +\S", run("--help").output.partition("Commands:")[2], re.MULTILINE)
    # `mcp` holds servers, which speak with programs: tests/context.
    assert set(listed) == {command[0] for command in COMMANDS} | {"mcp"}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_shows_an_example(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert re.search(rf"Example: l02 {' '.join(command)}\b", result.output)
    assert "--json" in result.output


def test_help_of_the_program() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for word in ("Example:", "L02_NATS_URL", "Exit codes"):
        assert word in result.output
    assert "Example: l02 dead list" in run("dead", "--help").output


def test_version() -> None:
    assert re.fullmatch(r"l02 \d+\.\d+\.\d+\n", run("--version").output)


@pytest.mark.parametrize("words", NEED_A_NODE, ids=" ".join)
def test_no_node(words: list[str], tmp_path: Path) -> None:
    result = run(*words)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr == (
        f"no node is running in {tmp_path}/data, or it is not up yet; "
        f"start one with: l02 up --data-dir '{tmp_path}/data'\n"
    )


def test_no_node_in_json(tmp_path: Path) -> None:
    result = run("ps", "--json", "--data-dir", str(tmp_path / "other"))
    assert (result.exit_code, result.stdout) == (3, "")
    error = json.loads(result.stderr)["error"]
    assert error["name"] == "NODE_UNREACHABLE"
    assert f"{tmp_path}/other" in error["message"]


def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("L02_NATS_URL", "nats://ada:secret@127.0.0.1:1")
    result = run("ps")
    assert result.exit_code == 3
    assert result.stderr.startswith("no NATS server answers at nats://127.0.0.1:1;")


def test_the_data_directory_that_is_said_goes_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("L02_NATS_URL", "nats://127.0.0.1:1")
    assert f"no node is running in {tmp_path}/other" in run("ps", "--data-dir", str(tmp_path / "other")).stderr


def test_a_specification_that_is_wrong_needs_no_node(tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("name: a\ncommand: [x]\nresource_limits: {cpu: two}")
    result = run("spawn", str(file))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f'E2110 COMMAND_INVALID: {file}: \'two\' is not a CPU amount: write "2" or "500m" (at $.resource_limits.cpu)\n'
    )
    error = json.loads(run("spawn", str(file), "--json").stderr)["error"]
    assert (error["code"], error["name"], error["path"]) == ("E2110", "COMMAND_INVALID", "$.resource_limits.cpu")


@pytest.mark.parametrize(
    "words",
    [
        ["fly"],
        ["spawn"],
        ["exec", "a1"],
        ["exec", "a1", "{}", "--stream", "--no-wait"],
        ["exec", "a1", "@/no/such/file"],
        ["exec", "a1", "\udcff"],
        ["events", "--since", "yesterday"],
        ["events", "--since", "9999999999999d"],
        ["dead", "show", "first"],
        ["dead", "show", "0"],
        ["errors", "E9999"],
        ["rebuild", "everything"],
        ["replay", "a1"],
        ["replay", "--to", "yesterday"],
        ["up", "--http-port", "65536"],
    ],
    ids=" ".join,
)
def test_wrong_usage(words: list[str]) -> None:
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr


def test_a_setting_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("L02_HTTP_PORT", "many")
    result = run("up")
    assert result.exit_code == 1
    assert result.stderr == "L02_HTTP_PORT is 'many'; it takes a number up to 65535\n"


def test_every_error_is_explained() -> None:
    assert set(EXPLANATIONS) == set(ErrorCode)
    every = json.loads(run("errors", "--json").stdout)
    assert [entry["code"] for entry in every] == [code.value for code in ErrorCode]
    for words in ("E2112", "e2112", "INVALID_STATE"):
        assert json.loads(run("errors", words, "--json").stdout)["name"] == "INVALID_STATE"
        assert run("errors", words).stdout.startswith("E2112 INVALID_STATE\n")
    assert len(run("errors").stdout.splitlines()) == 1 + len(ErrorCode)


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ('{"a": [1, null]}', {"a": [1, None]}),
        ("17", 17),
        ('"17"', "17"),
        ("hello world", "hello world"),
        ("", ""),
        ("{not json", "{not json"),
        ("[" * 100_000, "[" * 100_000),
        ("1.5e3", 1500.0),
        ("NaN", "NaN"),
        ("naïve", "naïve"),
    ],
)
def test_input_is_json_or_text(words: str, value: object) -> None:
    assert json_or_text(words) == value


def test_input_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_text('{"a": 1}')
    assert json_or_text(f"@{file}") == {"a": 1}
    file.write_text("two\nlines\n")
    assert json_or_text(f"@{file}") == "two\nlines\n"
    file.write_bytes(b"\xff")
    with pytest.raises(typer.BadParameter, match="UTF-8"):
        json_or_text(f"@{file}")


def test_input_from_standard_input() -> None:
    seen = []
    reader = typer.Typer()

    @reader.command()
    def read(words: str) -> None:
        seen.append(json_or_text(words))

    assert CliRunner().invoke(reader, ["-"], input="[1]").exit_code == 0
    assert CliRunner().invoke(reader, ["-"], input=b"\xff").exit_code == 2
    assert seen == [[1]]


def test_points_in_the_log() -> None:
    assert point_in_log(None) is None
    assert point_in_log("120") == 120
    assert point_in_log("2026-01-31T12:00:00Z") == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert point_in_log("2026-01-31T12:00:00+02:00") == datetime(2026, 1, 31, 10, tzinfo=UTC)
    assert point_in_log("2026-01-31") == datetime(2026, 1, 31).astimezone()
    for words, duration in [
        ("90s", timedelta(seconds=90)),
        ("10m", timedelta(minutes=10)),
        ("1.5h", timedelta(hours=1.5)),
        ("1d", timedelta(days=1)),
    ]:
        found = point_in_log(words)
        assert isinstance(found, datetime)
        assert abs(datetime.now(UTC) - duration - found) < timedelta(seconds=10)


def test_what_would_steer_a_terminal_is_shown() -> None:
    assert safe("a\x1b[31mb\x9bc\u202ed\te\nf\r\x00é😀") == "a\\u001b[31mb\\u009bc\\u202ed\te\nf\\u000d\\u0000é😀"
