"""What a run knows of the conversations it has had with models: what is on record of them, and how long they are."""

from __future__ import annotations

from collections import OrderedDict

from msgspec import UNSET, UnsetType

from l02.bus.wire.agent.conversation import Asked, RecordedRequest, recorded
from l02.domain.agent.execution import CountedInput
from l02.domain.inference import KnownInput, ModelRequest, input_bytes

_KEPT = 16
"""So many conversations side by side are known to go on."""


class CountedInputs:
    """What providers have counted of an agent's conversations, which go on from one execution to the next."""

    def __init__(self) -> None:
        self._counted: OrderedDict[str, tuple[Asked, KnownInput]] = OrderedDict()

    def learn(self, asked: Asked, known: KnownInput) -> None:
        """A provider has counted this one."""
        beginning = self._beginning_of(asked)
        if beginning is not None:
            del self._counted[beginning]
        self._counted[asked.sha256] = asked, known
        while len(self._counted) > _KEPT:
            self._counted.popitem(last=False)

    def known(self, asked: Asked) -> KnownInput | None:
        """What is known of the beginning of a request: of one with the same options and messages, and perhaps more."""
        beginning = self._beginning_of(asked)
        return None if beginning is None else self._counted[beginning][1]

    def _beginning_of(self, asked: Asked) -> str | None:
        for sha256, (before, _) in reversed(self._counted.items()):
            length = len(before.messages)
            if before.options == asked.options and before.messages == asked.messages[:length]:
                return sha256
        return None


class ConversationMemory:
    """That of one run of an execution."""

    def __init__(self, counted: CountedInputs) -> None:
        self._newest: Asked | None = None
        self._counted = counted

    def record(self, asked: Asked, request: ModelRequest) -> RecordedRequest:
        """What is new in a request, as it is to be recorded."""
        return recorded(self._newest, asked, request)

    def is_on_record(self, asked: Asked) -> None:
        """Later requests may be said by what is new since this one."""
        self._newest = asked

    def learn(self, asked: Asked, request: ModelRequest, counted: CountedInput | UnsetType) -> None:
        """A provider has counted a request that is on record, or has not said what."""
        if counted is UNSET:
            return
        self._newest = asked
        known = KnownInput(bytes=input_bytes(request), tokens=counted.tokens, model=counted.model)
        self._counted.learn(asked, known)

    def known(self, asked: Asked) -> KnownInput | None:
        """What is known of the beginning of a request."""
        return self._counted.known(asked)
