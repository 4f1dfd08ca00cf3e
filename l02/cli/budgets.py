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
_LIMITS = {
    "tokens_per_hour": "tokens per hour",
    "tokens_per_day": "tokens per day",
    "cost_per_day": "USD per day",
    "cost_total": "USD in all",
}
BudgetId = Annotated[str, typer.Argument(metavar="ID", help="The budget's id.", show_default=False)]
MoreTokens = Annotated[int, typer.Option(metavar="N", min=0, help="So many tokens more.", show_default=False)]
MoreUsd = Annotated[float, typer.Option(metavar="USD", min=0, help="So much more.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    budget = group(
        app,
        "budget",
        "Say, show and list what groups of agents may spend.",
        "l02 budget configure team-a --cost-per-day 20",
    )
    budget.command(epilog="Example: l02 budget configure team-a --cost-per-day 20 --parent research")(configure)
    budget.command("raise", epilog="Example: l02 budget raise team-a --cost-per-day 5")(raise_limits)
    budget.command(epilog="Example: l02 budget deny team-a")(deny)
    budget.command(epilog="Example: l02 budget reset team-a --limit tokens_per_hour")(reset)
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


def raise_limits(
    budget_id: BudgetId,
    tokens_per_hour: MoreTokens = 0,
    tokens_per_day: MoreTokens = 0,
    cost_per_day: MoreUsd = 0.0,
    cost_total: MoreUsd = 0.0,
    always: Annotated[bool, typer.Option("--always", help="Until it is configured anew, not only for now.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Add to a budget's limits until they are reset. Who waits for it goes on."""

    async def work(client: Client) -> None:
        outcome = await client.raise_budget(
            budget_id,
            tokens_per_hour=tokens_per_hour,
            tokens_per_day=tokens_per_day,
            cost_per_day=cost_per_day,
            cost_total=cost_total,
            always=always,
        )
        print_done(outcome, f"budget {budget_id} is {'raised' if outcome.events else 'as it was'}", as_json)

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def deny(budget_id: BudgetId, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Say no to all who ask for more of a budget, until it is raised, reset or configured anew."""

    async def work(client: Client) -> None:
        outcome = await client.deny_budget(budget_id)
        line = f"no more of budget {budget_id}" if outcome.events else f"budget {budget_id} is as it was"
        print_done(outcome, line, as_json)

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def reset(
    budget_id: BudgetId,
    limit: Annotated[list[str] | None, typer.Option(metavar="LIMIT", help="Only this one; may be repeated.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Begin anew with what a budget's limits allow, now."""

    async def work(client: Client) -> None:
        outcome = await client.reset_budget(budget_id, limits=limit)
        print_done(outcome, f"budget {budget_id} {'begins anew' if outcome.events else 'is as it was'}", as_json)

    run_with_client(work, data_dir=data_dir, as_json=as_json)


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
    return (view.id, view.parent or "-", *(_used(view, limit) for limit in _LIMITS), view.action.value)


def _used(view: BudgetView, limit: str) -> str:
    """What is spent of what a limit allows."""
    amount = getattr(view.limits, limit)
    if amount is None:
        return "-"
    found = next((item for name, item in view.spent.items() if name == limit), None)
    if found is None or found.amount is None or not found.used:
        return _amount(limit, amount)
    return f"{_amount(limit, found.used)}/{_amount(limit, found.amount)}"


def _amount(limit: str, amount: float) -> str:
    """Tokens, or USD with at least cents and at most millionths."""
    if limit.startswith("tokens"):
        return str(amount)
    whole, _, rest = f"{amount:.6f}".partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')}"


def _pairs(view: BudgetView) -> list[tuple[str, str]]:
    return [
        ("id", view.id),
        ("part of", view.parent or "-"),
        *((words, _limit_line(view, limit)) for limit, words in _LIMITS.items()),
        ("at the limit", f"{view.action.value}{' (denied)' if view.denied else ''}"),
        ("warns at", ", ".join(f"{part:g}" for part in view.warn_at) or "-"),
        ("lent to", ", ".join(sorted({lent.holder for lent in view.slices.values()})) or "-"),
        ("since", f"{view.created_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("last changed", f"{view.updated_at:%Y-%m-%d %H:%M:%S} UTC"),
    ]


def _limit_line(view: BudgetView, limit: str) -> str:
    found = next((item for name, item in view.spent.items() if name == limit), None)
    if found is None or found.amount is None or found.left is None:
        return "-"
    said = {"left": found.left, "used": found.used, "reserved": found.reserved}
    parts = [_amount(limit, found.amount), *(f"{_amount(limit, amount)} {word}" for word, amount in said.items())]
    if found.reset_at is not None:
        parts.append(f"reset at {found.reset_at:%Y-%m-%d %H:%M:%S} UTC")
    return ", ".join(parts) if found.used or found.reserved else parts[0]
