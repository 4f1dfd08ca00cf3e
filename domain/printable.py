r"""Text from outside, shown to people: whatever is in it forges no line, steers no terminal and can be written.

What is not shown as it is stands there as its escape: `\n`, `\t`, or `\uXXXX` as JSON, Python and people know it, above
U+FFFF a pair of these, as JSON has it.
"""

from __future__ import annotations

import re

_HEADER_CHARACTERS = 512
_SHORT = {"\n": "\\n", "\t": "\\t"}
# Controls but line breaks and tabs, marks of direction, line separators, half surrogate pairs. What joins letters and
# the parts of an emoji stays, though it is not "printable".
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def in_log(text: str) -> str:
    """As a part of one line: whatever is not printable is escaped, line breaks too."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else escaped(one) for one in text)


def on_terminal(text: str) -> str:
    """As lines of a terminal: line breaks and tabs stay, what would steer it is escaped."""
    return _STEERING.sub(lambda match: escaped(match[0]), text)


def in_header(text: str) -> str:
    """As the value of a message's header: one line of printable characters, 512 at most; the others are spaces."""
    return " ".join("".join(one if one.isprintable() else " " for one in text[:_HEADER_CHARACTERS]).split())


def escaped(text: str) -> str:
    """Every character as its escape."""
    return "".join(_SHORT.get(one) or _units(one) for one in text)


def _units(character: str) -> str:
    encoded = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{encoded[at : at + 2].hex()}" for at in range(0, len(encoded), 2))
