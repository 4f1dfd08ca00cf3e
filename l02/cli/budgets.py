"""`l02 budget`: what groups of agents may spend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from l02.cli.options import AsJson, DataDir, group
from l02.cli.running import run_with_client
from l02.cli.terminal.output import print_done, print_pairs, print_result, print_table
from l02.cli.terminal.paging import all_pages

if TYPE_CHECKING:
    from l02.client.client import Client
    from l02.projections.folds.budgets import BudgetView

_HEADINGS = ("BUDGET", "PARENT", "TOKENS/HOUR", "TOKENS/DAY", "USD/DAY", "USD IN ALL", "ACTION")
BudgetId = Annotated[str, typer.Argument(metavar="ID", help="The budget's id.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    budget = group(
        app,
        "budget",
        "Say, show and list what groups of agents may spend.",
        "l02 budget configure team-a --cost-per-day 20",
    )
    budget.command(epilog="Example: l02 budget configure team-a --cost-per-day 20 --parent research")(configure)
    budget.command(epilog="Example: l02 budget show team-a --json")(show)
    budget.command("list", epilog="Example: l02 budget list --parent research")(list_budgets)


def configure(
    budget_id: BudgetId,
    tokens_per_hour: Annotated[int | None, typer.Option(metavar="N", help="At most these tokens in an hour.")] = None,
    tokens_per_day: Annotated[int | None, typer.Option(metavar="N", help="At most these tokens in a day.")] = None,
    cost_per_day: Annotated[float | None, typer.Option(metavar="USD", help="At most this cost in a day.")] = None,
    cost_total: Annotated[float | None, typer.Option(metavar="USD", help="At most this cost ever.")] = None,
    parent: Annotated[str | None, typer.Option(metavar="ID", help="The budget that this is a part of.")] = None,
    action: Annotated[
        str, typer.Option(metavar="ACTION", help="At a limit: warn, refuse, throttle, suspend, ask or terminate.")
    ] = "suspend",
    warn_at: Annotated[
        str, typer.Option(metavar="PARTS", help="Warn when these parts of a limit are spent, or `none`.")
    ] = "0.8,0.9",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a budget, or say anew all that one allows.

    A limit that is left out does not limit, whatever was said before; 0 allows nothing.
    """
    thresholds = _thresholds(warn_at)

    async def work(client: Client) -> None:
        outcome = await client.configure_budget(
            budget_id,
            tokens_per_hour=tokens_per_hour,
            tokens_per_day=tokens_per_day,
            cost_per_day=cost_per_day,
            cost_total=cost_total,
            parent=parent,
            action=action,
            warn_at=thresholds,
        )
        print_done(outcome, f"budget {budget_id} is {'configured' if outcome.events else 'as it was'}", as_json)

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def _thresholds(words: str) -> list[float]:
    try:
        return [] if words == "none" else [float(word) for word in words.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"{words!r} is none of: numbers (0.8,0.9), none", param_hint="--warn-at") from error


def show(budget_id: BudgetId, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show all that is known about a budget."""

    async def work(client: Client) -> None:
        budget = await client.budget(budget_id)
        print_result(budget, as_json, lambda: print_pairs(_pairs(budget)))

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def list_budgets(
    parent: Annotated[str | None, typer.Option(metavar="ID", help="Only the parts of this one.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List the budgets."""

    async def work(client: Client) -> None:
        found = await all_pages(
            lambda size, after: client.budgets(parent, limit=size, after=after), lambda view: view.id
        )
        print_result(found, as_json, lambda: print_table(_HEADINGS, map(_row, found), text="PARENT"))

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def _row(view: BudgetView) -> tuple[str, ...]:
    return (view.id, view.parent or "-", *_limits(view), view.action.value)


def _limits(view: BudgetView) -> tuple[str, ...]:
    limits = view.limits
    tokens = ("-" if number is None else str(number) for number in (limits.tokens_per_hour, limits.tokens_per_day))
    costs = ("-" if number is None else _usd(number) for number in (limits.cost_per_day, limits.cost_total))
    return (*tokens, *costs)


def _usd(amount: float) -> str:
    """At least cents, at most millionths."""
    whole, _, rest = f"{amount:.6f}".partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')}"


def _pairs(view: BudgetView) -> list[tuple[str, str]]:
    names = ("tokens per hour", "tokens per day", "USD per day", "USD in all")
    pairs = [
        ("id", view.id),
        ("part of", view.parent or "-"),
        *zip(names, _limits(view), strict=True),
        ("at the limit", view.action.value),
        ("warns at", ", ".join(f"{part:g}" for part in view.warn_at) or "-"),
        ("since", f"{view.created_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("last said", f"{view.updated_at:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    return pairs
