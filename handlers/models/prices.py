"""What a model's tokens cost: as the settings say, else as `genai-prices` knows it for the endpoint's address."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from l02.domain.inference import Price
from l02.handlers.models.settings import Endpoint


class Pricing:
    """A model's price, which may change with time, and be another for a large input."""

    def __init__(self, fixed: Price | None = None, known: Any = None) -> None:
        self._fixed = fixed
        self._known = known

    def of(self, input_tokens: int) -> Price | None:
        """The price now of a call with so much input; None if nobody knows."""
        if self._known is None:
            return self._fixed
        prices = self._known.get_prices(datetime.now(UTC))
        read, written = _unit(prices.input_mtok, input_tokens), _unit(prices.output_mtok, input_tokens)
        if read is None or written is None:
            return None
        return Price(
            input=read,
            cached_input=_unit(prices.cache_read_mtok, input_tokens),
            cache_write=_unit(prices.cache_write_mtok, input_tokens),
            output=written,
        )


def _unit(price: Any, input_tokens: int) -> float | None:
    if price is None:
        return None
    unit = getattr(price, "base", price)
    for tier in getattr(price, "tiers", ()):
        if input_tokens > tier.start:
            unit = tier.price
    return float(unit)


def pricing_of(endpoint: Endpoint) -> Pricing:
    """Where an endpoint's prices come from. The first look-up takes a second: call it in a thread."""
    if endpoint.price is not None:
        return Pricing(endpoint.price)
    try:
        from genai_prices.data_snapshot import get_snapshot
    except ImportError:  # the extra `prices` is not installed
        return Pricing()
    try:
        return Pricing(known=get_snapshot().find_provider_model(endpoint.model, None, None, endpoint.url)[1])
    except LookupError:
        return Pricing()
