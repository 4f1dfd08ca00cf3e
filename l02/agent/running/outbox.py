"""What an execution says to its node. What it did itself is said before whatever may rest on it, in the same write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import msgspec

from l02.bus.wire.agent.lines import MAX_LINE
from l02.bus.wire.agent.protocol import AgentMessage, Step, Steps
from l02.domain.weight import LIGHT_BYTES, is_too_heavy

_MAX_STEPS = 100
_SOON_SECONDS = 0.002
_ENVELOPE_BYTES = 1024
"""More than a message of steps has besides them."""
_MAX_BYTES = LIGHT_BYTES - _ENVELOPE_BYTES
"""Of several steps in one message, so that it is never more than a node builds."""
_encoder = msgspec.json.Encoder()


class Outbox:
    """One per execution; `send` writes messages together."""

    def __init__(self, execution_id: str, send: Callable[..., None]) -> None:
        self._execution_id = execution_id
        self._send = send
        self._steps: list[msgspec.Raw] = []
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def send(self, message: AgentMessage) -> None:
        """Send it. Raises `ProtocolError` for one that is too large: then nothing was sent."""
        if self._closed:
            return
        if self._steps:
            self._send(self._unsent(), message)
            self._clear()
        else:
            self._send(message)

    def record(self, step: Step) -> None:
        """A step was taken in."""
        if self._closed:
            return
        encoded = _encoder.encode(step)
        if self._bytes + len(encoded) > _MAX_BYTES:
            self.flush()
        self._steps.append(msgspec.Raw(encoded))
        self._bytes += len(encoded) + 1
        if len(self._steps) >= _MAX_STEPS or self._bytes > _MAX_BYTES:
            self.flush()

    def flush_soon(self) -> bool:
        """Send what was not sent yet, if nothing else is said soon. Whether there is a new timer for that now."""
        if not self._steps or self._timer is not None:
            return False
        self._timer = asyncio.get_running_loop().call_later(_SOON_SECONDS, self.flush)
        return True

    def flush(self) -> None:
        """Send the steps that were not sent yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._steps:
            self._send(self._unsent())
            self._clear()

    def close(self) -> None:
        """Nothing more is said."""
        self._closed = True
        self._clear()

    def takes(self, step: Step) -> bool:
        """Whether a node builds a message that has this step alone."""
        line = _encoder.encode(Steps(self._execution_id, [step]))
        return len(line) <= LIGHT_BYTES or (len(line) <= MAX_LINE and not is_too_heavy(line))

    def _unsent(self) -> Steps:
        return Steps(self._execution_id, cast(Any, self._steps))

    def _clear(self) -> None:
        self._steps = []
        self._bytes = 0
