"""The part of `docs/events.md` for those who send: commands, their outcomes, requests and queries."""

from __future__ import annotations

from msgspec import Struct
from nats.micro.request import ERROR_CODE_HEADER, ERROR_HEADER

from l02.bus.commands.outcomes import COMMAND_SEQUENCE_HEADER, Outcome
from l02.bus.commands.service import SERVICE_NAME, Answer
from l02.bus.connection.streams import COMMANDS_STREAM, stream_config
from l02.bus.wire.incoming import ACTOR_HEADER, COMMAND_ID_HEADER, MAX_COMMAND_BYTES
from l02.bus.wire.subjects import (
    API,
    AggregateId,
    command_subject,
    event_subject,
    outcome_subject,
    owner_subject,
    refusal_subject,
)
from l02.catalogue import examples
from l02.catalogue.markdown import code_block, table
from l02.catalogue.schemas import RESULTS, SCHEMAS, name_of
from l02.catalogue.words import fields_words, type_words
from l02.domain.agent.life.restarts import AgentFailed
from l02.domain.agent.life.resuming import Resume
from l02.domain.agent.life.spawning import AgentSpawned, Spawn, SpawnFailed
from l02.domain.agent.life.termination import AgentTerminated, Terminate
from l02.domain.agent.saved.checkpoints import Checkpoint, CheckpointCreated, CheckpointFailed
from l02.domain.agent.saved.forks import Fork
from l02.domain.agent.saved.restoring import CheckpointRestored, Restore, RestoreFailed
from l02.domain.agent.work.executions import Execute, ExecutionCompleted, ExecutionFailed
from l02.domain.aggregates import AGGREGATES
from l02.domain.kernel.message import Event, WireCommand
from l02.node.queries import QUERY_FIELDS

COMMANDS_AND_QUERIES: tuple[type[Struct], ...] = (Outcome, Answer)
COMPLETED_BY: dict[type[WireCommand], tuple[type[Event], ...]] = {
    Spawn: (AgentSpawned, SpawnFailed, AgentFailed),
    Execute: (ExecutionCompleted, ExecutionFailed),
    Terminate: (AgentTerminated,),
    Checkpoint: (CheckpointCreated, CheckpointFailed),
    Restore: (CheckpointRestored, RestoreFailed),
    Resume: (CheckpointRestored, RestoreFailed, ExecutionCompleted, ExecutionFailed),
    Fork: (AgentSpawned, SpawnFailed, AgentFailed),
}
_AGENT = AggregateId("agent", "<id>")
_ENVELOPE_OF_COMMANDS = ("wait", "expected_version")

_HEADERS = (
    (
        f"`{COMMAND_ID_HEADER}`?",
        "the command's id; made up if absent. Sending a command again under its id is harmless for as long as the "
        "aggregate is known. It belongs to one body, verb and address: anything else under it is E2110 (see Outcomes)",
    ),
    (f"`{ACTOR_HEADER}`?", "who asks; it stands in the events"),
    (
        "`traceparent`?",
        "W3C trace context; it stands in all events that go back to the command; not one, it is dropped",
    ),
)


def commands_and_queries() -> list[str]:
    """The sections, in order."""
    return ["## Commands", _commands(), "## Outcomes", _outcomes(), "## Requests and queries", _requests()]


def _commands() -> str:
    subject = command_subject(AggregateId("<aggregate>", "<id>"), "<verb>")
    text = f"""\
A command is a JSON object of at most {MAX_COMMAND_BYTES // 1024**2} MiB, published on `{subject}`. It is stored before
anything happens: once JetStream has acknowledged it, it will be handled, whatever dies. Commands to one aggregate are
handled in the order in which they were stored.

{table(("header", "meaning"), _HEADERS)}

Each body may have, beside its own fields, `wait` = `"complete"` or `"accepted"`: whether the outcome is wanted when the
effect is complete or when it is decided; and `expected_version`: the aggregate's version that the command was decided
upon, E2113 if it has changed. An unknown field is E2110.

All paths in a specification are absolute, and of the node's machine; else it is refused. The command line makes those
of a file absolute."""
    return "\n\n".join([text, *(_verbs(kind) for kind, aggregate in AGGREGATES.items() if aggregate.wire_commands)])


def _verbs(kind: str) -> str:
    rows = [
        (f"`{verb}`", _description(command), _own_fields(command), _when(command))
        for verb, command in AGGREGATES[kind].wire_commands.items()
    ]
    subject = command_subject(AggregateId(kind, "<id>"), "<verb>")
    headings = ("verb", "what it asks", "body", "the outcome comes")
    return f"### Commands to `{subject}`\n\n{table(headings, rows)}"


def _own_fields(command: type[WireCommand]) -> str:
    schema = SCHEMAS[name_of(command)]
    own = {name: field for name, field in schema["properties"].items() if name not in _ENVELOPE_OF_COMMANDS}
    return fields_words(schema | {"properties": own})


def _window_seconds() -> float:
    return float(stream_config(COMMANDS_STREAM, 1)["duplicate_window"] / 1e9)


def _when(command: type[WireCommand]) -> str:
    ends = COMPLETED_BY.get(command)
    if ends:
        events = " or ".join(f"`{event.type}`" for event in ends)
        return f"with {events}; at the decision if there is nothing to wait for"
    return "at the decision"


def _outcomes() -> str:
    return f"""\
The outcome of a command is published once on `{outcome_subject("<command_id>")}` and kept for an hour. Subscribe
before sending, or read the last message of the subject later. Waiting for an outcome holds up no other command.

An id belongs to the first command that came under it: at its aggregate for ever, anywhere else for an hour. Whoever
sends another command under it hears E2110 on that subject too, where it is not kept, and finds it on
`{refusal_subject("<command_id>", "<sequence>")}`, where it is. So who shares ids with others compares the header
`{COMMAND_SEQUENCE_HEADER}`, where it is not 0, with the stream sequence in JetStream's acknowledgement of the command.
`{owner_subject("<command_id>")}` says whose an id is.

An id may say so itself, and then belongs to its command everywhere and for ever, and costs a write less: `l02-<n>-<h>`,
where `n` are 16 hex digits of your choice, and `h` the first 32 of the SHA-256 of the address
`<aggregate>/<id>/<verb>`, a line feed and the body. What has another hash is E2110, unless it says the same and was
decided. Our client and the service make such ids for commands that are given none.

Whatever comes under an id again within {_window_seconds()} s the server itself drops, whatever it says. Its
acknowledgement then has `"duplicate": true` and the sequence of the first: if that is the same command, its outcome
is yours; if not, yours has been refused. Our client and the service answer E2110 then.

`ok`: done. `subject` and `version` say which aggregate and its version after it, `events` what it led to. `result`
holds for `spawn` and `fork` `agent_id`, `session_id`, `node_id`, `sandbox_type`, `spawn_seconds`; for `execute`
`execution_id`, `output` (by reference if larger than 1 MiB), and with `"wait": "accepted"` the `execution_id` alone;
for `terminate` `reason`, `resource_usage`, `duration_seconds`; for `checkpoint` the `checkpoint_id` and, if it is new,
its `label`, `size_bytes`, `compressed_bytes`, `sha256`; for `suspend`, `restore` and `resume` the `checkpoint_id`, if
there is one; for `restore` and `resume` from a checkpoint `restore_seconds`; for `resume` with `assume` as for
`execute`; for the others nothing.

{code_block(examples.completed_outcome())}

With `"wait": "accepted"` an execution's output comes later, with `{event_subject(_AGENT, ExecutionCompleted.type)}`
or `{event_subject(_AGENT, ExecutionFailed.type)}`, whose `execution_id` is that of the outcome, and of the
command. Who was not there reads it from the log, with `{API}.events.read` for example:
`{{"id": …, "type": "{ExecutionCompleted.type}"}}`.

Not `ok`: `error` has one of the [codes](errors.md), `path` if one field is to blame, and beside E2005
`detail {{code, name}}` if the agent has a code of its own for its failure.

{code_block(examples.refused_outcome())}

{code_block(examples.unreadable_outcome())}"""


def _requests() -> str:
    served = [f"`{API}.{kind}.{verb}`" for kind in AGGREGATES for verb in AGGREGATES[kind].wire_commands]
    rows = [
        (f"`{API}.{name}`", _description(fields), fields_words(SCHEMAS[name_of(fields)]), _result(name))
        for name, fields in QUERY_FIELDS.items()
    ]
    return f"""\
The NATS micro service `{SERVICE_NAME}` answers requests (`nats micro info {SERVICE_NAME}`).

**Commands**: {", ".join(served)}. The request is the command's body with the `id` of the aggregate and, if it shall be
safe to send again, a `command_id`. It is stored like any other command; the reply is its outcome, so give the request
as much time as the effect may take.

Only inboxes are answered: reply subjects below `_INBOX.`, as any client's are unless it was told otherwise (and below
`_R_.`, which the server makes for clients of another account). Of a failure the headers `{ERROR_HEADER}` and
`{ERROR_CODE_HEADER}` say the text and the code.

**Queries** are answered by `{{"ok": true, "result": …}}` or `{{"ok": false, "error": {{"code", "name", "message"}}}}`:

{table(("subject", "what it asks", "request", "result"), rows)}"""


def _result(query: str) -> str:
    schema = RESULTS[query]
    explanation = schema.get("description")
    return type_words(schema) + (f". {explanation}" if explanation else "")


def _description(kind: type[Struct]) -> str:
    return str(SCHEMAS[name_of(kind)]["description"])
