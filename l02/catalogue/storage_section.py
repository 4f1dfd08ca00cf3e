"""The part of `docs/events.md` on what is kept where: streamed output, dead letters, timers, streams and buckets."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from l02.bus.commands.dead_letters import DeadLetter
from l02.bus.connection.streams import (
    CHECKPOINTS_BUCKET,
    COMMANDS_STREAM,
    DEAD_STREAM,
    EVENTS_STREAM,
    HOT_BUCKET,
    LEASES_STREAM,
    OBJECTS_BUCKET,
    OUTCOMES_STREAM,
    TIMERS_STREAM,
    TOKENS_STREAM,
    VIEWS_BUCKET,
    stream_configs,
)
from l02.bus.wire.subjects import (
    PARTITIONS_BUCKET,
    AggregateId,
    dead_subject,
    due_subject,
    retry_subject,
    stream_subject,
    timer_subject,
)
from l02.catalogue.markdown import table
from l02.catalogue.schemas import SCHEMAS, name_of, reference_to
from l02.catalogue.words import fields_words, type_words
from l02.domain.agent.life.restarts import RestartDue
from l02.domain.agent.resources import LiveUsage
from l02.domain.agent.saved.checkpoints import ExpireCheckpoints
from l02.domain.agent.work.executions import ExecutionDue
from l02.projections.views.projector import LIVE_VIEWS

_HOUR = 3600 * 1_000_000_000
_PURPOSES = {
    EVENTS_STREAM: "every event, for ever; nothing can be deleted or purged",
    COMMANDS_STREAM: "commands, handled or not yet; nothing in it can be taken away before its time",
    TIMERS_STREAM: "timers, which wait for as long as they must, and what is due of them",
    OUTCOMES_STREAM: "the outcome of each command",
    TOKENS_STREAM: "streamed output",
    DEAD_STREAM: "what could not be handled, with the reason",
    LEASES_STREAM: "the bucket `l02_leases`: a key for each node that is alive; the server takes it out 3 s after the "
    "node last renewed it",
}


def storage() -> list[str]:
    """The sections, in order."""
    return [
        "## Streamed output",
        _streamed_output(),
        "## Dead letters",
        _dead_letters(),
        "## Timers",
        _timers(),
        "## Streams and buckets",
        _streams(),
    ]


def _streamed_output() -> str:
    subject = stream_subject("<agent_id>", "<execution_id>")
    return f"""\
On `{subject}`, as the agent says it: `{{"n": 0, "delta": "text"}}`, then n = 1, 2, 3 …,
at the end `{{"n": …, "done": true}}`. `{{"n": …, "void_from": m}}` says that the pieces from number m on do not count:
a model's answer broke off, and is asked for again. The execution's id is the command's. The pieces are in
`{TOKENS_STREAM}` for ten minutes, so a late subscriber can start at any `n`. Tell them apart by `n`: an execution that
runs again after a crash may say a piece again. They are for eyes; the record is the
`output` of `agent.execution.completed`."""


def _dead_letters() -> str:
    fields = fields_words(SCHEMAS[name_of(DeadLetter)])
    return f"""\
A message that cannot be read, or whose handling keeps failing, is kept on `{dead_subject("<consumer>")}` with the
reason, and holds nothing up. `l02 dead list`, `show` and `retry` work on them. `retry` publishes a command again where
it was meant to go and takes it off the list, unless it is `truncated`: of a very large one only the beginning is kept.

An event is on record already, and published again it would be another one. So `retry` asks the handler that failed on
it, on `{retry_subject("<consumer>")}` with the event's sequence, to handle it once more (an empty answer: done). The
letter stays if that fails, or if no node that runs has this handler. That of a node that is gone for good may be left
to its 30 days: whoever takes over its agents looks at their events, not at letters.

Its fields: {fields}."""


def _timers() -> str:
    agent = AggregateId("agent", "<id>")
    rows = [
        (
            f"`{timer_subject(agent, RestartDue.verb)}`",
            f"`{due_subject(agent, RestartDue.verb)}`",
            "the delay before a process that ended by itself is started again (`agent.restarted`)",
        ),
        (
            f"`{timer_subject(agent, f'{ExecutionDue.verb}.<execution_id>')}`",
            f"`{due_subject(agent, ExecutionDue.verb)}`",
            "work that must have ended by then (`resource_limits.execution_seconds`) fails, E2006",
        ),
        (
            f"`{timer_subject(agent, ExpireCheckpoints.verb)}`",
            f"`{due_subject(agent, ExpireCheckpoints.verb)}`",
            "checkpoints that are older than they are kept",
        ),
    ]
    return (
        "A timer is a command with a delay: a scheduled message (`Nats-Schedule`) that the server publishes as a "
        "command on `l02.due.…` when it is due, to the second, though every process of the runtime be down. "
        "Setting it again replaces it, purging its subject cancels it.\n\n"
        + table(("waits on", "becomes", "what for"), rows)
        + "\n\nA timer fires at its second or later, never before; many that are due together take their time. Killed "
        "just then, the server may publish one twice, with the same command id, so the second is known. Cancelling "
        "may come too late. Therefore a command that a timer sends names what it is about (a restart its `attempt`, "
        "work its `deadline`), and is ignored when that is over. The event that makes a timer necessary is the record "
        "of it: the handler that sees the event sets the timer, again after a crash. That of a deadline is set before "
        "its event is stored.\n\n"
        "What timers send is taken from `l02.due` only; on `l02.cmd` and by the service it is E2110. Only the runtime "
        "publishes on `l02.timer` and `l02.due`. NATS accounts have to see to that: a stream with schedules allows "
        "roll-ups and purging, so a client that may publish there can take timers away, set others, or say that one is "
        f"due. `{COMMANDS_STREAM}` takes no schedules, roll-ups, lifetimes or atomic batches, and cannot be purged."
    )


def _streams() -> str:
    rows = [
        (
            f"`{config['name']}`",
            ", ".join(f"`{subject}`" for subject in config["subjects"]),
            _kept(config),
            _PURPOSES[config["name"]],
        )
        for config in stream_configs(replicas=1)
    ]
    keys = ", ".join(f"`{kind}.<id>` ({_type(fold.view)})" for kind, fold in LIVE_VIEWS.items())
    views = (
        f"the live views, each the whole current state with the stream `sequence` it reflects: {keys}. "
        f"`nats kv watch {VIEWS_BUCKET} 'agent.*'` is a subscription. Beside them, while an agent has a process, "
        f"`usage.<id>` ({_type(LiveUsage)}): what it takes now, which no event says and no replay makes"
    )
    buckets = [
        (f"`{VIEWS_BUCKET}`", "key-value", views),
        (f"`{OBJECTS_BUCKET}`", "object store", "values too large for an event, under their hash"),
        (f"`{CHECKPOINTS_BUCKET}`", "object store", "checkpoints, if `L02_CHECKPOINT_STORAGE` is `objects`"),
        (f"`{HOT_BUCKET}`", "key-value", "the newest state of running agents by their ids, in memory; a copy"),
        (
            f"`{PARTITIONS_BUCKET}`",
            "key-value",
            "who works on which partition of the commands, and how far it is",
        ),
    ]
    return f"""\
{table(("stream", "subjects", "kept", "what is in it"), rows)}

{table(("bucket", "kind", "what is in it"), buckets)}"""


def _type(kind: type[Struct]) -> str:
    return type_words(reference_to(kind))


def _kept(config: dict[str, Any]) -> str:
    age = config.get("max_age")
    if age is None:
        time = "for ever"
    elif age >= 48 * _HOUR:
        time = f"{age // (24 * _HOUR)} days"
    else:
        time = f"{age * 60 // _HOUR} minutes"
    return f"{time}, in memory" if config["storage"] == "memory" else time
