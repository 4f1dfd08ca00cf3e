"""The values of environment variables are often keys: what shows a value for people leaves them out."""

from __future__ import annotations

from msgspec import Struct


class HidesEnvironment(Struct, frozen=True):
    """A base whose `repr` shows the names in a field `environment`, and no values."""

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        shown["environment"] = dict.fromkeys(shown["environment"], "…")
        fields = ", ".join(f"{name}={value!r}" for name, value in shown.items())
        return f"{type(self).__name__}({fields})"
