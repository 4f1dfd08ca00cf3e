"""The commands about agents: make one, give it work, look at it, pause it, end it."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l02.cli.options import AgentId, AsJson, DataDir, json_object, json_or_text
from l02.cli.running import reporting, run_with_client
from l02.cli.terminal.agent_text import AGENT_HEADINGS, agent_pairs, agent_row
from l02.cli.terminal.output import (
    print_done,
    print_json,
    print_line,
    print_pairs,
    print_result,
    print_table,
    print_value,
    progress,
    write,
)
from l02.cli.terminal.paging import all_pages

if TYPE_CHECKING:
    from l02.client.client import Client, Wait

_WAIT_HELP = "Do not wait for the effect, only until the command is accepted."


class Assumed(Enum):
    """What a person says of a tool that was under way."""

    done = "done"
    not_done = "not-done"


NoWait = Annotated[bool, typer.Option("--no-wait", help=_WAIT_HELP)]
_VALUE_HELP = "JSON, or any text; - for standard input, @FILE for a file."


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example: l02 spawn examples/historian.yaml --id h1")(spawn)
    app.command("exec", epilog="""Example: l02 exec h1 '{"path": "README.md"}' --stream""")(execute)
    app.command(epilog="Example: l02 ps --state running")(ps)
    app.command(epilog="Example: l02 show h1 --json")(show)
    app.command(epilog="Example: l02 suspend h1")(suspend)
    app.command(epilog="Example: l02 resume h1 --assume not-done")(resume)
    app.command(epilog="Example: l02 terminate h1 --force")(terminate)
    app.command(epilog="""Example: l02 signal h1 approve '{"by": "Ada"}'""")(signal)


def spawn(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The specification, YAML or JSON.", show_default=False)],
    agent_id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="Default: the specification's name and six random digits."),
    ] = None,
    state: Annotated[
        str | None, typer.Option(metavar="JSON", help="An object: what the agent's state begins with.")
    ] = None,
    no_wait: NoWait = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make an agent of a specification and wait until it runs."""
    with reporting(as_json):
        from l02.client.specification_file import load_specification

        specification = load_specification(file)
        begins_with = None if state is None else json_object(state, "--state")

    async def work(client: Client) -> None:
        with progress(f"spawning {agent_id or file.name}", quiet=as_json):
            result = await client.spawn(specification, agent_id, state=begins_with, wait=_wait(no_wait))
        if as_json:
            print_json(result)
        elif result.node_id is None:
            print_line(f"{result.agent_id} is accepted")
        else:
            print_line(
                f"{result.agent_id} runs on {result.node_id}, in a {result.sandbox_type} sandbox,"
                f" after {result.spawn_seconds or 0:.2f} s"
            )

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def execute(
    agent_id: AgentId,
    words: Annotated[str, typer.Argument(metavar="INPUT", help=_VALUE_HELP, show_default=False)],
    stream: Annotated[
        bool, typer.Option("--stream", help="Print what is streamed, then the output if it is not the same.")
    ] = False,
    no_wait: NoWait = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Give an agent a piece of work and print its output.

    With --json it is {"execution_id", "output"}; with --stream too, a line {"delta"} for each piece comes before it, or
    {"void_from"}: the number, from 0, of the first piece that does not count any more.
    """
    if stream and no_wait:
        raise typer.BadParameter("--stream and --no-wait exclude each other")
    value = json_or_text(words)

    async def work(client: Client) -> None:
        if stream:
            await _stream(client, agent_id, value, as_json)
            return
        with progress(f"{agent_id} is working", quiet=as_json):
            result = await client.execute(agent_id, value, wait=_wait(no_wait))
        if as_json:
            print_json(result)
        elif no_wait:
            print_line(result.execution_id)
        else:
            print_value(result.output)

    run_with_client(work, data_dir=data_dir, as_json=as_json)


async def _stream(client: Client, agent_id: str, value: Any, as_json: bool) -> None:
    """An agent that is no generator streams one thing and answers another; then the answer is printed after it."""
    from l02.client.token_stream import TakenBack

    streamed = ""
    async for piece in client.stream(agent_id, value):
        if isinstance(piece, TakenBack):
            if as_json:
                print_json({"void_from": piece.first})
            else:
                write("\n(taken back: it is said again)\n")
                streamed = ""
        elif as_json:
            print_json({"delta": piece} if isinstance(piece, str) else piece)
        elif isinstance(piece, str):
            write(piece)
            streamed += piece
        else:
            if streamed and not streamed.endswith("\n"):
                write("\n")
            if piece.output != streamed:
                print_value(piece.output)


def ps(
    state: Annotated[
        str | None, typer.Option(metavar="STATE", help="pending, running, suspended, terminated or failed.")
    ] = None,
    fleet: Annotated[str | None, typer.Option(metavar="ID", help="Only agents of this fleet.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List the agents."""

    async def work(client: Client) -> None:
        agents = await all_pages(
            lambda size, after: client.list(state, fleet, limit=size, after=after), lambda view: view.id
        )
        print_result(agents, as_json, lambda: print_table(AGENT_HEADINGS, map(agent_row, agents), text="NAME"))

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def show(agent_id: AgentId, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show all that is known about an agent; of one that a model is, also what was said last."""

    async def work(client: Client) -> None:
        agent = await client.get(agent_id)
        pairs = agent_pairs(agent)
        if agent.spec.model and not as_json:
            from l02.cli.terminal.conversation_text import last_rounds

            pairs.append(("conversation", last_rounds((await client.state(agent_id)).state) or "-"))
        print_result(agent, as_json, lambda: print_pairs(pairs))

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def suspend(
    agent_id: AgentId,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Stands in the event.")] = "user_request",
    checkpoint: Annotated[bool, typer.Option(help="Store a checkpoint too.")] = True,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Take an agent's process away and keep all else."""

    async def work(client: Client) -> None:
        print_done(await client.suspend(agent_id, reason, checkpoint=checkpoint), f"{agent_id} is suspended", as_json)

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def resume(
    agent_id: AgentId,
    checkpoint_id: Annotated[
        str | None, typer.Option("--checkpoint", metavar="CHECKPOINT", help="Go on from there; see l02 checkpoints.")
    ] = None,
    assume: Annotated[
        Assumed | None,
        typer.Option(help="Whether the tool that was under way when its process or node died took effect."),
    ] = None,
    execution_id: Annotated[
        str | None, typer.Option("--execution", metavar="ID", help="With --assume: which one, if several are held.")
    ] = None,
    words: Annotated[str, typer.Option("--result", metavar="JSON", help="With --assume done: its result.")] = "null",
    no_wait: NoWait = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Give a suspended agent a process again; or, with --assume, let work go on that waits for a person's word.

    Such work has failed because a tool that must not be called twice was under way when its process or node died.
    `done`: it took effect, and the work goes on with --result. `not-done`: it is called again.
    """
    result = json_or_text(words)
    if assume is not None and checkpoint_id is not None:
        raise typer.BadParameter("--assume and --checkpoint exclude each other")
    if assume is not Assumed.done and result is not None:
        raise typer.BadParameter("--result belongs to --assume done")

    async def work(client: Client) -> None:
        if assume is None:
            outcome = await client.resume(agent_id, checkpoint_id=checkpoint_id)
            print_done(outcome, f"{agent_id} resumes", as_json)
            return
        with progress(f"{agent_id} is working", quiet=as_json):
            done = await client.assume(
                agent_id,
                assume.value,
                execution_id=execution_id,
                result=result,
                wait=_wait(no_wait),
            )
        if as_json:
            print_json(done)
        elif no_wait:
            print_line(done.execution_id)
        else:
            print_value(done.output)

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def terminate(
    agent_id: AgentId,
    reason: Annotated[
        str, typer.Option(metavar="REASON", help="user_request, completed, error, timeout, drain and the like.")
    ] = "user_request",
    force: Annotated[bool, typer.Option("--force", help="Kill its process at once.")] = False,
    no_wait: NoWait = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """End an agent for good."""

    async def work(client: Client) -> None:
        with progress(f"terminating {agent_id}", quiet=as_json):
            outcome = await client.terminate(agent_id, reason, force=force, wait=_wait(no_wait))
        print_done(outcome, f"{agent_id} is {'terminating' if no_wait else 'terminated'}", as_json)

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def signal(
    agent_id: AgentId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the agent waits for.", show_default=False)],
    words: Annotated[str, typer.Argument(metavar="PAYLOAD", help=_VALUE_HELP)] = "true",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Tell an agent something it waits for, now or later."""
    payload = json_or_text(words)

    async def work(client: Client) -> None:
        print_done(await client.signal(agent_id, name, payload), f"{agent_id} has the signal {name}", as_json)

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def _wait(no_wait: bool) -> Wait:
    return "accepted" if no_wait else "complete"
