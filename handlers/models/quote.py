"""The most that a call can use and cost, which is reserved before it is made. Never too low."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from l02.domain.inference import KnownInput, ModelUsage, Price, Spending
from l02.handlers.models.conversation import Checked
from l02.handlers.models.prices import Pricing
from l02.handlers.models.settings import Endpoint

# What endpoints put around a conversation: the marks of a chat, a template's own prompt; and one about tools
# (Anthropic's is the longest that is documented, with 804 tokens at most).
_AROUND = 256
_ABOUT_TOOLS = 1024
# An image of the highest resolution is 48,169 tokens where that is dearest (OpenAI's gpt-4o-mini).
_OF_AN_IMAGE = 50_000
# What else is attached, or only named, may be as long as what a model can read; so much if nobody says what that is.
_OF_A_FILE = 128_000
_IMAGES = frozenset({"image_url", "image", "input_image"})
_TEXTS = frozenset({"text", "input_text", "output_text"})
# No tokenizer makes fewer tokens of a text that people write.
_MOST_BYTES_OF_A_TOKEN = 16


@dataclass(frozen=True, slots=True)
class Worst:
    """What one attempt at an endpoint can use and cost at most."""

    usage: ModelUsage
    cost: int
    price: Price | None
    max_tokens: int
    fits: bool
    """Whether the endpoint's context window may hold it."""

    @property
    def spending(self) -> Spending:
        """Both, to be reserved."""
        return Spending(tokens=self.usage.tokens, cost=self.cost)


def worst(endpoint: Endpoint, pricing: Pricing, asked: Checked, known: KnownInput | None) -> Worst:
    """What an attempt can come to. The known beginning counts if this very model has counted it."""
    window = endpoint.context_window
    output = asked.request.max_tokens or endpoint.max_output
    if known is not None and known.model in (None, endpoint.model) and known.bytes <= asked.bytes:
        counted, rest = known.tokens, asked.bytes - known.bytes
    else:
        known, counted, rest = None, _AROUND + (_ABOUT_TOOLS if asked.tools else 0), asked.bytes
    attached, size = _attached(asked, known, window or _OF_A_FILE)
    text = max(rest - size, 0)
    least = (known.tokens if known else 0) + text // _MOST_BYTES_OF_A_TOKEN + 1
    most = counted + text + attached
    if window is not None:
        most = min(most, window)
    price = pricing.of(most)
    usage = ModelUsage(input_tokens=most, output_tokens=output, estimated=True)
    if price is not None:
        usage = max(
            (usage, replace(usage, cached_tokens=most), replace(usage, cache_write_tokens=most)), key=price.cost
        )
    return Worst(
        usage=usage,
        cost=price.cost(usage) if price else 0,
        price=price,
        max_tokens=output,
        fits=window is None or least + output <= window,
    )


def most(each: Sequence[Worst]) -> Spending:
    """What one pass over these can come to: the first attempt that may be charged for ends it."""
    return Spending(tokens=max(one.spending.tokens for one in each), cost=max(one.cost for one in each))


def _attached(asked: Checked, known: KnownInput | None, of_a_file: int) -> tuple[int, int]:
    """Tokens of images and files behind the known beginning, and their bytes, which say nothing about them."""
    request = asked.request
    tokens = size = 0
    # As `input_bytes` counts them.
    at = len(msgspec.json.encode(((), request.tools, request.output_schema))) if known else 0
    for message, raw in zip(asked.messages, request.messages, strict=True):
        if known is not None:
            at += len(msgspec.json.encode(raw))
            if at <= known.bytes:
                at += len(",")
                continue
        for part in message.content if isinstance(message.content, list) else ():
            kind = part.get("type")
            if kind not in _TEXTS:
                tokens += _OF_AN_IMAGE if kind in _IMAGES else of_a_file
                size += len(msgspec.json.encode(part))
    return tokens, size
