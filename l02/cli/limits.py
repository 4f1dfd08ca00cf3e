"""`l02 set-quota`, `l02 approve`, `l02 usage`: what agents may use, who asks for more, and what was used."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l02.cli.options import AgentId, AsJson, DataDir, group, point_in_log
from l02.cli.running import run_with_client
from l02.cli.terminal.output import print_done, print_result, print_table
from l02.cli.terminal.paging import all_pages

if TYPE_CHECKING:
    from l02.client.client import Client
    from l02.projections.folds.waiting import QuestionView
    from l02.projections.queries import Usage

_QUESTION_HEADINGS = ("QUESTION", "KIND", "WHAT", "NEEDED", "SINCE")
_USAGE_HEADINGS = ("INPUT", "CACHED", "OUTPUT", "REASONING", "USD", "CALLS")
_LIMIT_HELP = "or `none`"

QuestionId = Annotated[
    str, typer.Argument(metavar="QUESTION", help="Its id, as `l02 approve list` shows it.", show_default=False)
]


class By(Enum):
    """What usage is summed up by."""

    agent = "agent"
    fleet = "fleet"
    budget = "budget"
    model = "model"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("set-quota", epilog="Example: l02 set-quota h1 --tokens-per-hour 200000 --action ask")(set_quota)
    app.command(epilog="Example: l02 usage --by model --since 1d")(usage)
    approve = group(app, "approve", "Questions that wait for a person.", "l02 approve list")
    approve.command("list", epilog="Example: l02 approve list --json")(list_questions)
    approve.command(epilog="Example: l02 approve grant h1/4c9e/3 --amount 5000")(grant)
    approve.command(epilog="Example: l02 approve deny h1/4c9e/3 --reason 'not on Fridays'")(deny)


def set_quota(
    agent_id: AgentId,
    tokens_per_hour: Annotated[
        str | None, typer.Option(metavar="N", help=f"At most these tokens in an hour, {_LIMIT_HELP}.")
    ] = None,
    tokens_per_day: Annotated[
        str | None, typer.Option(metavar="N", help=f"At most these tokens in a day, {_LIMIT_HELP}.")
    ] = None,
    cost_per_day: Annotated[
        str | None, typer.Option(metavar="USD", help=f"At most this cost in a day, {_LIMIT_HELP}.")
    ] = None,
    execution_seconds: Annotated[
        str | None, typer.Option(metavar="S", help=f"So long may work take that begins from now on, {_LIMIT_HELP}.")
    ] = None,
    cpu: Annotated[str | None, typer.Option(metavar="CPU", help="Of its next process, as 2 or 500m.")] = None,
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help="Of its next process, as 512Mi or 2Gi.")] = None,
    action: Annotated[
        str | None, typer.Option(metavar="ACTION", help="At a limit: warn, refuse, throttle, suspend, ask, terminate.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Change an agent's limits while it is at work; what is left out stays as it is.

    Who waits for more goes on if it is enough.
    """
    changes: dict[str, Any] = {
        "tokens_per_hour": _whole(tokens_per_hour, "--tokens-per-hour"),
        "tokens_per_day": _whole(tokens_per_day, "--tokens-per-day"),
        "cost_per_day": _number(cost_per_day, "--cost-per-day"),
        "execution_seconds": _number(execution_seconds, "--execution-seconds"),
        "cpu": cpu or _LEFT_OUT,
        "memory": memory or _LEFT_OUT,
        "action": action or _LEFT_OUT,
    }
    said = {name: value for name, value in changes.items() if value is not _LEFT_OUT}
    if not said:
        raise typer.BadParameter("say which limit changes, such as --tokens-per-hour 200000")

    async def work(client: Client) -> None:
        outcome = await client.set_quota(agent_id, **said)
        print_done(outcome, f"{agent_id} {'has other limits' if outcome.events else 'has these limits'}", as_json)

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def list_questions(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List what persons are asked: for more of a limit, or whether a tool may be called."""

    async def work(client: Client) -> None:
        found = await _all_questions(client)
        print_result(
            found, as_json, lambda: print_table(_QUESTION_HEADINGS, map(_question_row, found), text="QUESTION")
        )

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def grant(
    question: QuestionId,
    amount: Annotated[
        float | None,
        typer.Option(metavar="N", help="Raise the limit by so many tokens, or USD. Default: what is lacking."),
    ] = None,
    always: Annotated[
        bool, typer.Option("--always", help="Raise a budget for always, not only until it is reset.")
    ] = False,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Is kept with the answer about a tool.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Say yes: a tool may be called, or a limit is raised. Who said so is on record."""

    async def work(client: Client) -> None:
        outcome = await client.grant(question, amount, how_long="always" if always else "window", reason=reason)
        print_done(outcome, f"{question} is granted", as_json)

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def deny(
    question: QuestionId,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="The agent is told.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Say no: the call fails, and the agent is told. Who said so is on record."""

    async def work(client: Client) -> None:
        outcome = await client.deny(question, reason)
        print_done(outcome, f"{question} is denied", as_json)

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def usage(
    by: Annotated[By, typer.Option(help="What it is summed up by.")] = By.agent,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="A time, or a duration such as 2h or 1d: from that hour on.")
    ] = None,
    agent_id: Annotated[str | None, typer.Option("--id", metavar="ID", help="Only of this agent.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what models have used, and what that cost."""
    begin = point_in_log(since)
    if isinstance(begin, int):
        raise typer.BadParameter(f"{since!r} is none of: a time (2026-01-31T12:00:00Z), a duration (1d)")

    async def work(client: Client) -> None:
        found = await _all_usage(client, by.value, begin, agent_id)
        headings = (by.value.upper(), *_USAGE_HEADINGS)
        print_result(found, as_json, lambda: print_table(headings, map(_usage_row, found), text=headings[0]))

    run_with_client(work, data_dir=data_dir, as_json=as_json)


_LEFT_OUT: Any = object()


def _number(words: str | None, option: str) -> Any:
    if words is None:
        return _LEFT_OUT
    try:
        return None if words == "none" else float(words)
    except ValueError as error:
        raise typer.BadParameter(f"{words!r} is none of: a number, none", param_hint=option) from error


def _whole(words: str | None, option: str) -> Any:
    if words is None or words == "none":
        return _number(words, option)
    try:
        return int(words)
    except ValueError as error:
        raise typer.BadParameter(f"{words!r} is none of: a whole number, none", param_hint=option) from error


async def _all_questions(client: Client) -> list[QuestionView]:
    return await all_pages(lambda size, after: client.questions(limit=size, after=after), lambda view: view.agent_id)


async def _all_usage(client: Client, by: Any, since: datetime | None, agent_id: str | None) -> list[Usage]:
    return await all_pages(
        lambda size, after: client.usage(by, since=since, id=agent_id, limit=size, after=after), lambda view: view.name
    )


def _question_row(view: QuestionView) -> tuple[str, ...]:
    return (view.id, view.kind, view.what, _needed(view), f"{view.since:%Y-%m-%d %H:%M:%S}")


def _needed(view: QuestionView) -> str:
    import msgspec

    if view.kind == "budget":
        return f"{view.needed['tokens']} tokens, {view.needed['cost_usd']:.6f} USD"
    return "-" if view.needed is None else msgspec.json.encode(view.needed).decode()


def _usage_row(view: Usage) -> tuple[str, ...]:
    counts = (view.input_tokens, view.cached_tokens, view.output_tokens, view.reasoning_tokens)
    return (view.name or "-", *map(str, counts), f"{view.cost_usd:.6f}", str(view.calls))
