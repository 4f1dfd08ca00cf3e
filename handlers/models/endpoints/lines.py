"""What the calls of a node share: a connection pool and a breaker for each endpoint, a limiter for each of its models.

New settings take what is still the same over from the old; connections that nobody uses any more are closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from l02.handlers.models.endpoints.breaker import Breaker
from l02.handlers.models.endpoints.connections import Connections
from l02.handlers.models.endpoints.limiter import Limiter
from l02.handlers.models.keys import Key
from l02.handlers.models.prices import Pricing, pricing_of
from l02.handlers.models.settings import Endpoint, ModelSettings


class Place:
    """An endpoint's address."""

    def __init__(self, name: str, proxy: str | None, breaker: Breaker) -> None:
        self.name = name
        self.breaker = breaker
        self._connections = Connections(proxy)
        self._users = 0
        self._retired = False

    @asynccontextmanager
    async def in_use(self) -> AsyncIterator[Connections]:
        """Its connections, which stay open meanwhile."""
        self._users += 1
        try:
            yield self._connections
        finally:
            self._users -= 1
            await self._close_if_done()

    async def retire(self) -> None:
        """No more calls are to come; those under way go on."""
        self._retired = True
        await self._close_if_done()

    async def _close_if_done(self) -> None:
        if self._retired and not self._users:
            await self._connections.aclose()


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of an alias, with what it shares."""

    endpoint: Endpoint
    key: Key | None
    pricing: Pricing
    place: Place
    limiter: Limiter


class Lines:
    """All of them by alias."""

    def __init__(self) -> None:
        self.by_alias: dict[str, tuple[Line, ...]] = {}
        self.places: dict[tuple[str, str | None], Place] = {}
        self._limiters: dict[tuple[str, str], Limiter] = {}

    async def set(self, settings: ModelSettings) -> None:
        """Have these from now on."""
        pricings = await asyncio.to_thread(_pricings, settings)
        old = self.places
        self.places = {}
        limiters: dict[tuple[str, str], Limiter] = {}
        by_alias: dict[str, tuple[Line, ...]] = {}
        defaults = settings.defaults
        for alias, model in settings.models.items():
            lines = []
            for endpoint, key in model.endpoints:
                address = endpoint.url, endpoint.proxy
                place = self.places.get(address) or old.pop(address, None)
                if place is None:
                    place = Place(
                        endpoint.name, endpoint.proxy, Breaker(defaults.breaker_failures, defaults.breaker_seconds)
                    )
                self.places[address] = place
                of_model = endpoint.url, endpoint.model
                limiter = limiters.setdefault(of_model, self._limiters.get(of_model) or Limiter(defaults.max_waiting))
                lines.append(Line(endpoint, key, pricings[id(endpoint)], place, limiter))
            by_alias[alias] = tuple(lines)
        self.by_alias, self._limiters = by_alias, limiters
        for place in self.places.values():
            place.breaker.failures, place.breaker.seconds = defaults.breaker_failures, defaults.breaker_seconds
        for of_model, limiter in limiters.items():
            _limit(limiter, defaults.max_waiting, self._endpoints(of_model))
        for place in old.values():
            await place.retire()

    def _endpoints(self, of_model: tuple[str, str]) -> list[Endpoint]:
        every = (line.endpoint for lines in self.by_alias.values() for line in lines)
        return [endpoint for endpoint in every if (endpoint.url, endpoint.model) == of_model]


def _pricings(settings: ModelSettings) -> dict[int, Pricing]:
    every = (endpoint for model in settings.models.values() for endpoint, _ in model.endpoints)
    return {id(endpoint): pricing_of(endpoint) for endpoint in every}


def _limit(limiter: Limiter, max_waiting: int, endpoints: list[Endpoint]) -> None:
    """Where several aliases name the same model of an endpoint, the lowest limits hold."""
    limiter.max_waiting = max_waiting
    limiter.concurrent = min(endpoint.max_concurrent for endpoint in endpoints)
    limiter.requests = _least(endpoint.requests_per_minute for endpoint in endpoints)
    limiter.tokens = _least(endpoint.tokens_per_minute for endpoint in endpoints)


def _least(limits: Iterable[int | None]) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
