"""The live views against the replay. They have no snapshot: each says itself which event it reflects.

One that is newer than the replay is compared when the replay has come to it; one that is older is looked at again when
the projector says that it has passed.
"""

from __future__ import annotations

import asyncio

import msgspec

from l02.bus.connection.bus import Bus
from l02.projections.folds.fold import Fold, View, encode_view
from l02.projections.views.bucket import ViewBucket
from l02.projections.views.projector import LIVE_VIEWS, VIEWS, stored_position
from l02.verify.difference import Difference, Report, ahead, behind, compare_json, differs
from l02.verify.replayed import Replayed

_POLL_SECONDS = 0.05
_KEYS_IN_FLIGHT = 64


class _Held(msgspec.Struct):
    sequence: int


_held_decoder = msgspec.json.Decoder(_Held)


async def compare_views(bus: Bus, replayed: Replayed, report: Report, patience: float) -> None:
    """Wait up to `patience` seconds until the views are as far as `replayed`, then compare each.

    Raises NATS' errors, and as `replayed`.
    """
    comparison = _Comparison(bus, replayed, report, patience)
    target = replayed.position
    if await comparison.wait_for(target) < target:
        report(behind(VIEWS, comparison.reached, target, patience))
    elif comparison.reached > (newest := await replayed.newest()):
        report(ahead(VIEWS, comparison.reached, newest))
    else:
        await comparison.compare_all()


class _Comparison:
    def __init__(self, bus: Bus, replayed: Replayed, report: Report, patience: float) -> None:
        self._bucket = ViewBucket(bus)
        self._replayed = replayed
        self._report = report
        self._patience = patience
        self._in_flight = asyncio.Semaphore(_KEYS_IN_FLIGHT)
        self.reached = 0
        """What is loaded from now on reflects all events up to this one."""

    async def wait_for(self, sequence: int) -> int:
        """How far the projector says the views are: as far as `sequence`, unless patience ends before."""
        clock = asyncio.get_running_loop()
        deadline = clock.time() + self._patience
        while True:
            position, _ = await stored_position(self._bucket)
            self.reached = max(self.reached, position)
            if self.reached >= sequence or clock.time() > deadline:
                return self.reached
            await asyncio.sleep(_POLL_SECONDS)

    async def compare_all(self) -> None:
        """Compare all keys that there are, or ought to be."""
        for kind, fold in LIVE_VIEWS.items():
            keys = {".".join((kind, *key)) for key in self._replayed.views(fold)}
            keys.update(await self._bucket.keys(kind))
            try:
                async with asyncio.TaskGroup() as tasks:
                    for key in sorted(keys):
                        await self._in_flight.acquire()
                        comparing = tasks.create_task(self._compare(fold, key))
                        comparing.add_done_callback(lambda _: self._in_flight.release())
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from errors

    async def _compare(self, fold: Fold[View], key: str) -> None:
        clock = asyncio.get_running_loop()
        deadline = clock.time() + self._patience
        while True:
            reached = self.reached
            value = (await self._bucket.load(key)).value
            held = _sequence_of(value)
            await self._catch_up_with(held)
            # Nothing is awaited from here on, so the replay stays where it is.
            view = self._replayed.views(fold).get(tuple(key.split(".")[1:]))
            encoded = None if view is None else encode_view(view)
            if encoded == value:
                return
            may_be_late = view is not None and view.sequence > max(held, reached)
            if not may_be_late or clock.time() > deadline:
                self._tell(key, held if view is None else view.sequence, encoded, value)
                return
            assert view is not None
            await self.wait_for(view.sequence)

    async def _catch_up_with(self, held: int) -> None:
        """Fold what the view may reflect. One that claims more than the stream has is wrong anyway."""
        if held > self._replayed.position and held <= await self._replayed.newest():
            await self._replayed.fold_to(held)

    def _tell(self, key: str, sequence: int, expected: bytes | None, found: bytes | None) -> None:
        if expected is not None and found is not None:
            for path, wanted, value in compare_json(expected, found):
                self._report(differs(VIEWS, key, sequence, path, wanted, value, what=path or "the view"))
            return
        message = "the view is missing" if found is None else "there is a view, but no event that could have made it"
        self._report(Difference(place=VIEWS, key=key, sequence=sequence, message=message))


def _sequence_of(value: bytes | None) -> int:
    """The sequence that a stored view claims to reflect; 0 if it is not a view."""
    try:
        return _held_decoder.decode(value).sequence if value is not None else 0
    except msgspec.MsgspecError:
        return 0
