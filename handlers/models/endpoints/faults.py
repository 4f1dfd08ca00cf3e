"""How an attempt can fail, and what each way means for what comes next."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec
from msgspec import Struct

from l02.domain.errors import ErrorCode

_TRANSIENT = {408, 409, 429, *range(500, 600)}
_UNAVAILABLE = {502, 503, 504, 529}
# What another endpoint would refuse as well.
_BAD_REQUEST = {400, 413, 415, 422}
# How OpenAI, vLLM, Anthropic, llama.cpp and Google say that a request is too long.
_OVERFLOW = (
    "context_length_exceeded",
    "maximum context length",
    "prompt is too long",
    "exceed_context_size",
    "exceeds the maximum number of tokens",
)


class Fault(Exception):
    """An attempt gave no answer.

    `again`: the same endpoint may answer yet. `elsewhere`: another one may. `charged`: the provider may have worked for
    nothing, and charge for it. `unwell`: it speaks against the endpoint. `reached`: the endpoint answered at all.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        again: bool = False,
        elsewhere: bool = True,
        charged: bool = False,
        unwell: bool = False,
        reached: bool = True,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.again = again
        self.elsewhere = elsewhere
        self.charged = charged
        self.unwell = unwell
        self.reached = reached
        self.retry_after = retry_after


def nonsense(message: str) -> Fault:
    """The endpoint said what is no answer, perhaps after work that it charges for."""
    return Fault(ErrorCode.INFERENCE_FAILED, message, charged=True, unwell=True)


def broken(message: str) -> Fault:
    """An answer broke off; the endpoint may have done all of its work."""
    return Fault(ErrorCode.INFERENCE_FAILED, message, again=True, charged=True, unwell=True)


def away(message: str, *, sent: bool = False, again: bool = True) -> Fault:
    """The endpoint cannot be reached, or was lost after the request had been sent."""
    return Fault(ErrorCode.MODEL_UNAVAILABLE, message, again=again, charged=sent, unwell=True, reached=False)


def late(message: str, *, again: bool = True, charged: bool = True, unwell: bool = True) -> Fault:
    """There was no answer in time."""
    return Fault(ErrorCode.INFERENCE_TIMEOUT, message, again=again, charged=charged, unwell=unwell)


def of_status(status: int, said: str, retry_after: str | None) -> Fault:
    """The endpoint answered with this status; `said` is its own message, presentable."""
    message = f"HTTP {status}: {said}" if said else f"HTTP {status}"
    code = ErrorCode.INFERENCE_FAILED
    if status == 429:
        code = ErrorCode.RATE_LIMITED
    elif status == 404 or status in _UNAVAILABLE:
        code = ErrorCode.MODEL_UNAVAILABLE
    elif status in _BAD_REQUEST and any(sign in said.lower() for sign in _OVERFLOW):
        code = ErrorCode.CONTEXT_OVERFLOW
    return Fault(
        code,
        message,
        again=status in _TRANSIENT,
        elsewhere=status not in _BAD_REQUEST,
        unwell=status >= 500 or status == 408,
        reached=status not in _UNAVAILABLE,
        retry_after=seconds_of(retry_after) if retry_after else None,
    )


def seconds_of(retry_after: str) -> float | None:
    """The header `Retry-After` in seconds from now: a number, or a date."""
    text = retry_after.strip()[:64]
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max((at - datetime.now(UTC)).total_seconds(), 0.0)


class _Told(Struct):
    message: str | None = None
    type: str | None = None
    code: str | int | None = None


class _Body(Struct):
    error: _Told | str | None = None
    message: str | None = None
    detail: str | None = None


_BODIES = msgspec.json.Decoder(_Body)


def message_of(body: bytes) -> str:
    """What an error's body says: the message in it if it has the usual form, else the text itself."""
    try:
        told = _BODIES.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return body.decode(errors="replace").strip()
    if isinstance(told.error, _Told):
        kinds = ", ".join(str(kind) for kind in (told.error.type, told.error.code) if kind)
        said = told.error.message or ""
        return f"{said} ({kinds})" if kinds else said
    return told.error or told.message or told.detail or body.decode(errors="replace").strip()
