"""One at a time for each key, in the order they came, whoever is cancelled; and nothing is kept of it."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from l02.bus.log.turns import Turn, turn_of

USERS = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["works", "fails", "is cancelled"])), max_size=8)


@given(USERS)
def test_whoever_fails_or_is_cancelled_the_others_follow_in_order_and_alone(users: list[tuple[str, str]]) -> None:
    asyncio.run(_use(users))


async def _use(users: list[tuple[str, str]]) -> None:
    turns: dict[str, Turn] = {}
    inside: set[str] = set()
    came: list[int] = []

    async def use(number: int, key: str, fate: str) -> None:
        async with turn_of(turns, key):
            assert key not in inside
            inside.add(key)
            came.append(number)
            await asyncio.sleep(0)
            inside.remove(key)
            if fate == "fails":
                raise ValueError

    async with turn_of(turns, "a"), turn_of(turns, "b"):
        tasks = [asyncio.create_task(use(number, *user)) for number, user in enumerate(users)]
        await asyncio.sleep(0)
        for task, (_, fate) in zip(tasks, users, strict=True):
            if fate == "is cancelled":
                task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for key in "ab":
        expected = [n for n, (of, fate) in enumerate(users) if of == key and fate != "is cancelled"]
        assert [n for n in came if users[n][0] == key] == expected
    assert not turns
