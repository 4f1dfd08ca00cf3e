"""What is on the wire, written down from the types that put it there, so that the pages cannot say anything else.

`python -m l02.catalogue docs/` writes them; a test compares.
"""

from __future__ import annotations

from l02.catalogue.asyncapi import asyncapi_document
from l02.catalogue.errors_page import errors_page
from l02.catalogue.events_page import events_page
from l02.catalogue.settings_page import settings_page

__all__ = ["pages"]


def pages() -> dict[str, str]:
    """The text of each page by the name of its file."""
    return {
        "events.md": events_page(),
        "asyncapi.yaml": asyncapi_document(),
        "errors.md": errors_page(),
        "settings.md": settings_page(),
    }
