"""The section `models` of the settings file: what it means, what is refused and where; keys are shown nowhere."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from l02.cli import app
from l02.domain.inference import Price
from l02.handlers.models.settings import Defaults, Endpoint, Timeouts
from l02.node.models_file import read_models
from l02.node.settings import Settings
from l02.node.settings_table import SettingsError

KEY = "sk-hunter2-hunter2"
ALL = """\
model_bridge: {max_retries: 1, first_token_timeout_seconds: 7}
models:
  small:
    - endpoint: http://127.0.0.1:11434/v1/
      model: qwen3:8b
      api: chat
      key: {env: A_KEY}
      price: {input: 0.15, cached_input: 0.075, output: 0.60}
      context_window: 128000
      max_output: 2048
      max_concurrent: 32
      requests_per_minute: 500
      tokens_per_minute: 200000
      timeouts: {connect: 2.5}
    - {endpoint: https://models.example, model: claude, api: anthropic, key: {file: key}, price: {input: 4}}
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("L02_CONFIG", raising=False)
    monkeypatch.setenv("A_KEY", KEY)
    key = tmp_path / "key"
    key.write_text(f"{KEY}\n")
    key.chmod(0o600)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "l02.yaml"
    path.write_text(ALL)
    return path


def l02(*words: str | Path) -> str:
    return CliRunner().invoke(app, [str(word) for word in words]).output


def test_what_it_means(file: Path) -> None:
    models = Settings.from_environment(config=file).models
    assert models.defaults == Defaults(max_retries=1, first_token_timeout_seconds=7)
    (first, key), (second, other) = models.models["small"].endpoints
    assert key is not None and other is not None and key.reveal() == other.reveal() == KEY
    assert first == Endpoint(
        endpoint="http://127.0.0.1:11434/v1/",
        model="qwen3:8b",
        key=first.key,
        price=Price(input=0.15, cached_input=0.075, output=0.6),
        context_window=128000,
        max_output=2048,
        max_concurrent=32,
        requests_per_minute=500,
        tokens_per_minute=200000,
        timeouts=Timeouts(connect=2.5, first_token=7, between_tokens=60, whole=300),
        max_retries=1,
    )
    assert (first.url, first.name) == ("http://127.0.0.1:11434/v1", "127.0.0.1:11434")
    assert (second.api, second.max_output, second.name) == ("anthropic", 4096, "models.example")
    assert second.price == Price(input=4, cache_write=5)  # as its cache is charged for


def test_keys_are_shown_nowhere(file: Path) -> None:
    shown = l02("config", "show", "--config", file, "--json")
    rows = {row["setting"]: row for row in json.loads(shown)}
    assert rows["models.small[0]"]["value"]["key"] == {"env": "A_KEY"}
    assert rows["models.small[1]"]["value"]["max_output"] == 4096
    said = shown + l02("config", "show", "--config", file) + l02("config", "check", file)
    assert KEY not in said + repr(Settings.from_environment(config=file))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("context_window: 128000", "context_windows: 1", ":9: models.small[0].context_windows is unknown; the nearest"),
        (
            "{input: 0.15, cached_input: 0.075, output: 0.60}",
            "{inptu: 1}",
            "small[0].price.inptu is unknown; the nearest",
        ),
        ("max_output: 2048", "max_output: 0", ":10: models.small[0].max_output cannot be used: Expected `int` >= 1"),
        ("max_output: 2048", "max_output: many", ":10: models.small[0].max_output cannot be used: Expected `int`"),
        ("{input: 4}", "{input: .nan}", ":15: models.small[1].price.input cannot be used: Expected `float` >= 0"),
        ("{input: 4}", "{input: .inf}", ":15: models.small[1].price.input cannot be used: Expected `float` <= "),
        ("{connect: 2.5}", "{connect: 0}", ":14: models.small[0].timeouts.connect cannot be used"),
        ("{connect: 2.5}", "3", ":14: models.small[0].timeouts takes keys"),
        ("api: chat", "api: chats", ":6: models.small[0].api cannot be used: Invalid enum value 'chats'"),
        ("https://models.example", "https://someone:x@models.example", ":15: models.small[1].endpoint cannot be used"),
        ("https://models.example", "ftp://models.example", ":15: models.small[1].endpoint cannot be used"),
        ("https://models.example", "https://models.example:99999", ":15: models.small[1].endpoint cannot be used"),
        ("https://models.example", "https://:1/v1", ":15: models.small[1].endpoint cannot be used"),
        ("model: qwen3:8b\n", "\n", ":4: models.small[0] cannot be used: Object missing required field `model`"),
        ("  small:", "  -small:", ":3: models.-small is no alias"),
        ("{env: A_KEY}", "{env: NOT_SET_AT_ALL}", ":7: models.small[0].key NOT_SET_AT_ALL is not set"),
        ("{env: A_KEY}", "{env: A_KEY, file: key}", ":7: models.small[0].key takes either `env` or `file`"),
        ("{file: key}", "{file: nowhere}", ":15: models.small[1].key "),
        ("model: qwen3:8b", "model: &a [*a]", ":5: "),
        (
            "model: qwen3:8b",
            "model: !!python/name:os.getpid x",
            ":5: models.small[0].model has a value of another type",
        ),
        ("      api: chat\n", "      api: chat\n      api: chat\n", ":7: models.small[0].api is there twice"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(file: Path, old: str, new: str, said: str) -> None:
    assert old in ALL
    file.write_text(ALL.replace(old, new))
    assert f"{file}" in (output := l02("config", "check", file))
    assert said in output and KEY not in output


@pytest.mark.parametrize("models", ["3", "[a]", "{small: {}}", "{small: []}", "{small: [3]}", "{small: null}"])
def test_other_shapes(file: Path, models: str) -> None:
    file.write_text(f"models: {models}\n")
    with pytest.raises(SettingsError, match=f"{file}:1: models.* takes "):
        Settings.from_environment(config=file)


def test_a_key_file_that_others_can_read_is_refused(file: Path, tmp_path: Path) -> None:
    (tmp_path / "key").chmod(0o640)
    assert f"run: chmod 600 {tmp_path / 'key'}" in (output := l02("config", "check", file))
    assert KEY not in output


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.just("http://a"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([one.name for one in msgspec.structs.fields(Endpoint)]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=200)
@given(st.dictionaries(st.text(max_size=5), st.lists(_VALUES, max_size=2) | _VALUES, max_size=2))
def test_any_section_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, section: object) -> None:
    path = tmp_path_factory.getbasetemp() / "models.yaml"
    path.write_text(json.dumps({"models": section}))
    try:
        assert read_models(path, Defaults()).models.keys() == (section or {}).keys()  # type: ignore[attr-defined]
    except SettingsError as error:
        assert str(path) in str(error)
