"""Contents as agents have them: conversations in JSON, in which words come again and again and ids never do."""

from __future__ import annotations

import json
import random

_LETTERS = "etaoinshrdlucmfwypvbgkjqxz"


def conversation(size: int, seed: int = 1) -> bytes:
    """JSON text of about that many bytes."""
    chance = random.Random(seed)
    words = ["".join(chance.choices(_LETTERS, k=chance.randint(2, 10))) for _ in range(3000)]
    messages: list[dict[str, object]] = []
    written = 2
    while written < size:
        message = {
            "id": chance.randbytes(12).hex(),
            "role": chance.choice(["user", "assistant", "tool"]),
            "content": " ".join(chance.choices(words, k=chance.randint(1, 120))),
            "at": 1.7e9 + chance.random() * 1e7,
        }
        messages.append(message)
        written += len(json.dumps(message)) + 2
    return json.dumps(messages).encode()


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that no compression makes smaller."""
    return random.Random(seed).randbytes(size)
