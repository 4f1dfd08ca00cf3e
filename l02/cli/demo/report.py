"""What the demonstration has seen, whether it is as it should be, and how it is shown."""

from __future__ import annotations

import subprocess
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from l02.bus.wire.codec import RecordedEvent
from l02.cli.demo.model import ROUNDS, in_words
from l02.cli.terminal.output import print_line, print_table
from l02.domain.agent.execution import TOOL
from l02.domain.agent.life.restarts import AgentRestarted
from l02.domain.agent.life.spawning import AgentSpawned
from l02.domain.agent.work.blocking import BudgetWaiting
from l02.domain.agent.work.effects import StepsRecorded, ToolCalled
from l02.domain.agent.work.models import ModelCalled
from l02.domain.agent.work.quotas import QuotaUpdated
from l02.projections.folds.agents import AgentView

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"
COMMITS = 8


class Wrong(Exception):
    """The demonstration has shown something else than it should."""


@dataclass
class Report:
    killed_pid: int = 0
    calls_before_kill: int = 0
    recovered_seconds: float = 0.0
    history: str = ""
    document_words: Any = None
    audit: dict[str, Any] = field(default_factory=dict)
    agents: list[AgentView] = field(default_factory=list)
    timeline: list[RecordedEvent] = field(default_factory=list)
    answer: str = ""
    thoughts: list[RecordedEvent] = field(default_factory=list)
    model_answers: list[tuple[int, int]] = field(default_factory=list)
    """Tokens that the model has read and written for each."""


def _git(*arguments: str) -> list[str]:
    answer = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    return answer.stdout.splitlines()


def check(report: Report) -> None:
    authors = Counter(_git("log", "-n", str(COMMITS), "--format=%an"))
    files = len(_git("ls-tree", "-r", "--name-only", "HEAD"))
    head = _git("rev-parse", "HEAD")[0]
    audit = report.audit
    if not audit["agree"] or audit["head"] != head or audit["files"] != files:
        raise Wrong(f"the audit says {audit}, git says head {head} and {files} files")
    if sum(audit["authors"].values()) != sum(authors.values()):
        raise Wrong(f"the audit counts {audit['authors']}, git counts {dict(authors)}")
    calls = [recorded.event for recorded in report.timeline if isinstance(recorded.event, ToolCalled)]
    numbers = [call for recorded in report.timeline for call in _tool_calls(recorded.event)]
    if len(set(numbers)) != len(numbers) or any(event.attempts != 1 for event in calls):
        raise Wrong(f"a tool was called more than once: calls {numbers}")
    if not any(isinstance(recorded.event, AgentRestarted) for recorded in report.timeline):
        raise Wrong("no restart of the killed process is on record")
    if not report.history.startswith(f"{min(5, len(_git('log', '-n', '5', '--format=%h')))} commits"):
        raise Wrong(f"the historian told: {report.history!r}")
    _check_thoughts(report)
    if {view.state.value for view in report.agents} != {"running"}:
        raise Wrong(f"not all agents are running: {[(view.id, view.state.value) for view in report.agents]}")


def _check_thoughts(report: Report) -> None:
    """The model was asked each thing once, all that it read and wrote is charged, and a person let it go on."""
    expected = in_words(Counter(_git("log", "-n", str(ROUNDS), "--format=%an")))
    if report.answer != expected:
        raise Wrong(f"the model says {report.answer!r}, and git {expected!r}")
    events = [recorded.event for recorded in report.thoughts]
    charged = [(event.input_tokens, event.output_tokens) for event in events if isinstance(event, ModelCalled)]
    if charged != report.model_answers:
        raise Wrong(f"the model has read and written {report.model_answers} tokens, and on record are {charged}")
    waits = [event for event in events if isinstance(event, BudgetWaiting)]
    raised = [event.by for event in events if isinstance(event, QuotaUpdated)]
    if len(waits) != 1 or raised != ["demo"]:
        raise Wrong(f"the model's agent has waited {len(waits)} times for a person, and {raised} raised its limit")


def as_json(report: Report, seconds: float) -> dict[str, Any]:
    return {
        "ok": True,
        "seconds": round(seconds, 3),
        "killed": {"agent": "auditor", "pid": report.killed_pid, "after_tool_calls": report.calls_before_kill},
        "recovered_seconds": round(report.recovered_seconds, 3),
        "audit": report.audit,
        "history": report.history,
        "document": report.document_words,
        "assistant": {"answer": report.answer, "model_calls": len(report.model_answers), "tokens": _tokens(report)},
        "agents": msgspec.to_builtins(report.agents),
        "events": [recorded.event.type for recorded in report.timeline],
    }


def show(report: Report, seconds: float) -> None:
    print_line(f"historian said:\n{report.history}")
    print_line(f"reader found: {report.document_words}")
    print_line(f"assistant said: {report.answer}\n")
    print_table(
        ("AGENT", "STATE", "SANDBOX", "DONE", "TOOL CALLS", "TOKENS", "RESTARTS"),
        [
            (
                view.id,
                view.state.value,
                str(view.sandbox_type),
                str(view.executions_completed),
                str(view.tool_calls),
                f"{view.tokens:,}",
                str(view.restarts),
            )
            for view in report.agents
        ],
    )
    print_line("\nwhat the log says of auditor:")
    began = report.timeline[0].time
    for kind, group in groupby(report.timeline, key=lambda recorded: _tell(recorded.event)):
        first, *more = group
        repeated = f" × {len(more) + 1}" if more else ""
        print_line(f"  {(first.time - began).total_seconds():7.3f} s  {kind}{repeated}")
    calls = sum(len(_tool_calls(recorded.event)) for recorded in report.timeline)
    print_line(
        f"\nauditor's process {report.killed_pid} was killed after {report.calls_before_kill} of {calls} tool calls "
        f"and was back {report.recovered_seconds:.1f} s later;\nno tool was called twice, and git "
        f"agrees with its answer: {report.audit['files']} files, {report.audit['authors']}\n"
        f"assistant's model was asked {len(report.model_answers)} times, each once, and all its {_tokens(report):,} "
        "tokens are on record\n"
        f"All of it took {seconds:.1f} s."
    )


def _tokens(report: Report) -> int:
    return sum(read + written for read, written in report.model_answers)


def _tool_calls(event: Any) -> list[int]:
    """The numbers of the tools' calls that an event records."""
    match event:
        case ToolCalled():
            return [event.call]
        case StepsRecorded():
            return [step.call for step in event.steps if step.kind == TOOL]
        case _:
            return []


def _tell(event: Any) -> str:
    match event:
        case ToolCalled():
            return f"{event.type}  {event.tool}"
        case StepsRecorded():
            return f"{event.type}  {', '.join(step.kind if step.tool is UNSET else step.tool for step in event.steps)}"
        case AgentRestarted():
            return f"{event.type}  {event.cause}; again after {event.delay_seconds:g} s"
        case AgentSpawned():
            return f"{event.type}  process {event.pid} in {event.sandbox_type}, {event.spawn_seconds * 1000:.0f} ms"
        case _:
            return str(event.type)
