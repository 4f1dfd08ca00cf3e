"""A bus of before, whose one stream held commands and timers, is given the two of today, once, and loses nothing.

A stream that takes schedules cannot stop doing so, nor can it be renamed. So the old one is copied as it is into
`L02_COMMANDS_BEFORE`, which is kept, and made anew behind its last sequence, so that the positions in the partitions
stay true. What had not been handled is stored again while nobody else can store anything, and timers are set again.

Each step looks at what is there first, so all of them may be taken again, whichever the last attempt came to, and are
while a cluster chooses a leader.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError

from l02.bus.background.backoff import outlasting
from l02.bus.commands.dead_letters import headers_to_send, park
from l02.bus.commands.outcomes import failed, publish_outcome, said_outcome
from l02.bus.commands.partitions import COMMAND_PARTITIONS, command_partition, stored_position
from l02.bus.commands.processor import CONSUMER, id_of
from l02.bus.connection.bus import Bus
from l02.bus.connection.leader import message_from_leader, standing_of
from l02.bus.connection.streams import COMMANDS_STREAM, StreamError, ensure_streams, stream_config
from l02.bus.jetstream.pull import delivery_of
from l02.bus.log.passing import is_passing
from l02.bus.log.reader import read_stream
from l02.bus.wire.incoming import COMMAND_ID_HEADER, TIMER_COMMAND_ID_HEADER
from l02.bus.wire.subjects import COMMANDS, RESTORED, TIMERS, due_subject, parse_command_subject
from l02.domain.errors import ErrorCode, Failure

BEFORE_STREAM = "L02_COMMANDS_BEFORE"
_FROZEN_SUBJECT = BEFORE_STREAM.lower()
_LAST_SEQUENCE = "l02_last_sequence"
_NO_STREAM = 10059
_POLL_SECONDS = 0.05
_RETRY_SECONDS = 0.2
_COPY_SECONDS = 600.0
_PROGRESS_HEADER = "L02-Before"
_RENAMED = {"restart": "restart-due"}
_log = structlog.get_logger()

Step = Callable[[Bus, int], Awaitable[None]]


class MigrationRefused(Exception):
    """The streams cannot be migrated now; the message says what to do."""


async def migrate_streams(bus: Bus, replicas: int, others: Callable[[], Awaitable[Collection[str]]]) -> None:
    """Migrate if that is needed. Raises StreamError, and MigrationRefused while there are `others`: nodes that live."""
    commands = await _info(bus, COMMANDS_STREAM)
    if not (_is_old(commands) or _is_hidden(commands) or (commands is None and await _info(bus, BEFORE_STREAM))):
        return
    if living := await others():
        raise MigrationRefused(
            f"the streams are of a version before and have to be migrated, but {', '.join(sorted(living))} runs on "
            "them; stop all nodes, start one of this version, and the others when it is ready"
        )
    _log.warning("streams of a version before are migrated", kept_as=BEFORE_STREAM)
    for step in STEPS:
        await _take(step, bus, replicas)
    _log.warning("streams are migrated")


async def _take(step: Step, bus: Bus, replicas: int) -> None:
    def passes(error: Exception) -> bool:
        return is_passing(error) and not bus.client.is_closed

    await outlasting(
        lambda: step(bus, replicas), passes, f"JetStream to migrate: {step.__name__}", longest=_RETRY_SECONDS
    )


def _is_old(info: dict[str, Any] | None) -> bool:
    return info is not None and bool(info["config"].get("allow_msg_schedules"))


def _is_hidden(info: dict[str, Any] | None) -> bool:
    return info is not None and info["config"]["subjects"] == [f"{RESTORED}.>"]


async def _freeze(bus: Bus, replicas: int) -> None:
    """From here on nobody's command is acknowledged until the new stream is there, and no node of before starts."""
    info = await _info(bus, COMMANDS_STREAM)
    if info is not None and _is_old(info):
        await _ask(bus, f"STREAM.UPDATE.{COMMANDS_STREAM}", info["config"] | {"subjects": [_FROZEN_SUBJECT]})


async def _make_others(bus: Bus, replicas: int) -> None:
    """The stream of timers, and what a node has not come to make that was killed in its first start."""
    await ensure_streams(bus, replicas, but=COMMANDS_STREAM)


async def _copy(bus: Bus, replicas: int) -> None:
    if not _is_old(await _info(bus, COMMANDS_STREAM)):
        return
    copy = await _info(bus, BEFORE_STREAM)
    if copy is not None and "mirror" not in copy["config"]:  # timers may have fired since, or it is of another attempt
        await _delete(bus, BEFORE_STREAM)
        copy = None
    if copy is None:
        await _ask(bus, f"STREAM.CREATE.{BEFORE_STREAM}", _before(replicas) | {"mirror": {"name": COMMANDS_STREAM}})
    # What the server was about to store when the stream was frozen is acknowledged; it is all before this.
    last = (await bus.publish(_FROZEN_SUBJECT, b"")).seq
    deadline = asyncio.get_running_loop().time() + _COPY_SECONDS
    while (await standing_of(bus, BEFORE_STREAM)).last_sequence < last:
        if asyncio.get_running_loop().time() > deadline:
            raise MigrationRefused(f"{COMMANDS_STREAM} is not copied after {_COPY_SECONDS:g} s; is the disk full?")
        await asyncio.sleep(_POLL_SECONDS)


def _before(replicas: int) -> dict[str, Any]:
    return {
        "name": BEFORE_STREAM,
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "discard": "old",
        "allow_direct": True,
        "deny_delete": True,
    }


async def _detach(bus: Bus, replicas: int) -> None:
    """The copy stays when the stream it is of goes."""
    info = await _info(bus, COMMANDS_STREAM)
    if info is not None and _is_old(info):
        metadata = {_LAST_SEQUENCE: str(info["state"]["last_seq"])}
        await _ask(bus, f"STREAM.UPDATE.{BEFORE_STREAM}", _before(replicas) | {"metadata": metadata})


async def _delete_old(bus: Bus, replicas: int) -> None:
    if _is_old(await _info(bus, COMMANDS_STREAM)):
        await _delete(bus, COMMANDS_STREAM)


async def _make_hidden(bus: Bus, replicas: int) -> None:
    """The new stream, where only this can store for now: what comes next must not overtake what was there before.

    Its transform makes commands of what is stored, and stays for good (see `stream_configs`).
    """
    copy = await _info(bus, BEFORE_STREAM)
    if copy is None or await _info(bus, COMMANDS_STREAM) is not None:
        return
    hidden = {
        "subjects": [f"{RESTORED}.>"],
        "first_seq": int(copy["config"]["metadata"][_LAST_SEQUENCE]) + 1,
    }
    await _ask(bus, f"STREAM.CREATE.{COMMANDS_STREAM}", stream_config(COMMANDS_STREAM, replicas) | hidden)


async def _restore_commands(bus: Bus, replicas: int) -> None:
    if not _is_hidden(await _info(bus, COMMANDS_STREAM)):
        return
    positions = {name: await stored_position(bus, name) for name in COMMAND_PARTITIONS}
    last = await message_from_leader(bus, COMMANDS_STREAM, last_on=">")
    after = int(last.headers[_PROGRESS_HEADER]) if last is not None else 0
    async for message in _kept(bus, f"{COMMANDS}.>", after=min(positions.values())):
        sequence = delivery_of(message).stream_sequence
        address = parse_command_subject(message.subject)
        partition = command_partition(address.aggregate) if address else COMMAND_PARTITIONS[0]
        if sequence <= positions[partition]:
            continue
        if "Nats-Scheduler" in (message.headers or {}):
            await _restore_due(bus, message)
        elif sequence > after:
            await _restore_command(bus, message, sequence)


async def _restore_command(bus: Bus, message: Msg, sequence: int) -> None:
    headers = headers_to_send(message.headers or {}) | {_PROGRESS_HEADER: str(sequence)}
    command_id = _id_of(message)
    if command_id is not None:
        headers[COMMAND_ID_HEADER] = command_id
        said = await said_outcome(bus, command_id)
        if said is not None and said.outcome is not None and said.command_sequence == sequence:
            return  # the node had no time to note that it was done with it
    refusal = await _store_again(bus, RESTORED + message.subject.removeprefix(COMMANDS), message.data, headers)
    if isinstance(refusal, MaxPayloadError):
        failure = Failure(ErrorCode.PAYLOAD_TOO_LARGE, "the command is as large as a message; name files instead")
    elif refusal is not None:
        failure = Failure(ErrorCode.COMMAND_INVALID, f"the command cannot be stored again: {refusal}")
    else:
        return
    await park(bus, message, consumer=CONSUMER, code=failure.code.value, reason=failure.message)
    if command_id is not None:
        await publish_outcome(bus, failed(command_id, failure), sequence)


def _id_of(message: Msg) -> str | None:
    """None if what it gives is none; then it is refused when it is read."""
    try:
        return id_of(message)
    except Failure:
        return None


async def _store_again(bus: Bus, subject: str, body: bytes, headers: dict[str, str]) -> NatsError | None:
    """None when it is stored; else why the server does not take it, however often it is asked."""
    while True:
        try:
            ack = await bus.publish(subject, body, headers)
        except NatsError as error:
            if is_passing(error):
                raise
            _log.warning("a message is left where it was", subject=subject[:200], error=repr(error))
            return error
        if not ack.duplicate:
            return None
        await asyncio.sleep(_POLL_SECONDS)  # it comes sooner after the other one with its id than it did


async def _restore_due(bus: Bus, message: Msg) -> None:
    """One that had fired and was not handled. Doing it twice does no harm: its id is known."""
    target = _due(message.subject)
    if target is not None:
        await _store_again(bus, target, message.data, _headers_of_due(message))


async def _set_timers(bus: Bus, replicas: int) -> None:
    if not _is_hidden(await _info(bus, COMMANDS_STREAM)):
        return
    waiting: dict[str, Msg] = {}
    async for message in _kept(bus, ">"):
        headers = message.headers or {}
        waiting.pop(headers.get("Nats-Scheduler", ""), None)
        if message.subject.startswith(f"{TIMERS}."):
            waiting[message.subject] = message
    for subject, message in waiting.items():
        headers = message.headers or {}
        target = _due(headers.get("Nats-Schedule-Target", ""))
        schedule = headers.get("Nats-Schedule", "")
        if target is None or not schedule.startswith("@at "):
            _log.warning("a timer is left where it was: it is none of the runtime's", subject=subject[:200])
            continue
        start, _, name = subject.rpartition(".")
        schedule_headers = {"Nats-Schedule": schedule, "Nats-Schedule-Target": target, "Nats-TTL": "never"}
        timer = f"{start}.{_RENAMED.get(name, name)}"
        await _store_again(bus, timer, message.data, _headers_of_due(message) | schedule_headers)


def _due(subject: str) -> str | None:
    """Where a command that a timer sent, or was to send, is due today."""
    address = parse_command_subject(subject)
    return None if address is None else due_subject(address.aggregate, _RENAMED.get(address.verb, address.verb))


def _headers_of_due(message: Msg) -> dict[str, str]:
    headers = headers_to_send(message.headers or {})
    address = parse_command_subject((message.headers or {}).get("Nats-Schedule-Target", message.subject))
    if address is not None and address.verb in _RENAMED and TIMER_COMMAND_ID_HEADER in headers:
        # By another name it is another command, and must not meet its own id.
        headers[TIMER_COMMAND_ID_HEADER] += "-due"
    return headers


async def _open(bus: Bus, replicas: int) -> None:
    if _is_hidden(await _info(bus, COMMANDS_STREAM)):
        await _ask(bus, f"STREAM.UPDATE.{COMMANDS_STREAM}", stream_config(COMMANDS_STREAM, replicas))


STEPS: tuple[Step, ...] = (
    _freeze,
    _make_others,
    _copy,
    _detach,
    _delete_old,
    _make_hidden,
    _restore_commands,
    _set_timers,
    _open,
)


async def _kept(bus: Bus, subjects: str, *, after: int = 0) -> AsyncIterator[Msg]:
    """What the copy holds on these subjects."""
    last = await message_from_leader(bus, BEFORE_STREAM, last_on=subjects)
    if last is None or last.sequence <= after:
        return
    async with read_stream(bus, BEFORE_STREAM, after=after, filters=[subjects]) as reader:
        while reader.position < last.sequence:
            for message in await reader.next_batch():
                yield message


async def _info(bus: Bus, stream: str) -> dict[str, Any] | None:
    answer = await bus.api(f"STREAM.INFO.{stream}", {})
    error = answer.get("error")
    if error and error.get("err_code") == _NO_STREAM:
        return None
    return _checked(answer, stream)


async def _ask(bus: Bus, operation: str, request: dict[str, Any]) -> None:
    _checked(await bus.api(operation, request), operation)


async def _delete(bus: Bus, stream: str) -> None:
    """Asked once more while the answer is late, the server may find nothing."""
    answer = await bus.api(f"STREAM.DELETE.{stream}", {})
    if answer.get("error", {}).get("err_code") != _NO_STREAM:
        _checked(answer, stream)


def _checked(answer: dict[str, Any], what: str) -> dict[str, Any]:
    if error := answer.get("error"):
        raise StreamError(f"{what}: {error.get('description')}")
    return answer
