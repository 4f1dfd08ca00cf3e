"""What a model and its user have said to each other, as chat completions have it; kept over executions in the state.

It is a list of messages that only grows, but for its compaction (`l02.agent.thinking.compaction`): what an endpoint has
read stays the same, so that it need not read it again, and what is recorded of a request is what is new in it. So it is
with the state: it has the messages in parts, of which an execution changes the last, and adds some.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from l02.agent.context import ToolError
from l02.agent.thinking.failures import ThinkingFailed
from l02.bus.wire.agent.values import State

KEY = "conversation"
"""Where it stands in the agent's state: this key has what is known of it, and its parts follow as `conversation/0`…"""
_PART_BYTES = 32 * 1024
MAX_BYTES = 4 * 1024 * 1024
"""Of the messages as JSON, whatever the model takes: the state goes to each execution in one message."""
_BYTES_PER_TOKEN = 4
Message = dict[str, Any]


class _Kept(Struct):
    """What stands under `KEY`."""

    parts: int
    tokens: int = 0
    compactions: int = 0


class Conversation:
    """The messages but for the system prompt, and how much of the model's window they take."""

    def __init__(self, messages: list[Message], tokens: int, compactions: int, window_tokens: int) -> None:
        """`tokens` is what the model has counted of all but the newest messages; 0 if it is not known."""
        self.messages = messages
        self.compactions = compactions
        """How often its beginning was replaced by a summary."""
        self._counted = tokens
        self._since = 0 if tokens else sum(map(size_of, messages))
        self._window = window_tokens
        self._bytes = sum(map(size_of, messages))

    @classmethod
    def of(cls, state: State, window_tokens: int) -> Conversation:
        """That which the state holds; an empty one if it holds none. `ToolError` if something else is in its place."""
        kept = _kept(state)
        return cls(messages_in(state), kept.tokens, kept.compactions, window_tokens)

    def keep(self, state: State) -> None:
        """Have it in the state, for the executions to come."""
        parts = dict(enumerate(_parts(self.messages)))
        for number in range(len(parts), _kept(state).parts):
            del state[_part_key(number)]
        for number, part in parts.items():
            state[_part_key(number)] = part
        state[KEY] = msgspec.to_builtins(_Kept(len(parts), self.tokens, self.compactions))

    def add(self, *messages: Message) -> None:
        """They come last."""
        self.messages.extend(messages)
        size = sum(map(size_of, messages))
        self._bytes += size
        self._since += size

    def counted(self, tokens: int) -> None:
        """The model has counted so many tokens of all there is, its answer included; 0 if it does not say."""
        if tokens > 0:
            self._counted, self._since = tokens, 0

    @property
    def tokens(self) -> int:
        """An estimate: what the model has counted, and a quarter of the bytes since."""
        return self._counted + self._since // _BYTES_PER_TOKEN

    @property
    def room(self) -> int:
        """Bytes that it may have before it is compacted."""
        return min(self._window * _BYTES_PER_TOKEN, MAX_BYTES) * 3 // 4

    @property
    def is_too_long(self) -> bool:
        """Whether it is to be compacted before the model is asked again."""
        return self._bytes > self.room or self.tokens > self._window * 3 // 4

    @property
    def bytes(self) -> int:
        """Its messages, as JSON."""
        return self._bytes

    def replace_beginning(self, count: int, summary: Message) -> None:
        """Have a summary in place of the first messages."""
        kept = self.messages[count:]
        self.messages, self._bytes, self._counted, self._since = [], 0, 0, 0
        self.add(summary, *kept)
        self.compactions += 1


def messages_in(state: Mapping[str, Any]) -> list[Message]:
    """Those that an agent's state holds. `ToolError` if they are none."""
    keys = map(_part_key, range(_kept(state).parts))
    try:
        return [message for key in keys for message in msgspec.convert(state.get(key), list[Message])]
    except msgspec.ValidationError as error:
        raise _no_conversation(error) from error


def _kept(state: Mapping[str, Any]) -> _Kept:
    try:
        return msgspec.convert(state.get(KEY, {"parts": 0}), _Kept)
    except msgspec.ValidationError as error:
        raise _no_conversation(error) from error


def _no_conversation(error: Exception) -> ToolError:
    return ThinkingFailed(
        "STATE_INVALID", f"the state holds no conversation under {KEY!r}: {error}; go back to a checkpoint"
    )


def _part_key(number: int) -> str:
    return f"{KEY}/{number}"


def _parts(messages: list[Message]) -> Iterator[list[Message]]:
    """As they are cut whoever cuts them, when more are said behind them."""
    part: list[Message] = []
    size = 0
    for message in messages:
        part.append(message)
        size += size_of(message)
        if size >= _PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def size_of(message: Message) -> int:
    """Its bytes, as JSON."""
    return len(msgspec.json.encode(message))


def user(text: str) -> Message:
    """What a user says."""
    return {"role": "user", "content": text}


def tool_result(call_id: str, text: str) -> Message:
    """What came of a tool's call."""
    return {"role": "tool", "tool_call_id": call_id, "content": text}
