"""A key is in nothing that leaves the bridge, whatever an endpoint does with it."""

from __future__ import annotations

import base64
import json
import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from l02.handlers.models.keys import Key, KeySource, KeyUnusable, presentable, read_key
from l02.handlers.models.settings import Defaults, model_settings
from tests.models.conftest import Bridge
from tests.models.endpoint import Answer, Asked, Drop, Raw, Refuse, ScriptedEndpoint
from tests.models.shapes import Say

KEYS = ("sk-hunter2/abc+def=", 'sk-hunter2"\\quoted', "sk-hunter2&more%41")
EVENTS = "text/event-stream"


def sent_key(asked: Asked) -> str:
    return asked.headers.get("x-api-key") or asked.headers["authorization"]


ECHOES: dict[str, Callable[[str], Answer]] = {
    "status": lambda key: Refuse(401, f"Incorrect API key provided: {key}."),
    "plain": lambda key: Raw(f"no: {key}".encode(), status=403, content_type="text/plain"),
    "long": lambda key: Raw(f"{'x' * 8180}{key}".encode(), status=400),
    "again": lambda key: Refuse(500, key, {"x-key": key}),
    "in a URL": lambda key: Refuse(400, f"GET /?key={quote(key, safe='')}"),
    "in base64": lambda key: Refuse(400, base64.b64encode(key.encode()).decode()),
    "in JSON in JSON": lambda key: Refuse(400, json.dumps({"got": key})),
    "elsewhere": lambda key: Refuse(307, key, {"location": f"http://127.0.0.1:1/{quote(key)}"}),
    "no JSON": lambda key: Raw(f"<p>{key}".encode(), content_type="text/html"),
    "packed": lambda key: Raw(b"", headers={"content-encoding": key}),
    "no header": lambda key: Raw(b"", content_type=key),
    "error in a stream": lambda key: Raw(f'data: {{"error": {json.dumps(key)}}}\n\n'.encode(), content_type=EVENTS),
    "answer": lambda key: Say(f"You are {key}"),
    "answer in pieces": lambda key: Say(pieces=["You are ", *key]),
    "tool": lambda key: Raw(json.dumps({"choices": [{"message": {"tool_calls": [{"id": key}]}}]}).encode()),
    "type of an error": lambda key: Raw(json.dumps({"error": {"message": "x", "type": key}}).encode(), status=400),
    "gone": lambda key: Drop(),
}  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ECHOES)
async def test_it_is_in_nothing_that_is_said(
    bridge: Bridge, endpoint: ScriptedEndpoint, name: str, stream: bool, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    for api in ("chat", "anthropic"):
        for key in KEYS:
            monkeypatch.setenv("A_KEY", key)
            endpoint.script = lambda asked: ECHOES[name](sent_key(asked).removeprefix("Bearer "))
            entry = {"endpoint": endpoint.url, "model": "any", "api": api, "key": {"env": "A_KEY"}, "max_retries": 1}
            await bridge.have(entry, entry, defaults=Defaults(breaker_failures=100))
            outcome = await bridge.ask(stream=stream)
            assert sent_key(endpoint.requests[-1]).endswith(key)
            assert outcome.failure is not None
            registry = CollectorRegistry()
            registry.register(bridge.metrics)
            said = (
                msgspec.json.encode(outcome).decode(),
                repr(outcome),
                generate_latest(registry).decode(),
                repr(vars(bridge)),
                repr(bridge._lines.by_alias),
                caplog.text,
                *capfd.readouterr(),
                *bridge.heard,
            )
            for hidden in (
                key,
                json.dumps(key)[1:-1],
                quote(key, safe=""),
                base64.b64encode(key.encode()).decode()[:-4],
            ):
                assert all(hidden not in text for text in said)


async def test_a_word_that_anybody_may_say(
    bridge: Bridge, endpoint: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", "none")
    endpoint.say(Say("There is none"), Refuse(400, "none"))
    await bridge.have({"endpoint": endpoint.url, "model": "any", "key": {"env": "A_KEY"}})
    assert (await bridge.ask()).answer is not None
    failure = (await bridge.ask()).failure
    assert failure is not None and "none" not in failure.message.lower()


def test_it_is_read_from_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", " abc \n")
    assert read_key(KeySource(env="A_KEY"), tmp_path).reveal() == "abc"
    file = tmp_path / "key"
    file.write_text("abc\n")
    file.chmod(0o600)
    assert read_key(KeySource(file="key"), tmp_path).reveal() == read_key(KeySource(file=str(file)), Path("/")).reveal()
    assert "abc" not in repr(read_key(KeySource(file="key"), tmp_path))


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"a\nb", b"a b", b"\xff\xfe", b"a\0b", b"a" * 9000, "schlüssel".encode()]
)
def test_what_is_no_key(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(KeyUnusable, match="holds no key") as error:
        read_key(KeySource(file="key"), tmp_path)
    assert content.decode("latin-1").strip() not in str(error.value) or not content.strip()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "key").write_text("sk-hunter2")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(KeyUnusable, match="run: chmod 600"):
        read_key(KeySource(file="key"), tmp_path)


def test_where_it_cannot_be(tmp_path: Path) -> None:
    for source in (
        KeySource(),
        KeySource(env="A", file="b"),
        KeySource(file="none"),
        KeySource(file="."),
        KeySource(file="a\0"),
    ):
        with pytest.raises(KeyUnusable):
            read_key(source, tmp_path)


def test_it_is_not_in_what_is_raised(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-hunter2")
    key.chmod(0o644)
    entry: dict[str, Any] = {"endpoint": "http://a", "model": "b", "key": {"file": "key"}}
    try:
        model_settings({"m": [entry]}, Defaults(), tmp_path)
    except Exception as error:  # whatever it is
        assert "hunter2" not in "".join(traceback.format_exception(error))
    else:
        pytest.fail("it was taken")


def test_it_is_cut_out_before_the_bound_cuts_it_in_two() -> None:
    key = Key("sk-hunter2-hunter2")
    for before in range(8170, 8200):
        assert "hunter2" not in presentable("x" * before + key.reveal(), key)
