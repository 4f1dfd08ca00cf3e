"""What a node is told of its session bridge, and what the own server's sandbox lets through."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l02.domain.specification import RuntimeClass
from l02.handlers.sandbox.confinement.policy import SandboxPolicy
from l02.handlers.sandbox.program import program_argv, program_environment
from l02.handlers.sessions import BridgeSettings
from l02.node.session_server import SessionSettings, own_server
from l02.node.settings import Settings
from l02.node.settings_table import SettingsError
from tests.sandbox import reach
from tests.sandbox.listeners import Listeners
from tests.tools.conftest import landlock_only


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVER", "ENVIRONMENT", "HEARTBEAT_INTERVAL_SECONDS", "HEARTBEAT_TIMEOUT_SECONDS", "MAX_RETRIES"):
        monkeypatch.delenv(f"L02_SESSION_{name}", raising=False)


def told(monkeypatch: pytest.MonkeyPatch, **values: str) -> SessionSettings:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return Settings.from_environment(data_dir=Path("/data")).sessions


def test_nothing_said_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch) == SessionSettings()
    assert BridgeSettings() == BridgeSettings(
        heartbeat_interval_seconds=30, heartbeat_timeout_seconds=5, max_retries=3, enable_recovery_check=True
    )


def test_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = told(
        monkeypatch,
        DATABASE_URL="postgresql://secret",
        L02_SESSION_SERVER="node 'my server.js'",
        L02_SESSION_ENVIRONMENT="DATABASE_URL, ",
        L02_SESSION_HEARTBEAT_INTERVAL_SECONDS="10",
        L02_SESSION_HEARTBEAT_TIMEOUT_SECONDS="2",
        L02_SESSION_MAX_RETRIES="0",
        L02_SESSION_RECOVERY_CHECK="0",
    )
    assert settings == SessionSettings(
        server="node 'my server.js'",
        environment={"DATABASE_URL": "postgresql://secret"},
        bridge=BridgeSettings(
            heartbeat_interval_seconds=10, heartbeat_timeout_seconds=2, max_retries=0, enable_recovery_check=False
        ),
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("L02_SESSION_SERVER", "node 'server"),
        ("L02_SESSION_SERVER", "  "),
        ("L02_SESSION_ENVIRONMENT", "NOT_SET_ANYWHERE"),
        ("L02_SESSION_HEARTBEAT_INTERVAL_SECONDS", "0"),
        ("L02_SESSION_HEARTBEAT_TIMEOUT_SECONDS", "soon"),
        ("L02_SESSION_MAX_RETRIES", "-1"),
        ("L02_SESSION_RECOVERY_CHECK", "2"),
    ],
)
def test_what_cannot_be(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        told(monkeypatch, **{name: value})


def test_a_retry_waits_twice_as_long_as_the_one_before() -> None:
    assert [BridgeSettings().pause(failures) for failures in (1, 2, 3, 4, 5)] == [1, 2, 4, 30, 30]


@pytest.mark.parametrize(
    ("url", "network"),
    [
        ("postgresql://l02:secret@127.0.0.1:20123/l02?sslmode=disable", ("127.0.0.1:20123",)),
        ("postgresql://db.example.org/l02", ("db.example.org:5432",)),
        ("postgresql://u:p%40@[::1]:6000/l02", ("[::1]:6000",)),
        ("postgresql://u@one:1,two:2/l02", ("one:1", "two:2")),
        ("postgresql:///l02?host=one,two&port=1,2", ("one:1", "two:2")),
        ("postgresql:///l02?host=one,two&port=7", ("one:7", "two:7")),
        ("postgresql:///l02?host=/nowhere", ()),
        ("postgresql:///l02", ("localhost:5432",)),
    ],
)
def test_the_own_server_reaches_its_database(url: str, network: tuple[str, ...]) -> None:
    server = own_server(url)
    assert server.network == network
    assert server.environment == {"L02_POSTGRES_URL": url}
    assert not any(url in word for word in server.command), "a URL holds a password"


@landlock_only
def test_a_socket_of_postgresql_can_be_connected_to(tmp_path: Path) -> None:
    server = own_server(f"postgresql:///l02?host={tmp_path}")
    path = str(tmp_path / ".s.PGSQL.5432")
    policy = SandboxPolicy(workspace=str(tmp_path / "scratch"), read=server.read, write=server.write)
    script = f"import socket; socket.socket(socket.AF_UNIX).connect({path!r})"
    command = program_argv(RuntimeClass.LANDLOCK, policy, (sys.executable, "-c", script))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        subprocess.run(command, env=program_environment(policy), check=True)


@landlock_only
def test_it_reaches_its_database_and_nobody_else(tmp_path: Path) -> None:
    listeners = Listeners(str(tmp_path))
    server = own_server(f"postgresql://127.0.0.1:{listeners.targets['tcp'][1]}/l02")
    script = str(Path(reach.__file__))
    policy = SandboxPolicy(
        workspace=str(tmp_path / "scratch"), read=(*server.read, script), write=server.write, network=server.network
    )
    command = (sys.executable, script, json.dumps(listeners.targets))
    argv = program_argv(RuntimeClass.LANDLOCK, policy, command)
    done = subprocess.run(argv, env=program_environment(policy), check=True, capture_output=True)
    assert json.loads(done.stdout)["reached"] == ["tcp/0 _connect", "tcp/6 _connect"]
    assert listeners.arrived() == ["tcp"]
    listeners.close()


def test_it_may_read_the_certificates_that_its_url_names(tmp_path: Path) -> None:
    root = tmp_path / "root.crt"
    root.touch()
    url = f"postgresql://db.example.org/l02?sslrootcert={root}&sslkey={tmp_path}/missing&sslcert=relative"
    assert str(root) in own_server(url).read
    assert str(tmp_path / "missing") not in own_server(url).read


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="[]"), max_size=60))
def test_no_url_is_too_odd_to_be_looked_at(words: str) -> None:
    for destination in own_server(f"postgresql://{words}").network:
        host, _, port = destination.rpartition(":")
        assert host
        assert port
