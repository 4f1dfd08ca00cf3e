"""An answer while it is put together, from one message or from the many of a stream, whatever is in them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from l02.domain.inference import FinishReason, ModelAnswer, ModelUsage, ToolCall
from l02.handlers.models.endpoints.faults import Fault, nonsense
from l02.handlers.models.endpoints.untrusted import UNREADABLE, read

MAX_ANSWER = 2 * 1024 * 1024
"""Characters of text, arguments and names; more is no answer."""
_MAX_CALLS = 1024
_MAX_NAME = 512
_COST_OF_A_CALL = 64
_ANY = msgspec.json.Decoder()

Tokens = Annotated[int, Meta(ge=0, le=100_000_000)]
"""A number of tokens that a call may have used."""


class _Call:
    def __init__(self, call_id: str, name: str) -> None:
        self.id = call_id
        self.name = name
        self.arguments: list[str] = []


class Draft:
    """Takes what comes. `ended` once the endpoint has said that there is no more."""

    def __init__(self) -> None:
        self.model = ""
        self.finish: FinishReason | None = None
        self.ended = False
        self.answered = False
        """Whether there is anything that says this is an answer."""
        self.begun = False
        """Whether anything of the model has come, also what is not shown to anybody."""
        self.refused = False
        """Whether what it says is why it does not answer."""
        self.usage: ModelUsage | None = None
        self._texts: list[str] = []
        self._calls: dict[str | int, _Call] = {}
        self._size = 0

    def text(self, piece: str) -> None:
        """The answer's text goes on."""
        if piece:
            self._grow(len(piece))
            self._texts.append(piece)

    def thought(self) -> None:
        """The model works, and what it says is not for others."""
        self.answered = self.begun = True

    def call(
        self,
        at: str | int | None,
        call_id: str = "",
        name: str = "",
        arguments: str = "",
        *,
        whole: str | None = None,
    ) -> None:
        """A tool call begins or goes on: `at` says which, None the last one. `whole` are all its arguments."""
        self._grow(len(call_id) + len(name) + len(arguments))
        if at is None:
            at = next(reversed(self._calls)) if self._calls and not call_id else len(self._calls)
        found = self._calls.get(at)
        if found is not None and call_id and found.id not in ("", call_id):
            # Some number each call of an answer alike.
            at, found = f"{at}/{call_id}", self._calls.get(f"{at}/{call_id}")
        if found is None:
            if len(self._calls) == _MAX_CALLS:
                raise nonsense(f"an answer with more than {_MAX_CALLS} tool calls")
            self._grow(_COST_OF_A_CALL)
            found = self._calls[at] = _Call("", "")
        found.id = found.id or call_id[:_MAX_NAME]
        found.name = found.name or name[:_MAX_NAME]
        if arguments:
            found.arguments.append(arguments)
        elif whole and not found.arguments:
            self._grow(len(whole))
            found.arguments.append(whole)

    def _grow(self, by: int) -> None:
        self.thought()
        self._size += by
        if self._size > MAX_ANSWER:
            raise nonsense(f"an answer of more than {MAX_ANSWER} characters")

    @property
    def shown(self) -> bool:
        """Whether there is text or a tool call, which a reader may have seen."""
        return bool(self._texts or self._calls)

    @property
    def whole_text(self) -> str:
        """The text that has come."""
        return "".join(self._texts)

    @property
    def all_said(self) -> str:
        """The text, and the arguments of tool calls."""
        return "\n".join((self.whole_text, *("".join(call.arguments) for call in self._calls.values())))

    def answer(self, model: str, *, as_json: bool) -> ModelAnswer:
        """The whole of it; `model` is its name if the endpoint gives none."""
        text = self.whole_text
        calls = tuple(
            ToolCall(id=call.id or f"call_{at}", name=call.name, arguments="".join(call.arguments) or "{}")
            for at, call in enumerate(self._calls.values())
        )
        finish = FinishReason.CONTENT_FILTER if self.refused else self.finish or FinishReason.STOP
        if finish == FinishReason.STOP and calls:
            finish = FinishReason.TOOL_CALLS
        return ModelAnswer(
            text=text,
            model=self.model[:_MAX_NAME] or model,
            finish_reason=finish,
            tool_calls=calls,
            output=_json(text) if as_json else None,
        )

    def used(self, worst: ModelUsage) -> ModelUsage:
        """What the endpoint says that it used. What it does not say, or cannot be, is the worst, `estimated`.

        Nobody reads or writes without a token; and what was written is known when the answer has ended.
        """
        usage = self.usage
        if usage is None or not usage.input_tokens:
            return worst
        if self.complete and (usage.output_tokens or not self.shown):
            return usage
        return replace(usage, output_tokens=max(worst.output_tokens, usage.output_tokens), estimated=True)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return self.answered and (self.ended or self.finish is not None)


def _json(text: str) -> Any:
    try:
        return read(_ANY, text)
    except (*UNREADABLE, Fault):
        return None
