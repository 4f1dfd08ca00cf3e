"""The main job, end to end, on this very repository; it checks itself, so that exit code 0 means something.

Three agents from `examples/` get real work. One of them is killed with SIGKILL in the middle of it, comes back, and
ends with the right answer; plain git says what is right, and the log says that no tool was called twice.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from l02.bus.background.causes import first_cause
from l02.bus.wire.codec import RecordedEvent
from l02.cli.running import until_told_to_end
from l02.cli.terminal.output import print_json, print_line, print_table
from l02.client.client import Client
from l02.domain.agent.execution import TOOL
from l02.domain.agent.life.restarts import AgentRestarted
from l02.domain.agent.life.spawning import AgentSpawned
from l02.domain.agent.work.effects import StepsRecorded, ToolCalled
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionFailed
from l02.domain.errors import Failure
from l02.logs import configure_logging
from l02.node.running import running_node
from l02.node.settings import NodeFailed, Settings
from l02.projections.folds.agents import AgentView

_ROOT = Path(__file__).parent.parent.parent
_EXAMPLES = _ROOT / "examples"
_COMMITS = 8
_KILL_AFTER_CALLS = 3
_LIMIT_SECONDS = 60.0


class _Wrong(Exception):
    """The demonstration has shown something else than it should."""


@dataclass
class _Report:
    killed_pid: int = 0
    calls_before_kill: int = 0
    recovered_seconds: float = 0.0
    history: str = ""
    document_words: Any = None
    audit: dict[str, Any] = field(default_factory=dict)
    agents: list[AgentView] = field(default_factory=list)
    timeline: list[RecordedEvent] = field(default_factory=list)


def run_demo(*, json: bool = False) -> int:
    """Run the demonstration; 0 if all of it was as it should be."""
    import uvloop

    configure_logging(level=logging.ERROR)
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="l02-demo-") as directory:
            report = _Report()
            uvloop.run(until_told_to_end(_demonstrate(Path(directory), report, quiet=json)))
            _check(report)
    except Exception as error:
        cause = first_cause(error)
        if not isinstance(cause, _Wrong | NodeFailed | Failure | TimeoutError):
            raise
        print(f"l02 demo: {str(cause) or type(cause).__name__}", file=sys.stderr)  # noqa: T201
        return 1
    seconds = time.monotonic() - began
    if json:
        print_json(_as_json(report, seconds))
    else:
        _print(report, seconds)
    return 0


async def _demonstrate(directory: Path, report: _Report, *, quiet: bool) -> None:
    def say(text: str) -> None:
        if not quiet:
            print_line(text)

    # A directory: a worktree's points to a place that the agents' tools may not read.
    if not (_ROOT / ".git").is_dir():
        raise _Wrong(f"{_ROOT} is no git clone; the demonstration works on l02's own repository, so run it in a clone")
    async with asyncio.timeout(_LIMIT_SECONDS):
        say("starting a node with its own NATS and PostgreSQL in a temporary directory …")
        async with (
            running_node(Settings(data_dir=directory)) as node,
            Client.connect(nats_url=node.runtime["nats_url"], actor="demo") as client,
        ):
            names = ("historian", "reader", "auditor")
            await asyncio.gather(*(client.spawn(_EXAMPLES / f"{name}.yaml", id=name) for name in names))
            say(f"three agents are running: {', '.join(names)}\n")
            async with asyncio.TaskGroup() as work:
                work.create_task(_audit(client, report, say))
                work.create_task(_tell_history(client, report))
                work.create_task(_read_document(client, report))
            report.timeline = [recorded async for recorded in client.events("auditor")]
            await _until_views_show(client, report)


async def _tell_history(client: Client, report: _Report) -> None:
    result = await client.execute("historian", {"repository": str(_ROOT), "commits": 5})
    report.history = str(result.output)


async def _read_document(client: Client, report: _Report) -> None:
    document = str(_ROOT / "docs" / "agent-protocol.md")
    result = await client.execute("reader", {"document": document, "heading": "From the node"})
    report.document_words = result.output


async def _audit(client: Client, report: _Report, say: Any) -> None:
    """Give the auditor its work, and kill its process when a few of its calls are on record."""
    work = asyncio.create_task(client.execute("auditor", {"repository": str(_ROOT), "commits": _COMMITS}))
    killed_at = 0.0
    pid = 0
    async for recorded in client.events("auditor", follow=True):
        match recorded.event:
            case AgentSpawned(pid=spawned) if killed_at:
                report.recovered_seconds = time.monotonic() - killed_at
                say(f"auditor is back as process {spawned} after {report.recovered_seconds:.1f} s\n")
                break
            case AgentSpawned(pid=spawned):
                pid = spawned
            case ToolCalled():
                report.calls_before_kill += not killed_at
                if report.calls_before_kill == _KILL_AFTER_CALLS and not killed_at:
                    os.kill(pid, signal.SIGKILL)
                    killed_at, report.killed_pid = time.monotonic(), pid
                    say(f"killed auditor's process {pid} (SIGKILL) after {_KILL_AFTER_CALLS} recorded tool calls")
            case ExecutionCompleted() | ExecutionFailed():
                raise _Wrong("auditor's execution ended before its process was killed")
    report.audit = (await work).output


async def _until_views_show(client: Client, report: _Report) -> None:
    """The table that is printed comes from the read model, which follows the events."""
    newest = report.timeline[-1].sequence
    while True:
        report.agents = await client.list()
        if any(view.id == "auditor" and view.sequence >= newest for view in report.agents):
            return
        await asyncio.sleep(0.05)


def _git(*arguments: str) -> list[str]:
    answer = subprocess.run(["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, check=True)
    return answer.stdout.splitlines()


def _check(report: _Report) -> None:
    authors = Counter(_git("log", "-n", str(_COMMITS), "--format=%an"))
    files = len(_git("ls-tree", "-r", "--name-only", "HEAD"))
    head = _git("rev-parse", "HEAD")[0]
    audit = report.audit
    if not audit["agree"] or audit["head"] != head or audit["files"] != files:
        raise _Wrong(f"the audit says {audit}, git says head {head} and {files} files")
    if sum(audit["authors"].values()) != sum(authors.values()):
        raise _Wrong(f"the audit counts {audit['authors']}, git counts {dict(authors)}")
    calls = [recorded.event for recorded in report.timeline if isinstance(recorded.event, ToolCalled)]
    numbers = [call for recorded in report.timeline for call in _tool_calls(recorded.event)]
    if len(set(numbers)) != len(numbers) or any(event.attempts != 1 for event in calls):
        raise _Wrong(f"a tool was called more than once: calls {numbers}")
    if not any(isinstance(recorded.event, AgentRestarted) for recorded in report.timeline):
        raise _Wrong("no restart of the killed process is on record")
    if not report.history.startswith(f"{min(5, len(_git('log', '-n', '5', '--format=%h')))} commits"):
        raise _Wrong(f"the historian told: {report.history!r}")
    if {view.state.value for view in report.agents} != {"running"}:
        raise _Wrong(f"not all agents are running: {[(view.id, view.state.value) for view in report.agents]}")


def _as_json(report: _Report, seconds: float) -> dict[str, Any]:
    return {
        "ok": True,
        "seconds": round(seconds, 3),
        "killed": {"agent": "auditor", "pid": report.killed_pid, "after_tool_calls": report.calls_before_kill},
        "recovered_seconds": round(report.recovered_seconds, 3),
        "audit": report.audit,
        "history": report.history,
        "document": report.document_words,
        "agents": msgspec.to_builtins(report.agents),
        "events": [recorded.event.type for recorded in report.timeline],
    }


def _print(report: _Report, seconds: float) -> None:
    print_line(f"historian said:\n{report.history}")
    print_line(f"reader found: {report.document_words}\n")
    print_table(
        ("AGENT", "STATE", "SANDBOX", "DONE", "TOOL CALLS", "RESTARTS"),
        [
            (
                view.id,
                view.state.value,
                str(view.sandbox_type),
                str(view.executions_completed),
                str(view.tool_calls),
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
        f"All of it took {seconds:.1f} s."
    )


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
