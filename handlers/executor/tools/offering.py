"""Which tools an agent is told of: what servers say of theirs is somebody else's, and may be of any size.

Pure, so that it can be fuzzed. Each server, and the agent itself, has an equal share of what is told in all, so that
one cannot crowd out the others; what finds no room is counted, and said.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from l02.bus.wire.agent.parts import NAME_BYTES
from l02.bus.wire.agent.protocol import MAX_SCHEMA_BYTES, Offer, OfferedTool, ToolDescription
from l02.bus.wire.agent.texts import cut
from l02.domain.specification import ToolServer
from l02.domain.values import MAX_DEPTH, is_deeper
from l02.handlers.tool_servers import ToolInfo

MAX_OFFER_BYTES = 4 * 1024 * 1024
"""Of all tools together, as JSON."""
MAX_SHARE_BYTES = MAX_OFFER_BYTES // 4
_REASON_BYTES = 1024
_SCHEMA_DEPTH = MAX_DEPTH - 10
"""It stands some levels deep in the value that is recorded."""
_ANY_OBJECT = {"type": "object"}

Lists = Mapping[str, Mapping[str, ToolInfo] | BaseException]
"""Of each server what it said of its tools, or why it cannot be asked."""


def offered(own: Iterable[ToolDescription], servers: Mapping[str, ToolServer], lists: Lists) -> Offer:
    """The agent's `own` tools and those of its `servers`. One that its name does not lead to is none."""
    offer = _Offer(min(MAX_SHARE_BYTES, MAX_OFFER_BYTES // (len(servers) + 1)))
    mine = [OfferedTool(one.name, one.description, one.schema, idempotent=one.idempotent) for one in own]
    taken = {tool.name for tool in mine}
    offer.add("the agent itself", mine)
    for name, server in servers.items():
        said = lists[name]
        if isinstance(said, BaseException):
            offer.problem(f"the tool server {name!r} cannot be started: {said}")
            continue
        if unknown := unknown_names(name, server, said):
            offer.problem(unknown)
        theirs: list[OfferedTool | None] = []
        for tool in filter(server.allows, said):
            full = f"{name}.{tool}"
            if full not in taken and by_full_name(full, lists) == (name, tool):
                theirs.append(_described(name, server, said[tool]))
        offer.add(f"the tool server {name!r}", theirs)
    return Offer(tuple(offer.tools), tuple(offer.problems))


def unknown_names(name: str, server: ToolServer, tools: Collection[str]) -> str | None:
    """In words, which names of a specification's lists mean none of the server's tools."""
    lists = {"idempotent": server.idempotent, "allow": server.allow, "ask": server.ask}
    unknown = {key: [tool for tool in named if tool not in tools] for key, named in lists.items() if named is not UNSET}
    said = "; ".join(f"tools.{name}.{key} names {', '.join(some)}" for key, some in unknown.items() if some)
    return f"{said}: the server has no such tool" if said else None


def by_full_name(name: str, lists: Lists) -> tuple[str, str] | None:
    """The server and its tool that `server.tool` means: the longest server's name comes first."""
    for server in servers_named(name, lists):
        said = lists[server]
        if isinstance(said, BaseException):
            return None
        if (tool := tool_named(name, server, said)) is not None:
            return server, tool
    return None


def servers_named(name: str, servers: Iterable[str]) -> list[str]:
    """Those that `name` may begin with, in the order in which they are asked."""
    return sorted((server for server in servers if name.startswith(f"{server}.")), key=len, reverse=True)


def tool_named(name: str, server: str, tools: Mapping[str, ToolInfo]) -> str | None:
    """Which of the server's tools a full name means: one that is called just so comes first."""
    return next((tool for tool in (name, name.removeprefix(f"{server}.")) if tool in tools), None)


def _described(name: str, server: ToolServer, info: ToolInfo) -> OfferedTool | None:
    """None if its name is one that the protocol would cut."""
    full = f"{name}.{info.name}"
    if len(full.encode(errors="replace")) > NAME_BYTES:
        return None
    return OfferedTool(
        full,
        info.description,
        info.schema,
        server=name,
        idempotent=info.name in server.idempotent,
        asks=server.asks(info.name),
    )


class _Offer:
    """What is told, while it is gathered."""

    def __init__(self, share: int) -> None:
        self.tools: list[OfferedTool] = []
        self.problems: list[str] = []
        self._share = share

    def problem(self, text: str) -> None:
        self.problems.append(cut(text, _REASON_BYTES))

    def add(self, who: str, tools: Iterable[OfferedTool | None]) -> None:
        """Tell of these as far as there is room."""
        room, left_out, bare = self._share, 0, []
        for tool in tools:
            if tool is not None and not _is_told(tool.schema):
                bare.append(tool.name)
                tool = replace(tool, schema=_ANY_OBJECT)
            size = 0 if tool is None else len(msgspec.json.encode(tool))
            if tool is None or size > room:
                left_out += 1
                continue
            room -= size
            self.tools.append(tool)
        if bare:
            limit = f"more than {MAX_SCHEMA_BYTES:,} bytes, or nest too deeply, so that they are not told"
            self.problem(f"schemas of {who} have {limit}: {', '.join(bare)}")
        if left_out:
            self.problem(
                f"{left_out:,} tools of {who} are left out: a name may have {NAME_BYTES} bytes, all of them together "
                f"{self._share:,}; name those that matter in `allow`"
            )


def _is_told(schema: object) -> bool:
    return len(msgspec.json.encode(schema)) <= MAX_SCHEMA_BYTES and not is_deeper(schema, _SCHEMA_DEPTH)
