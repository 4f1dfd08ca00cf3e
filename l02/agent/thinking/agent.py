"""The rounds of the built-in agent: the model answers, its tools are called, until it has nothing left to call."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from l02.agent.answer import Answer
from l02.agent.context import Context, ToolError
from l02.agent.definition import Agent
from l02.agent.thinking.calls import as_message, results_of, with_ids
from l02.agent.thinking.compaction import compact
from l02.agent.thinking.conversation import Conversation, Message
from l02.agent.thinking.failures import ThinkingFailed
from l02.agent.thinking.inputs import messages_of
from l02.agent.thinking.names import Names
from l02.domain.errors import ErrorCode
from l02.domain.inference import FinishReason, ToolCall
from l02.domain.specification import ModelAgent

MAX_COMPACTIONS = 3
"""So often in a row, each to half of the length before, where an endpoint takes less than the specification says."""
_NO_TOOLS = "Some of your tools are not available at present."


def agent_of(name: str, model: ModelAgent, window_tokens: int) -> Agent:
    """The agent of a specification."""
    agent = Agent(name)

    @agent.on_message
    async def think(ctx: Context, message: Any) -> Any:
        return await _Thinking(ctx, model, window_tokens).output(message)

    return agent


class _Thinking:
    """One execution."""

    def __init__(self, ctx: Context, model: ModelAgent, window_tokens: int) -> None:
        self._ctx = ctx
        self._model = model
        self._conversation = Conversation.of(ctx.state, window_tokens)
        self._names = Names(())
        self._prompt: list[Message] = []
        self._streams = model.output_schema is None

    async def output(self, given: Any) -> Any:
        """What the model says last. Raises `ToolError`."""
        conversation, most = self._conversation, self._model.max_rounds
        conversation.add(*messages_of(given))
        await self._learn_tools()
        for number in range(1, most + 1):
            answer = await self._ask()
            calls = with_ids(answer.tool_calls, len(conversation.messages))
            if answer.text or calls:  # some endpoints do not take a message that says nothing
                conversation.add(as_message(answer.text, calls))
            conversation.counted(answer.usage.tokens)
            self._require_whole(answer, bool(calls))
            if not calls:
                conversation.keep(self._ctx.state)
                return answer.text if self._streams else answer.output
            if number < most:
                await self._call(answer, calls)
        raise ThinkingFailed(
            "MAX_ROUNDS",
            f"the model was asked {most} times (model.max_rounds) and has not come to an end; raise max_rounds, or say "
            "in model.prompt when it has done enough",
        )

    async def _call(self, answer: Answer, calls: Sequence[ToolCall]) -> None:
        if answer.text and self._streams:
            self._ctx.emit("\n\n")
        cut_off = answer.finish_reason is FinishReason.LENGTH
        room = self._conversation.room // 2
        self._conversation.add(*await results_of(self._ctx, calls, self._names, room, cut_off=cut_off))

    async def _learn_tools(self) -> None:
        offer = await self._ctx.tools()
        for problem in offer.problems:
            sys.stderr.write(f"{problem}\n")
        self._names = Names(offer.tools)
        parts = [self._model.prompt, _NO_TOOLS if offer.problems else ""]
        prompt = "\n\n".join(part for part in parts if part)
        self._prompt = [{"role": "system", "content": prompt}] if prompt else []

    async def _ask(self) -> Answer:
        """The model's next answer; the conversation is compacted before if it is too long, or the model finds so."""
        conversation = self._conversation
        if conversation.is_too_long:
            await compact(conversation, self._summary, conversation.room)
        for compactions in range(MAX_COMPACTIONS + 1):
            try:
                return await self._ctx.model(
                    [*self._prompt, *conversation.messages],
                    model=self._model.alias,
                    tools=self._names.offered() or None,
                    output_schema=self._model.output_schema,
                    max_tokens=self._model.max_tokens,
                    temperature=self._model.temperature,
                    stream=self._streams,
                )
            except ToolError as error:
                if error.code != ErrorCode.CONTEXT_OVERFLOW.value or compactions == MAX_COMPACTIONS:
                    raise
                if not await compact(conversation, self._summary, conversation.bytes // 2):
                    raise
        raise AssertionError("the last one is answered, or raises")

    async def _summary(self, messages: list[Message]) -> Answer:
        return await self._ctx.model(messages, model=self._model.alias)

    def _require_whole(self, answer: Answer, calls: bool) -> None:
        """An answer that is cut off is none; calls of tools are, as those that are whole say so themselves."""
        if answer.finish_reason is FinishReason.CONTENT_FILTER:
            raise ThinkingFailed(
                "CONTENT_FILTERED",
                "the model's provider has withheld its answer (finish_reason content_filter); say it otherwise, or "
                "give the agent another model",
            )
        if answer.finish_reason is FinishReason.LENGTH and not calls:
            raise ThinkingFailed(
                "OUTPUT_TRUNCATED",
                "the model's answer reached its limit before its end (finish_reason length); raise model.max_tokens, "
                "or ask for a shorter answer",
            )
