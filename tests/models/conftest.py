"""A scripted endpoint, and a bridge to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from l02.domain.inference import ModelOutcome, ModelRequest, PassBegin
from l02.handlers.models.bridge import Models
from l02.handlers.models.settings import Defaults, model_settings
from tests.models.endpoint import ScriptedEndpoint, scripted_endpoint


@pytest.fixture
async def endpoint() -> AsyncIterator[ScriptedEndpoint]:
    async with scripted_endpoint() as server:
        yield server


@pytest.fixture
async def second() -> AsyncIterator[ScriptedEndpoint]:
    async with scripted_endpoint() as server:
        yield server


class Bridge(Models):
    """Models under test: `have` gives it settings, `ask` asks for a text."""

    def __init__(self) -> None:
        super().__init__(first_pause=0.001)
        self.heard: list[str] = []

    async def have(self, *entries: dict[str, Any], alias: str = "m", defaults: Defaults | None = None) -> None:
        """One alias with these entries."""
        await self.set(model_settings({alias: [*entries]}, defaults or Defaults(), Path.cwd()))

    async def ask(self, text: str = "Hi", *, agent_id: str = "a1", **request: Any) -> ModelOutcome:
        """Ask the alias `m`, in as many passes as it goes on; what is streamed is `heard`."""
        passes = [outcome async for outcome in self.passes(text, agent_id=agent_id, **request)]
        attempts = tuple(attempt for outcome in passes for attempt in outcome.attempts)
        return replace(passes[-1], attempts=attempts)

    async def passes(self, text: str = "Hi", *, agent_id: str = "a1", **request: Any) -> AsyncIterator[ModelOutcome]:
        """The same, pass by pass."""

        async def hear(piece: str) -> None:
            self.heard.append(piece)

        asked = ModelRequest(messages=({"role": "user", "content": text},), **request)
        begin: PassBegin | None = PassBegin()
        while begin is not None:
            outcome = await self.call("m", asked, agent_id=agent_id, on_text=hear, begin=begin)
            begin = outcome.failure.goes_on if outcome.failure else None
            yield outcome


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    models = Bridge()
    yield models
    await models.close()
