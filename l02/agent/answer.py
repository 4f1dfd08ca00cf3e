"""What a handler gets from a model."""

from __future__ import annotations

from l02.domain.inference import ModelAnswer, ModelUsage


class Answer(ModelAnswer, frozen=True, kw_only=True, rename={"cost": "cost_usd"}):
    """What a model answered.

    `text` is what it said, `tool_calls` what it wants to have called (each with `id`, `name` and its `arguments`, a
    text), `output` a JSON value that fits the `output_schema`, if one was asked for. `usage` are the tokens and `cost`
    the US dollars it took, with all that the node had to try again. `model` is the provider's name for what answered.
    """

    usage: ModelUsage
    cost: float = 0.0
