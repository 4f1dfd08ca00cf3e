"""The library reads its settings from the environment: here each test has streams of its own, and leaves no thread."""

from __future__ import annotations

import gc
import os
import secrets
import threading
from collections.abc import Callable, Iterator

import pytest
from eventsourcing.utils import Environment

from l02.bus.embedded import EmbeddedNats
from l02.bus.recorder import JetStreamFactory, JetStreamProcessRecorder

Factories = Callable[..., JetStreamFactory]


@pytest.fixture(autouse=True)
def environment(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    name = f"test-{secrets.token_hex(6)}"
    monkeypatch.setenv("PERSISTENCE_MODULE", "l02.bus.recorder")
    monkeypatch.setenv("NATS_URL", nats_url)
    monkeypatch.setenv("NATS_STREAM", name)
    monkeypatch.setenv("NATS_SUBJECT_PREFIX", name)
    yield
    # The library's cases do not close every application.
    gc.collect()
    assert not jetstream_threads()


def jetstream_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "jetstream"]


@pytest.fixture
def factories(environment: None) -> Iterator[Factories]:
    """Makes factories of the application `case`, with other settings if given; closed after the test."""
    made: list[JetStreamFactory] = []

    def make(**settings: str) -> JetStreamFactory:
        made.append(JetStreamFactory(Environment("case", os.environ | settings)))
        return made[-1]

    yield make
    for factory in made:
        factory.close()


@pytest.fixture
def recorder(factories: Factories) -> JetStreamProcessRecorder:
    return process_recorder(factories())


def process_recorder(factory: JetStreamFactory) -> JetStreamProcessRecorder:
    recorder = factory.process_recorder()
    assert isinstance(recorder, JetStreamProcessRecorder)
    return recorder


@pytest.fixture
def patient_keeper(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is brought back at once, however often it is killed: here that is the test's doing."""
    monkeypatch.setattr(EmbeddedNats, "restart_delays", (0.0,) * 1000)
