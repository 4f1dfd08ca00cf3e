"""One request to an endpoint and what comes back: bounded in size and time, whatever that is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import lru_cache

import httpx2
import msgspec
from httpx2 import EventSource, SSEError

from l02.handlers.models.conversation import Checked
from l02.handlers.models.endpoints.connections import Connections
from l02.handlers.models.endpoints.draft import Draft
from l02.handlers.models.endpoints.faults import Fault, away, broken, late, message_of, nonsense, of_status
from l02.handlers.models.endpoints.untrusted import MAX_MESSAGE, MAX_STREAM, UNREADABLE, Bounded, Breath
from l02.handlers.models.keys import Key, presentable
from l02.handlers.models.settings import Endpoint
from l02.handlers.models.shapes import SHAPES

OnText = Callable[[str], Awaitable[None]]

_MAX_ERROR = 64 * 1024
_ERROR_SECONDS = 10.0
_END_SECONDS = 0.05
_SHOWN = 500
# Nothing is unpacked: what is small when packed can be large.
_HEADERS = {"accept-encoding": "identity", "user-agent": "l02", "content-type": "application/json"}


_parsed = lru_cache(maxsize=1024)(httpx2.URL)


class Exchange:
    """One attempt, which is `run` once. `draft` holds what has come, also if it failed."""

    def __init__(
        self, connections: Connections, endpoint: Endpoint, key: Key | None, asked: Checked, max_tokens: int
    ) -> None:
        self._connections = connections
        self._endpoint = endpoint
        self._key = key
        self._asked = asked
        self._max_tokens = max_tokens
        self._shape = SHAPES[endpoint.api]
        self.draft = Draft()
        self.first_token_at: float | None = None
        """When anything of the model came first, on the loop's clock."""

    async def run(self, on_text: OnText | None, deadline: float) -> None:
        """Ask, and take the answer into the draft, until `deadline` of the loop's clock. Raises Fault."""
        try:
            await self._run(on_text if self._asked.request.stream else None, deadline)
        except Fault as fault:
            # Whatever comes behind the answer's end changes nothing.
            if not self.draft.complete:
                fault.message = presentable(fault.message, self._key)
                raise

    async def _run(self, on_text: OnText | None, deadline: float) -> None:
        loop, timeouts = asyncio.get_running_loop(), self._endpoint.timeouts
        first = loop.time() + timeouts.first_token if self._asked.request.stream else deadline
        response: httpx2.Response | None = None
        try:
            async with asyncio.timeout_at(min(first, deadline)) as patience:
                response = await self._connections.send(self._request())
                try:
                    await self._take(response, on_text, patience, deadline)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise self._late(loop.time() >= deadline) from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            raise away(f"it cannot be reached: {error or type(error).__name__}") from None
        except SSEError as error:
            raise nonsense(str(error)) from None
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            lost = f"the connection was lost: {type(error).__name__} {error}"
            raise (away(lost, sent=True) if response is None else broken(lost)) from None
        except UNREADABLE as error:
            raise nonsense(f"its answer cannot be read: {error}") from None

    def _request(self) -> httpx2.Request:
        body = self._shape.body(self._endpoint, self._asked, self._max_tokens)
        key = self._key.reveal() if self._key else None
        return httpx2.Request(
            "POST",
            _parsed(self._endpoint.url + self._shape.path),
            content=msgspec.json.encode(body),
            headers=_HEADERS | self._shape.headers(key),
            extensions={"timeout": {"connect": self._endpoint.timeouts.connect}},
        )

    async def _take(
        self, response: httpx2.Response, on_text: OnText | None, patience: asyncio.Timeout, deadline: float
    ) -> None:
        if response.status_code != 200:
            patience.reschedule(min(asyncio.get_running_loop().time() + _ERROR_SECONDS, deadline))
            said = await self._error(response)
            raise of_status(response.status_code, said, response.headers.get("retry-after"))
        is_stream = response.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/event-stream"
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = Bounded(response.stream, MAX_STREAM if is_stream else MAX_MESSAGE)
        packed = response.headers.get("content-encoding", "identity")
        if packed.lower() != "identity":
            raise nonsense(f"its answer is packed as {packed[:100]!r}, which nobody asked for")
        if is_stream:
            await self._take_stream(response, on_text, patience, deadline)
        else:
            await self._take_whole(response, on_text, patience, deadline)
        if not self.draft.answered:
            raise nonsense("its answer holds none")
        self._refuse_key(self.draft.all_said)

    async def _take_whole(
        self, response: httpx2.Response, on_text: OnText | None, patience: asyncio.Timeout, deadline: float
    ) -> None:
        patience.reschedule(deadline)
        body = b"".join([chunk async for chunk in response.aiter_raw()])
        self._refuse_key(body.decode(errors="replace"))
        try:
            self._shape.whole(body, self.draft)
        except UNREADABLE as error:
            begins = body[:_SHOWN].decode(errors="replace")
            raise nonsense(f"its answer cannot be read ({error}); it begins {begins!r}") from None
        self.first_token_at = asyncio.get_running_loop().time()
        text = self.draft.whole_text
        if text and on_text is not None:
            await on_text(text)

    async def _take_stream(
        self, response: httpx2.Response, on_text: OnText | None, patience: asyncio.Timeout, deadline: float
    ) -> None:
        loop, draft, shape = asyncio.get_running_loop(), self.draft, self._shape
        between = self._endpoint.timeouts.between_tokens
        response.encoding, ended, breath = "utf-8", False, Breath()
        async for event in EventSource(response, max_event_size=MAX_MESSAGE):
            await breath.take()
            if ended:
                continue
            self._refuse_key(event.data)
            text = shape.piece(event.data, draft)
            if draft.begun:
                now = loop.time()
                self.first_token_at = self.first_token_at or now
                if text and on_text is not None:
                    patience.reschedule(deadline)
                    await on_text(text)
                    now = loop.time()
                patience.reschedule(min(now + between, deadline))
            ended = draft.ended
            if ended:
                # Its end, for which the connection is kept if it comes at once.
                patience.reschedule(loop.time() + _END_SECONDS)
        if not draft.complete:
            raise broken("the stream ended in the middle of the answer")

    async def _error(self, response: httpx2.Response) -> str:
        """What is said with a status that is no success, or the beginning of it."""
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) >= _MAX_ERROR:
                break
        return message_of(bytes(body[:_MAX_ERROR]))

    def _refuse_key(self, text: str) -> None:
        """An answer that holds the key is for nobody."""
        if self._key is not None and self._key.is_in(text):
            self.draft.finish, self.draft.ended = None, False
            raise nonsense("its answer holds the key that it was asked with")

    def _late(self, whole: bool) -> Fault:
        timeouts = self._endpoint.timeouts
        if whole:
            # One that has begun may be long, or its reader slow.
            message = f"no whole answer {timeouts.whole:g} s after the call began"
            return late(message, again=False, unwell=not self.draft.begun)
        if self.draft.begun:
            return late(f"no further token within {timeouts.between_tokens:g} s", again=False)
        return late(f"no token within {timeouts.first_token:g} s")
