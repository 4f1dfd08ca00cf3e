"""The kinds of endpoints by the name that the settings have for them."""

from __future__ import annotations

from l02.handlers.models.settings import Api
from l02.handlers.models.shapes.anthropic import Anthropic
from l02.handlers.models.shapes.chat import Chat
from l02.handlers.models.shapes.responses import Responses
from l02.handlers.models.shapes.shape import Shape

SHAPES: dict[Api, Shape] = {"chat": Chat(), "responses": Responses(), "anthropic": Anthropic()}

__all__ = ["SHAPES", "Shape"]
