"""How a client asks: a command that is stored before anything happens, whatever is away, or a query to any node."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from nats.aio.msg import Msg
from nats.errors import MaxPayloadError, NoRespondersError
from nats.js.errors import NoStreamResponseError

from l02.bus.background.cancelling import end
from l02.bus.commands.ids import bound_id
from l02.bus.commands.outcomes import ErrorBody, Outcome
from l02.bus.commands.sender import send_command
from l02.bus.connection.bus import Bus
from l02.bus.wire.agent.values import to_json
from l02.bus.wire.incoming import ACTOR_HEADER, MAX_COMMAND_BYTES
from l02.bus.wire.subjects import API, AggregateId, CommandAddress
from l02.client.discovery import NodeUnreachable, no_streams
from l02.domain.errors import ErrorCode, Failure, error_code
from l02.domain.identifiers import require_id

T = TypeVar("T")

_QUERY_SECONDS = 10.0
_ASK_AGAIN_SECONDS = 1.0
# Longer than JetStream takes to come back after a restart of the server on a million events (0.3 s).
_STREAMS_SECONDS = 5.0
_PAUSE_SECONDS = 0.2


class _Answer(Struct, frozen=True):
    ok: bool
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: ErrorBody | None = None


class Asking:
    """What all verbs of the client stand on."""

    def __init__(self, bus: Bus, actor: str | None = None) -> None:
        self._bus = bus
        self._headers = {ACTOR_HEADER: actor} if actor else {}

    async def _send(
        self, id: str, verb: str, fields: dict[str, Any], command_id: str | None, kind: str = "agent"
    ) -> Outcome:
        address, body = CommandAddress(AggregateId(kind, require_id(id, "id")), verb), encode(fields)
        command_id = bound_id(address, body) if command_id is None else require_id(command_id, "command_id")
        outcome = await self._outcome(address, body, command_id)
        if not outcome.ok:
            assert outcome.error, "an outcome that is not ok says why"
            raise _failure(outcome.error)
        return outcome

    async def _outcome(self, address: CommandAddress, body: bytes, command_id: str) -> Outcome:
        """Sending again is harmless, so that is what is done while the server is away."""
        patience = asyncio.get_running_loop().time() + _STREAMS_SECONDS
        while True:
            try:
                return await send_command(self._bus, address, body, command_id=command_id, headers=self._headers)
            except TimeoutError:
                patience = asyncio.get_running_loop().time() + _STREAMS_SECONDS
            except NoStreamResponseError as error:
                if asyncio.get_running_loop().time() > patience:
                    raise no_streams() from error
                await asyncio.sleep(_PAUSE_SECONDS)
            except MaxPayloadError as error:
                raise _too_large(len(body)) from error

    async def _query(self, name: str, fields: dict[str, Any], result: type[T]) -> T:
        reply = await self._ask(f"{API}.{name}", encode(fields))
        answer = msgspec.json.decode(reply.data, type=_Answer)
        if not answer.ok:
            assert answer.error, "an answer that is not ok says why"
            raise _failure(answer.error)
        return msgspec.json.decode(answer.result, type=result)

    async def _ask(self, subject: str, body: bytes) -> Msg:
        """The first answer of any node: one that hangs must not hold up who asks, so others are asked besides.

        The server draws who gets a request, and may draw one that hangs time and again: so it draws ever oftener.
        """
        asked: set[asyncio.Task[Msg]] = set()
        try:
            async with asyncio.timeout(_QUERY_SECONDS):
                while True:
                    for _ in range(len(asked) // 2 + 1):
                        asking = self._bus.requests.request(subject, body, timeout=_QUERY_SECONDS)
                        asked.add(asyncio.create_task(asking))
                    answered, _ = await asyncio.wait(
                        asked, timeout=_ASK_AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED
                    )
                    if answered:
                        return answered.pop().result()
        except NoRespondersError as error:
            raise NodeUnreachable("no node is running; start one with `l02 up`") from error
        except TimeoutError as error:
            raise NodeUnreachable(f"no node has answered within {_QUERY_SECONDS:.0f} s; see the node's log") from error
        finally:
            for task in asked:
                await end(task)


def _too_large(size: int) -> Failure:
    return Failure(
        ErrorCode.PAYLOAD_TOO_LARGE,
        f"the command has {size} bytes, at most {MAX_COMMAND_BYTES} are taken; pass large input by reference",
    )


def encode(fields: dict[str, Any]) -> bytes:
    """A body. Raises Failure: E2115, or E2110 for what JSON would change on its way; NaN would become null."""
    try:
        body = bytes(to_json(fields, "what is sent"))
    except TypeError as error:
        raise Failure(ErrorCode.COMMAND_INVALID, str(error)) from error
    if len(body) > MAX_COMMAND_BYTES:
        raise _too_large(len(body))
    return body


def _failure(error: ErrorBody) -> Failure:
    path = error.path or None
    code = error_code(error.code)
    if code is not None:
        return Failure(code, error.message, path, error.detail or None)
    message = f"{error.message} ({error.code} {error.name}, which this client is too old to know)"
    return Failure(ErrorCode.HANDLER_FAILED, message, path)
