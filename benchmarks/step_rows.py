"""Commands to a running node, and work of one step and of ten beside the durable steps of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks.contest import Contender, Servers, contest, each_run, ours, peer
from benchmarks.measure import Row
from benchmarks.node import AGENT_FILE, running_node
from benchmarks.peer_venv import PeerVenv
from benchmarks.rows import Sizes

_IN_FLIGHT = 64
_TEN = 10
_SIGNAL = "signal"
_RESTATE = "Restate, "


async def commands(on: Servers, sizes: Sizes) -> list[Row]:
    """64 commands in flight, each to an agent of its own, against one durable step of the others."""
    options = _options(on, sizes, steps=1, in_flight=_IN_FLIGHT)
    with node_contender() as node:
        signal = replace(node(act="signal"), name=_SIGNAL)
        figures = await contest([signal, node(act="execute", calls=0), *_peers()], options, sizes.rounds)
    rates = {name: taken["per_second"] for name, taken in figures.items()}
    signals = rates.pop(_SIGNAL)
    return [
        Row("command to outcome, 64 in flight (signal)", "commands/s", signals, {}, ">= 2,500"),
        _beside("  a whole execution in the agent's sandbox (execute)", "commands/s", rates, max, ">= 1,500"),
    ]


async def steps(on: Servers, sizes: Sizes) -> list[Row]:
    """Ten idempotent tools of the agent's own in one execution, against ten durable steps of one piece of the others.

    Each is shown with the medians of the runs and with the best run of each.
    """
    with node_contender() as node:
        contenders = [node(act="execute", calls=_TEN), *_peers()]
        many, alone = [
            await each_run(contenders, _options(on, sizes, steps=_TEN, in_flight=in_flight), sizes.rounds)
            for in_flight in (_IN_FLIGHT, 1)
        ]
    rows = []
    for title, unit, runs, key, best, target in (
        ("work of ten steps, 64 in flight", "steps/s", many, "per_second", max, ">= 6,000, >= 2.5x Restate"),
        ("work of ten steps, one piece alone, p50 divided by ten", "ms", alone, "step_ms", min, "<= 0.4"),
    ):
        for over, name in ((median, title), (best, "  the best run of each")):
            values = {contender: over(run[key] for run in taken) for contender, taken in runs.items()}
            rows.append(_beside(name, unit, values, best, target if over is median else ""))
    return rows


@contextmanager
def node_contender() -> Iterator[Callable[..., Contender]]:
    """A running node, and what makes a contender of commands to it."""
    with running_node() as (data_dir, directory):
        agent = directory / "bench.py"
        agent.write_text(AGENT_FILE)
        yield lambda **options: ours("commands", data_dir=str(data_dir), agent=str(agent), **options)


def _options(on: Servers, sizes: Sizes, **options: int) -> dict[str, Any]:
    return {"seconds": sizes.seconds, "postgres": on.postgres, **options}


def _peers() -> list[Contender]:
    """Restate's server comes from npm and is left out without it; what serves its handler is part of its speed."""
    contenders = [peer("LangGraph", "langgraph_step"), peer("DBOS", "dbos_step")]
    if PeerVenv().has_restate:
        server = str(PeerVenv.restate_server)
        contenders += [
            peer(_RESTATE + under, "restate_step", restate_server=server, under=under)
            for under in ("hypercorn", "granian")
        ]
    return contenders


def _beside(
    name: str, unit: str, values: dict[str, float], best: Callable[[Iterable[float]], float], target: str
) -> Row:
    """Ours beside the peers; of Restate what serves it best alone."""
    restates = [value for contender, value in values.items() if contender.startswith(_RESTATE)]
    peers = {
        contender: value
        for contender, value in values.items()
        if contender != "l02" and (value not in restates or value == best(restates))
    }
    return Row(name, unit, values["l02"], peers, target)
