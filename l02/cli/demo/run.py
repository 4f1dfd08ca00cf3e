"""The main job, end to end, on this very repository; it checks itself, so that exit code 0 means something.

Three agents from `examples/` get real work. One of them is killed with SIGKILL in the middle of it, comes back, and
ends with the right answer; plain git says what is right, and the log says that no tool was called twice. The fourth is
a model without code, which is held at its limit, asks a person for more, and goes on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from l02.bus.background.causes import first_cause
from l02.cli.demo.assistant import NAME as ASSISTANT
from l02.cli.demo.assistant import ask_assistant, specification
from l02.cli.demo.model import ScriptedModel, scripted_model
from l02.cli.demo.report import COMMITS, EXAMPLES, ROOT, Report, Wrong, as_json, check, show
from l02.cli.running import until_told_to_end
from l02.cli.terminal.output import print_json, print_line
from l02.client.client import Client
from l02.domain.agent.life.spawning import AgentSpawned
from l02.domain.agent.work.effects import ToolCalled
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionFailed
from l02.domain.errors import Failure
from l02.handlers.models.settings import Defaults, ModelSettings, model_settings
from l02.logs import configure_logging
from l02.node.running import running_node
from l02.node.settings import NodeFailed, Settings

_KILL_AFTER_CALLS = 3
_LIMIT_SECONDS = 60.0


def run_demo(*, json: bool = False) -> int:
    """Run the demonstration; 0 if all of it was as it should be."""
    import uvloop

    configure_logging(level=logging.ERROR)
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="l02-demo-") as directory:
            report = Report()
            uvloop.run(until_told_to_end(_demonstrate(Path(directory), report, quiet=json)))
            check(report)
    except Exception as error:
        cause = first_cause(error)
        if not isinstance(cause, Wrong | NodeFailed | Failure | TimeoutError):
            raise
        print(f"l02 demo: {str(cause) or type(cause).__name__}", file=sys.stderr)  # noqa: T201
        return 1
    seconds = time.monotonic() - began
    if json:
        print_json(as_json(report, seconds))
    else:
        show(report, seconds)
    return 0


async def _demonstrate(directory: Path, report: Report, *, quiet: bool) -> None:
    def say(text: str) -> None:
        if not quiet:
            print_line(text)

    # A directory: a worktree's points to a place that the agents' tools may not read.
    if not (ROOT / ".git").is_dir():
        raise Wrong(f"{ROOT} is no git clone; the demonstration works on l02's own repository, so run it in a clone")
    async with asyncio.timeout(_LIMIT_SECONDS):
        say("starting a node with its own NATS and PostgreSQL in a temporary directory …")
        async with (
            scripted_model(str(ROOT)) as model,
            running_node(Settings(data_dir=directory, models=_models(model, directory))) as node,
            Client.connect(nats_url=node.runtime["nats_url"], actor="demo") as client,
        ):
            names = ("historian", "reader", "auditor")
            spawning = (client.spawn(EXAMPLES / f"{name}.yaml", id=name) for name in names)
            await asyncio.gather(*spawning, client.spawn(specification(), id=ASSISTANT))
            say(f"four agents are running: {', '.join(names)}, and {ASSISTANT}, which is a model without code\n")
            async with asyncio.TaskGroup() as work:
                work.create_task(_audit(client, report, say))
                work.create_task(_tell_history(client, report))
                work.create_task(_read_document(client, report))
                work.create_task(ask_assistant(client, report, say))
            report.model_answers = model.answers
            report.timeline = [recorded async for recorded in client.events("auditor")]
            await _until_views_show(client, report)


def _models(model: ScriptedModel, directory: Path) -> ModelSettings:
    endpoint = {"endpoint": model.url, "model": "scripted", "context_window": 128_000}
    return model_settings({"small": [endpoint]}, Defaults(), directory)


async def _tell_history(client: Client, report: Report) -> None:
    result = await client.execute("historian", {"repository": str(ROOT), "commits": 5})
    report.history = str(result.output)


async def _read_document(client: Client, report: Report) -> None:
    document = str(ROOT / "docs" / "agent-protocol.md")
    result = await client.execute("reader", {"document": document, "heading": "From the node"})
    report.document_words = result.output


async def _audit(client: Client, report: Report, say: Any) -> None:
    """Give the auditor its work, and kill its process when a few of its calls are on record."""
    work = asyncio.create_task(client.execute("auditor", {"repository": str(ROOT), "commits": COMMITS}))
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
                raise Wrong("auditor's execution ended before its process was killed")
    report.audit = (await work).output


async def _until_views_show(client: Client, report: Report) -> None:
    """The table that is printed comes from the read model, which follows the events."""
    newest = {events[-1].aggregate.id: events[-1].sequence for events in (report.timeline, report.thoughts)}
    while True:
        report.agents = await client.list()
        if all(view.sequence >= newest.get(view.id, 0) for view in report.agents):
            return
        await asyncio.sleep(0.05)
