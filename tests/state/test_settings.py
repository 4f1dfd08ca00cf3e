"""What the environment says of agents' state is what the node does, or it does not start."""

from __future__ import annotations

import pytest

from l02.bus.connection.bus import connect
from l02.bus.embedded import EmbeddedNats
from l02.domain.aggregates import AGGREGATES
from l02.handlers.state.settings import StateSettings
from l02.handlers.state.stores import open_checkpoints
from l02.node.settings import Settings
from l02.node.settings_table import SettingsError


def from_environment(monkeypatch: pytest.MonkeyPatch, **environment: str) -> StateSettings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Settings.from_environment().state


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    state = from_environment(monkeypatch)
    assert state == StateSettings() and state.max_bytes == 100 * 1024 * 1024
    assert (state.storage, state.compression, state.retention_days, state.hot_storage) == (
        "postgres",
        "gzip",
        30,
        "nats",
    )


def test_all_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    state = from_environment(
        monkeypatch,
        L02_CHECKPOINT_STORAGE="objects",
        L02_CHECKPOINT_COMPRESSION="zstd",
        L02_MAX_CHECKPOINT_SIZE_MB="1",
        L02_CHECKPOINT_RETENTION_DAYS="7",
        L02_CHECKPOINT_KEEP_LAST="3",
        L02_HOT_STORAGE="redis",
        L02_REDIS_URL="redis://localhost",
    )
    assert state == StateSettings(
        storage="objects",
        compression="zstd",
        max_size_mb=1,
        retention_days=7,
        keep_last=3,
        hot_storage="redis",
        redis_url="redis://localhost",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("L02_CHECKPOINT_STORAGE", "s3"),
        ("L02_CHECKPOINT_COMPRESSION", "lz4"),
        ("L02_MAX_CHECKPOINT_SIZE_MB", "0"),
        ("L02_CHECKPOINT_KEEP_LAST", "-1"),
        ("L02_HOT_STORAGE", "redis"),
    ],
)
def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        from_environment(monkeypatch, **{name: value})


async def test_they_choose_the_store(database: str, fresh_nats: EmbeddedNats) -> None:
    async with connect(fresh_nats.url, name="state", aggregates=AGGREGATES) as bus:
        for storage in ("postgres", "objects"):
            async with open_checkpoints(StateSettings(storage=storage), bus, database) as store:
                saved = await store.save("a1", "c1", {"seen": b"3"})
                assert saved.storage_location.startswith(f"{storage}:")
