"""The same hostile texts in each form that is for people, and good ones, which stay as they are."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l02.domain.printable import escaped, in_header, in_log, on_terminal

CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"]
SEPARATORS = ["\u2028", "\u2029"]
BIDI = [*"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"]
SURROGATES = ["\ud800", "\udbff", "\udc00", "\udfff"]
GOOD = ["", "plain", "é ü ß", "\U0001f600", "日本語", "שלום", "a\\u001b[31m"]
hostile = st.text(st.sampled_from([*CONTROLS, *SEPARATORS, *BIDI, *SURROGATES, *"\n\t ab\\"]) | st.characters())


@pytest.mark.parametrize("one", [*CONTROLS, *SEPARATORS, *BIDI, *SURROGATES], ids=ascii)
def test_what_forges_lines_or_steers(one: str) -> None:
    shown = f"\\u{ord(one):04x}"
    text = f"a{one}b"
    assert (in_log(text), on_terminal(text), in_header(text)) == (f"a{shown}b", f"a{shown}b", "a b")


@pytest.mark.parametrize("text", GOOD)
def test_what_is_good_stays(text: str) -> None:
    assert (in_log(text), on_terminal(text), in_header(text)) == (text, text, text)


def test_lines_and_tabs_stay_where_lines_may_be() -> None:
    text = "a\n\tb\n"
    assert (in_log(text), on_terminal(text), in_header(text)) == ("a\\n\\tb\\n", text, "a b")


def test_what_joins_letters_is_no_danger_to_a_terminal() -> None:
    text = "\U0001f468\u200d\U0001f469 می\u200cخواهم"
    assert on_terminal(text) == text
    assert "\u200d" not in in_log(text) and "\u200c" not in in_header(text)


@given(hostile)
def test_any_text(text: str) -> None:
    assert in_log(text).isprintable()
    lines = on_terminal(text)
    assert lines.encode().decode() == lines
    assert not {*lines} & {*CONTROLS, *SEPARATORS, *BIDI, *SURROGATES}
    value = in_header(text)
    assert value.isprintable() and len(value) <= 512 and value == value.strip()


@given(st.text() | hostile)
def test_escapes_say_which_characters_they_were(text: str) -> None:
    said = json.loads(f'"{escaped(text)}"')
    assert said.encode("utf-16", "surrogatepass") == text.encode("utf-16", "surrogatepass")
