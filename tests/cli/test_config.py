"""The settings file: who wins over whom, what is refused and where, and what `l02 config` says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from l02.cli import app
from l02.domain.spending.limits import LimitAction
from l02.handlers.models.settings import Defaults, ModelSettings
from l02.handlers.resources.settings import ResourceSettings
from l02.handlers.sessions import BridgeSettings
from l02.handlers.state.settings import StateSettings
from l02.node.session_server import SessionSettings
from l02.node.settings import Settings
from l02.node.settings_file import read_settings_file
from l02.node.settings_table import SETTINGS, SettingsError

ALL = """\
node:
  data_dir: data
  nats_url: nats://someone:hunter2@bus
  postgres_url: postgresql://someone:hunter2@tables/l02
  http_port: 8080
  replicas: 3
  metrics_agent_labels: no
  keep_files_days: 1
state_manager:
  checkpoint_storage: objects
  checkpoint_compression: zstd
  max_checkpoint_size_mb: 7
  retention_days: 8
  keep_last: 9
  auto_checkpoint_interval_seconds: 0
  hot_storage: redis
  redis_url: redis://:hunter2@hot
session_bridge:
  server: node 'my server.js'
  environment: [HOME]
  heartbeat_interval_seconds: 11
  heartbeat_timeout_seconds: 12
  max_retries: 13
  enable_recovery_check: false
resource_manager:
  tokens_per_hour: 2000
  token_budget_action: ask
  warn_at: [0.5, .75]
  usage_report_interval_seconds: 61
model_bridge:
  request_timeout_seconds: 21
  connect_timeout_seconds: 22
  first_token_timeout_seconds: 23
  between_tokens_timeout_seconds: 24
  max_retries: 25
  max_concurrent: 26
  max_output: 27
  max_waiting: 28
  breaker_failures: 29
  breaker_seconds: 30
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for setting in SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)
    monkeypatch.delenv("L02_CONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "l02.yaml"
    path.write_text(ALL)
    path.chmod(0o600)
    return path


def l02(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_every_key_has_its_place(file: Path, tmp_path: Path) -> None:
    assert set(read_settings_file(file)) == {setting.name for setting in SETTINGS}
    assert Settings.from_environment(config=file) == Settings(
        data_dir=tmp_path / "data",
        nats_url="nats://someone:hunter2@bus",
        postgres_url="postgresql://someone:hunter2@tables/l02",
        http_port=8080,
        replicas=3,
        metrics_agent_labels=False,
        keep_files_days=1,
        state=StateSettings(
            storage="objects",
            compression="zstd",
            max_size_mb=7,
            retention_days=8,
            keep_last=9,
            auto_checkpoint_interval_seconds=0,
            hot_storage="redis",
            redis_url="redis://:hunter2@hot",
        ),
        sessions=SessionSettings(
            server="node 'my server.js'",
            environment={"HOME": str(tmp_path)},
            bridge=BridgeSettings(
                heartbeat_interval_seconds=11, heartbeat_timeout_seconds=12, max_retries=13, enable_recovery_check=False
            ),
        ),
        resources=ResourceSettings(
            tokens_per_hour=2000,
            token_budget_action=LimitAction.ASK,
            warn_at=(0.5, 0.75),
            usage_report_interval_seconds=61,
        ),
        models=ModelSettings(
            defaults=Defaults(
                request_timeout_seconds=21,
                connect_timeout_seconds=22,
                first_token_timeout_seconds=23,
                between_tokens_timeout_seconds=24,
                max_retries=25,
                max_concurrent=26,
                max_output=27,
                max_waiting=28,
                breaker_failures=29,
                breaker_seconds=30,
            )
        ),
    )


def test_an_option_wins_over_a_variable_and_that_over_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("L02_CONFIG", str(file))
    assert Settings.from_environment().http_port == 8080
    monkeypatch.setenv("L02_HTTP_PORT", "8081")
    assert Settings.from_environment().http_port == 8081
    assert Settings.from_environment(http_port=0).http_port == 0


def test_it_is_shown_with_its_origin_and_without_secrets(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("L02_REPLICAS", "1")
    shown = l02("config", "show", "--config", file, "--json")
    rows = {row["setting"]: row for row in json.loads(shown.stdout)}
    assert rows.keys() == {setting.name for setting in SETTINGS}
    assert rows["node.replicas"] == {
        "setting": "node.replicas",
        "value": 1,
        "origin": "variable",
        "place": "L02_REPLICAS",
    }
    assert rows["node.http_port"]["place"] == f"{file}:5: node.http_port"
    assert rows["state_manager.redis_url"]["value"] == "(hidden)"
    monkeypatch.delenv("L02_REPLICAS")
    told = l02("config", "show", "--config", file, "--http-port", "1", "--data-dir", "x", "--json")
    by_option = [row for row in json.loads(told.stdout) if row["origin"] == "option"]
    assert [(row["place"], row["value"]) for row in by_option] == [
        ("--data-dir", str(Path("x").absolute())),
        ("--http-port", 1),
    ]
    for_people = l02("config", "show", "--config", file)
    assert "node.replicas" in for_people.stdout
    assert "hunter2" not in shown.output + for_people.output
    assert {row["origin"] for row in json.loads(l02("config", "show", "--json").stdout)} == {"default"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("node:\n  http_prot: 1\n", ":2: node has no 'http_prot'; the nearest is 'http_port'"),
        ("\nsate_manager: {}\n", ":2: the file has no 'sate_manager'; the nearest is 'state_manager'"),
        ("node:\n  http_port: many\n", ":2: node.http_port has a value of another type; it takes a number up to 65535"),
        ("node:\n  http_port: 65536\n", ":2: node.http_port is '65536'; it takes a number up to 65535"),
        ("node:\n  replicas: 1\n  replicas: 2\n", ":3: node has 'replicas' twice"),
        ("node:\n  nats_url: [a]\n", ":2: node.nats_url has a value of another type; it takes text"),
        ("node: 3\n", ":1: node takes keys"),
        ("- node\n", ":1: the file takes keys"),
        ("node: !x {http_port: 1}\n", ":1: node takes keys"),
        ("!!python/object/apply:os.system [ls]\n", ":1: the file takes keys"),
        ("node:\n  http_port: !!python/name:os.getpid 1\n", ":2: node.http_port has a value of another type"),
        ("session_bridge:\n  environment: !!set [HOME]\n", ":2: session_bridge.environment has a value of another"),
        ('node:\n  nats_url: "hunter2\\0"\n', ":2: node.nats_url is no text without zero bytes"),
        ("node:\n  data_dir: ~nobody-of-this-name/x\n", ":2: node.data_dir is '~nobody-of-this-name/x', and nobody"),
        ("state_manager:\n  hot_storage: redis\n", ":2: state_manager.hot_storage is 'redis'; L02_REDIS_URL must say"),
        ("session_bridge:\n  environment: [NOBODY_SET]\n", ":2: session_bridge.environment names NOBODY_SET"),
        ("resource_manager:\n  warn_at: [0.9, 0.8]\n", ":2: resource_manager.warn_at is '0.9,0.8'; it takes a list"),
        ("resource_manager:\n  warn_at: [0.9, 1.0]\n", ":2: resource_manager.warn_at is '0.9,1.0'; it takes a list"),
        ("resource_manager:\n  warn_at: [often]\n", ":2: resource_manager.warn_at has a value of another type"),
        ("node:\n\t- [\n", ":2: this is no YAML"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    checked = l02("config", "check", file)
    assert checked.exit_code == 1
    assert f"{file}{said}" in checked.stderr


def test_a_file_with_secrets_that_others_can_read_is_warned_of(file: Path) -> None:
    assert l02("config", "check", file).output == f"{file} can be used\n"
    file.chmod(0o640)
    checked = l02("config", "check", file)
    assert checked.exit_code == 0
    assert f"run: chmod 600 {file}" in checked.stderr and "node.nats_url" in checked.stderr
    file.write_text("node: {http_port: 1}\n")
    assert l02("config", "check", file).stderr == ""


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    checked = l02("config", "check", tmp_path / "none.yaml")
    assert (checked.exit_code, "cannot be read" in checked.stderr) == (1, True)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([s.key for s in SETTINGS]), inner),
    max_leaves=6,
)
_FILES = st.binary(max_size=200) | st.dictionaries(st.sampled_from([s.section for s in SETTINGS]), _VALUES).map(
    lambda value: json.dumps(value).encode()
)


@settings(max_examples=200)
@given(_FILES)
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    try:
        assert all(found.text for found in read_settings_file(path).values())
    except SettingsError as error:
        assert str(path) in str(error)


_BOMB = b"session_bridge: {environment: [&a0 [HOME], " + b", ".join(
    b"&a%d [%s]" % (n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 30)
)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 5000,
        b"a: &a [*a]",
        b"\x00",
        b"node: {http_port: " + b"9" * 9000 + b"}",
        _BOMB + b"]}",
        b"#" * (1 << 20) + b"\n",
    ],
    ids=["deep", "circle", "zero", "long number", "bomb", "huge"],
)
def test_hostile_files(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=str(file)):
        read_settings_file(file)
