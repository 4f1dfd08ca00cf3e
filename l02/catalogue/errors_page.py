"""`docs/errors.md`: every error code with what it means and what to do about it."""

from __future__ import annotations

from l02.catalogue.markdown import GENERATED, table
from l02.domain.errors import EXPLANATIONS, ErrorCode

_INTRODUCTION = """\
Every failure that leaves the runtime carries one of these codes: a refused command's outcome, an event that says
that something failed, a message of the command line. Codes are stable: new ones are added, none is renumbered or
given a new meaning. `l02 errors CODE` says the same as this page.

On the wire a failure is `{"code", "name", "message"}`. The message says what happened this time and what to do next;
programs tell failures apart by `code`. Where one field of a command or a specification is to blame, `path` names it:
`$.spec.resource_limits.cpu`."""


def errors_page() -> str:
    """The page."""
    rows = [(f"**{code.value}**", f"`{code.name}`", *EXPLANATIONS[code]) for code in ErrorCode]
    parts = ["# Error codes", GENERATED, _INTRODUCTION, table(("code", "name", "what it means", "what to do"), rows)]
    return "\n\n".join(parts) + "\n"
