"""A model that is asked, what came of it, and work that ended before that was known."""

from __future__ import annotations

from l02.domain.agent.execution import LostModelCall, SaidText, Streamed
from l02.domain.agent.work.executions import ExecutionFailed
from l02.domain.agent.work.models import ModelCalled, ModelRequested
from l02.domain.errors import OwnError
from l02.domain.inference import Drawn, FinishReason, Price
from l02.domain.spending.amounts import Amount
from l02.domain.spending.limits import LimitName

LOST = LostModelCall(
    call=6,
    attempt=1,
    alias="small",
    reserved=Amount(tokens=5_000, cost_usd=0.0125),
    drawn=(Drawn(budget="team-a", slice="n1-6"), Drawn(budget="research", slice="n1-2")),
)
MODEL_REQUESTED = ModelRequested(
    execution_id="x1",
    call=6,
    attempt=2,
    alias="small",
    sha256="9f86d081884c7d659a2feaa0c55ad015",
    request={"previous": None, "keep": 0, "messages": [{"role": "user", "content": "how many commits?"}]},
    reserved=Amount(tokens=5_000, cost_usd=0.0125),
    drawn=(Drawn(budget="team-a", slice="n1-7"), Drawn(budget="research", slice="n1-3")),
    budgets=("team-a", "research"),
    lost=LOST,
    reset_at={LimitName.TOKENS_PER_HOUR: 1_767_229_200.5},
)
MODEL_CALLED = ModelCalled(
    execution_id="x1",
    call=6,
    attempt=2,
    alias="small",
    sha256="9f86d081884c7d659a2feaa0c55ad015",
    model="qwen3:8b",
    endpoint="127.0.0.1:11434",
    input_tokens=1200,
    cached_tokens=1000,
    cache_write_tokens=100,
    output_tokens=80,
    reasoning_tokens=30,
    estimated=False,
    cost_usd=0.000228,
    price=Price(input=0.15, cached_input=0.075, cache_write=0.3, output=0.6),
    duration_seconds=0.9,
    attempts=1,
    finish_reason=FinishReason.TOOL_CALLS,
    ok=True,
    result={
        "text": "42",
        "model": "qwen3:8b-q4",
        "finish_reason": "tool_calls",
        "tool_calls": [{"id": "t1", "name": "git_log", "arguments": "{}"}],
    },
    reserved=Amount(tokens=5_000, cost_usd=0.0125),
    drawn=(Drawn(budget="team-a", slice="n1-7"), Drawn(budget="research", slice="n1-3")),
    text=SaidText(pieces=2, sha256="fcde2b2edba56bf4"),
    again=True,
    lost=LOST,
    streamed=Streamed(n=2, pieces=3, own=2),
)
EXECUTION_FAILED = ExecutionFailed(
    execution_id="x1",
    code="E2005",
    message="no such commit",
    tokens=12,
    held=True,
    detail=OwnError(code="GIT", name="NO_COMMIT"),
    spent=Amount(tokens=321, cost_usd=0.0125),
    lost=(LOST,),
    completes=("x1",),
)
