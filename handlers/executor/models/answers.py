"""What an agent gets of a model's answer, and whether that has the form it asked for."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from l02.bus.wire.agent.meter import require_size
from l02.bus.wire.agent.texts import cut
from l02.domain.errors import ErrorCode, Failure
from l02.domain.inference import FinishReason, ModelAnswer, ModelRequest, ModelUsage
from l02.domain.spending.money import in_usd
from l02.domain.values import require_shallow
from l02.handlers.executor.tools.checks import SchemaChecks

_ENDED_EARLY = (FinishReason.LENGTH, FinishReason.CONTENT_FILTER)
_SHOWN_BYTES = 1024


class Misfit(Struct, frozen=True):
    """Why an answer is not of the form that was asked for; `mendable` if the model may do better."""

    message: str
    mendable: bool


async def misfit(checks: SchemaChecks, request: ModelRequest, answer: ModelAnswer, agent_id: str) -> Misfit | None:
    """What is wrong with an answer to a request with an `output_schema`. One that calls tools is none yet.

    Failure E2110 if the schema is none, or to check by it takes too long.
    """
    if request.output_schema is None or answer.tool_calls:
        return None
    mendable = answer.finish_reason not in _ENDED_EARLY
    if answer.output is None:
        try:
            msgspec.json.decode(answer.text)
        except (ValueError, RecursionError) as error:
            return Misfit(f"it is no JSON: {error}{_how_it_ended(answer)}", mendable)
    try:
        what = "an answer against the output_schema"
        found = await checks.misfit(what, request.output_schema, answer.output, agent_id)
    except Failure as failure:
        raise Failure(ErrorCode.COMMAND_INVALID, failure.message, "$.output_schema") from failure
    if found is not None and found.broken:
        raise Failure(ErrorCode.COMMAND_INVALID, f"it is no JSON Schema: {found.message}", "$.output_schema")
    return None if found is None else Misfit(f"{found.path}: {found.message}{_how_it_ended(answer)}", mendable)


def _how_it_ended(answer: ModelAnswer) -> str:
    if answer.finish_reason not in _ENDED_EARLY:
        return ""
    advice = "; raise max_tokens" if answer.finish_reason is FinishReason.LENGTH else ""
    return f"; it ended early (finish_reason {answer.finish_reason.value}){advice}"


def asked_again(request: ModelRequest, answer: ModelAnswer, problem: Misfit) -> ModelRequest:
    """The request that has the model mend its answer."""
    said = {"role": "assistant", "content": answer.text}
    wish = {
        "role": "user",
        "content": f"That does not fit the JSON Schema that was asked for ({cut(problem.message, _SHOWN_BYTES)}). "
        "Answer again, with JSON that does and nothing else.",
    }
    return replace(request, messages=(*request.messages, said, wish))


def as_result(answer: ModelAnswer, usage: ModelUsage, cost: int) -> dict[str, Any]:
    """The answer as the agent gets it, and as it is recorded. Failure E2115 or E2100 if it cannot be passed on."""
    result: dict[str, Any] = msgspec.to_builtins(answer)
    result |= {"usage": msgspec.to_builtins(usage), "cost_usd": in_usd(cost)}
    try:
        require_shallow(result, "$.output")
    except Failure as failure:
        raise Failure(ErrorCode.INFERENCE_FAILED, f"the model's answer: {failure.message}") from failure
    require_size(len(msgspec.json.encode(result)))
    return result
