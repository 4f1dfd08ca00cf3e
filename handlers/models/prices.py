"""What a model's tokens cost: as the settings say, else as `genai-prices` knows it for the endpoint's address."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from types import ModuleType
from typing import Any

from l02.domain.inference import Price
from l02.handlers.models.settings import Endpoint


@cache
def _genai_prices() -> ModuleType | None:
    """The table; reading it takes half a second. None if it is not installed (extra `prices`)."""
    try:
        from genai_prices import data_snapshot
    except ImportError:
        return None
    return data_snapshot


def price_of(endpoint: Endpoint, input_tokens: int) -> Price | None:
    """The price of a call with so much input, as it is now; None if nobody knows."""
    if endpoint.price is not None:
        return endpoint.price
    table = _genai_prices()
    if table is None:
        return None
    try:
        _, model = table.get_snapshot().find_provider_model(endpoint.model, None, None, endpoint.url)
    except LookupError:
        return None
    prices = model.get_prices(datetime.now(UTC))
    of_input = _of(prices.input_mtok, input_tokens)
    of_output = _of(prices.output_mtok, input_tokens)
    if of_input is None or of_output is None:
        return None
    return Price(
        input=of_input,
        cached_input=_of(prices.cache_read_mtok, input_tokens),
        cache_write=_of(prices.cache_write_mtok, input_tokens),
        output=of_output,
    )


def _of(price: Any, input_tokens: int) -> float | None:
    """A price that may be another above some size of the input."""
    if price is None:
        return None
    unit = getattr(price, "base", price)
    for tier in getattr(price, "tiers", ()):
        if input_tokens > tier.start:
            unit = tier.price
    return float(unit)
