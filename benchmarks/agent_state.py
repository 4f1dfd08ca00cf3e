"""The states that checkpoints are measured with. It imports nothing, so that the peers make the same ones.

`text` looks like what an agent keeps: its conversation in JSON, in which words come again and again, and ids, times and
figures do not; gzip makes about half of it. `noise` is random bytes (an image, an encrypted value): the worst case, of
which no compression makes less.
"""

from __future__ import annotations

import json
import random

_LETTERS = "etaoinshrdlucmfwypvbgkjqxz"


def agent_states(size: int, content: str, count: int = 20) -> list[bytes]:
    """`count` different states of `size` bytes each, the same in every run."""
    chance = random.Random(size)
    if content == "noise":
        return [chance.randbytes(size) for _ in range(count)]
    words = ["".join(chance.choices(_LETTERS, k=chance.randint(2, 10))) for _ in range(3000)]
    return [_conversation(chance, words, size) for _ in range(count)]


def _conversation(chance: random.Random, words: list[str], size: int) -> bytes:
    written, messages = 0, []
    while written < size:
        message = {
            "id": chance.randbytes(12).hex(),
            "role": chance.choice(["user", "assistant", "tool"]),
            "content": " ".join(chance.choices(words, k=chance.randint(1, 120))),
            "tokens": chance.randint(1, 4000),
            "at": 1.7e9 + chance.random() * 1e7,
        }
        messages.append(json.dumps(message))
        written += len(messages[-1]) + 2
    return f"[{', '.join(messages)}]".encode()[:size]
