"""`l02 dead`: the messages that could not be handled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from l02.cli.options import AsJson, DataDir, group
from l02.cli.running import run_with_client
from l02.cli.terminal.output import print_json, print_line, print_pairs, print_result, print_table

if TYPE_CHECKING:
    from l02.bus.commands.dead_letters import DeadLetter
    from l02.client.client import Client

Number = Annotated[int, typer.Argument(metavar="NUMBER", min=1, help="As `l02 dead list` has it.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    dead = group(app, "dead", "List, show and retry the messages that could not be handled.", "l02 dead list")
    dead.command("list", epilog="Example: l02 dead list --json")(list_letters)
    dead.command("show", epilog="Example: l02 dead show 3")(show_letter)
    dead.command("retry", epilog="Example: l02 dead retry 3")(retry_letter)


def list_letters(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List what could not be handled, oldest first. With --json, one document a line."""

    async def work(client: Client) -> None:
        if as_json:
            async for letter in client.dead_letters():
                print_json(_fields(letter))
            return
        letters = [letter async for letter in client.dead_letters()]
        headings = ("NUMBER", "TIME", "CONSUMER", "SUBJECT", "CODE", "REASON")
        print_table(headings, (_row(letter) for letter in letters))

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def show_letter(number: Number, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show one of them: where it was meant to go, what it says, and why it is here."""

    async def work(client: Client) -> None:
        letter = await client.dead_letter(number)
        print_result(_fields(letter), as_json, lambda: print_pairs(_pairs(letter)))

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def retry_letter(number: Number, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Give one of them again to who could not handle it, and take it off the list.

    A command is sent again. An event is on record already, so its handler is asked to handle it once more: the node
    has to run. If that fails, the letter stays.
    """

    async def work(client: Client) -> None:
        letter = await client.retry_dead_letter(number)
        if as_json:
            print_json({"sequence": letter.sequence, "subject": letter.subject})
        elif letter.is_event:
            print_line(f"{letter.sequence} was handled: event {letter.origin}, by {letter.consumer}")
        else:
            print_line(f"{letter.sequence} was sent to {letter.subject}")

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def _fields(letter: DeadLetter) -> dict[str, Any]:
    """The letter, with its body as text too where it is text."""
    import msgspec

    fields: dict[str, Any] = msgspec.to_builtins(letter)
    try:
        fields["text"] = letter.body.decode()
    except UnicodeDecodeError:
        fields["text"] = None
    return fields


def _row(letter: DeadLetter) -> tuple[str, ...]:
    time = f"{letter.time:%Y-%m-%d %H:%M:%S}"
    return (str(letter.sequence), time, letter.consumer, letter.subject, letter.code, letter.reason)


def _pairs(letter: DeadLetter) -> list[tuple[str, str]]:
    return [
        ("number", str(letter.sequence)),
        ("time", f"{letter.time:%Y-%m-%d %H:%M:%S} UTC"),
        ("consumer", f"{letter.consumer}, after {letter.deliveries} deliveries"),
        ("subject", letter.subject),
        ("origin", f"message {letter.origin} of its stream" if letter.origin else "-"),
        ("headers", "\n".join(f"{name}: {value}" for name, value in letter.headers.items()) or "-"),
        ("reason", f"{letter.code}: {letter.reason}"),
        ("body", letter.body.decode(errors="backslashreplace")),
    ]
