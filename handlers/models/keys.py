"""Keys of endpoints: read once, shown never, and taken out of whatever an endpoint says."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from urllib.parse import quote

from msgspec import Struct

from l02.domain.printable import in_log

MAX_MESSAGE_BYTES = 8192
_MAX_KEY_BYTES = 8192
_HIDDEN = "(key)"
# Servers that want no key are often given `none` or `EMPTY`.
_SECRET = 16


class KeyUnusable(Exception):
    """A key cannot be had; the message is one line without it."""


class KeySource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a key is: in a variable of the node's environment, or in a file that only its owner can read."""

    env: str | None = None
    file: str | None = None


class Key:
    """A key. It has no text of its own: only `reveal` gives it."""

    __slots__ = ("_disguises", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        encoded = base64.b64encode(text.encode()).decode().rstrip("=")
        self._disguises = sorted({text, quote(text, safe=""), json.dumps(text)[1:-1], encoded}, key=len, reverse=True)

    def reveal(self) -> str:
        """The key itself."""
        return self._text

    def is_in(self, text: str) -> bool:
        """Whether it stands in the text, however it is written there. A short one is a word that anybody may say."""
        return len(self._text) >= _SECRET and any(disguise in text for disguise in self._disguises)

    def __repr__(self) -> str:
        return _HIDDEN

    def hidden(self, text: str) -> str:
        """The text without the key, however it is written there."""
        for disguise in self._disguises:
            text = text.replace(disguise, _HIDDEN)
        return text


def read_key(source: KeySource, beside: Path) -> Key:
    """The key; a file's path is relative to `beside`. Raises KeyUnusable."""
    if (source.env is None) == (source.file is None):
        raise KeyUnusable("takes either `env` or `file`")
    if source.env is not None:
        text, place = os.environ.get(source.env), source.env
        if not text:
            raise KeyUnusable(f"{place} is not set")
    else:
        path = beside / Path(source.file or "").expanduser()
        text, place = _in_file(path), str(path)
    text = text.strip()
    if not text or len(text) > _MAX_KEY_BYTES or not (text.isascii() and text.isprintable()) or " " in text:
        raise KeyUnusable(f"{place} holds no key: one word of ASCII characters")
    return Key(text)


def _in_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IRGRP | stat.S_IROTH):
                raise KeyUnusable(f"others can read {path}; run: chmod 600 {path}")
            return file.read(_MAX_KEY_BYTES + 1).decode("ascii", "replace")
    except (OSError, ValueError) as error:
        raise KeyUnusable(f"{path} cannot be read: {type(error).__name__}") from error


def presentable(text: str, key: Key | None) -> str:
    """What an endpoint said, as a message of ours may quote it: one line, 8 KiB at most, without its key."""
    # A key that the bound would cut in two is still found: twice the bound is looked through.
    looked_at = text[: 2 * MAX_MESSAGE_BYTES]
    line = in_log(key.hidden(looked_at) if key else looked_at)
    return line.encode()[:MAX_MESSAGE_BYTES].decode(errors="ignore")
