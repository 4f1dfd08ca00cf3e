"""Amounts of money: numbers in US dollars on the wire, whole millionths of a dollar wherever one reckons with them."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import Annotated

from msgspec import Meta

from l02.domain.errors import ErrorCode, Failure

MILLIONTHS = 1_000_000
# Below it a double says every millionth exactly (2**53 is nine times as many), so none is lost on the wire.
MAX_USD = 1_000_000_000

Usd = Annotated[float, Meta(ge=0, le=MAX_USD)]


@lru_cache(maxsize=1024)
def in_millionths(usd: float) -> int:
    """The amount in millionths of a dollar, the nearest one."""
    return round(Decimal(repr(usd)) * MILLIONTHS)


def require_millionths(usd: float, path: str) -> int:
    """The same. E2110 for an amount that is finer."""
    if Decimal(repr(usd)) * MILLIONTHS % 1:
        raise Failure(
            ErrorCode.COMMAND_INVALID,
            f"{usd!r} USD is finer than a millionth of a dollar; give at most 6 decimals",
            path,
        )
    return in_millionths(usd)


def in_usd(millionths: int) -> float:
    """The amount in US dollars."""
    return millionths / MILLIONTHS
