"""What docs/agent-protocol.md says comes of lines that an agent says, worked out anew, without the runtime's own code.

Python's own JSON reads the lines, and the types of the protocol say what fits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from msgspec import inspect

from l02.bus.wire.agent.lines import MAX_LINE
from l02.domain.errors import ErrorCode
from tests.runtime.hostile_lines import BIG, BIG_BYTES, TYPES

DONE = "done"
OWN, WAIT = "own", "$WAIT"
_OF_STEPS = {"steps", "begin", "diverged"}
_CODES_OF_TOOLS = {"E2001", "E2002", "E2003", "E2115"}
BROKEN = ErrorCode.RESTART_LIMIT_EXCEEDED.value
"""What comes of an agent that breaks the protocol and may not be started again."""
_MOST_UNTOLD = 10_000
_MAX_WEIGHT, _MAX_DEPTH, _MAX_OUTPUT_BYTES = 500_000, 100, 8 << 20
_NEEDED = {"tool": ("tool", "arguments"), "sleep": ("seconds",), "signal": ("name", "timeout")}
_NEEDED["checkpoint"] = ("label", "state")


@dataclass
class End:
    """One of `codes`, or DONE with this output; or with the agent's own words. `agent_goes_on` if it was no breach."""

    codes: set[str]
    output: Any = None
    said: dict[str, Any] | None = None
    agent_goes_on: bool = True


def end_of_spawn(said: str) -> str:
    """The code of what comes of a process that says this first."""
    message = _read(said)
    if message is None or _is_heavy(message):
        return BROKEN
    if message["type"] == "load_failed":
        return ErrorCode.SPAWN_FAILED.value
    if message["type"] != "hello":
        return BROKEN
    return DONE if message["protocol"] == 1 else ErrorCode.SPAWN_FAILED.value


class _Steps:
    """What an agent has told that does steps itself."""

    def __init__(self) -> None:
        self.numbers: set[int] = set()
        self.threads: set[int] = set()
        self.codes: set[str] = set()
        self.after = 0

    def end(self, steps: list[dict[str, Any]], calls: int) -> End | None:
        """What comes of these after so many calls, if that is the end."""
        for step in steps:
            if not self.after <= step["after"] <= calls or not _can_be_own(step):
                return End({BROKEN}, agent_goes_on=False)
            self.after = step["after"]
            taken = self.threads if step["kind"] == "thread" else self.numbers
            if step["call"] in taken or step["call"] > len(taken) + _MOST_UNTOLD:
                return End({BROKEN}, agent_goes_on=False)
            taken.add(step["call"])
        for step in steps:
            if not step.get("ok", True):
                self.codes.add(step["result"]["code"])
                if step["result"]["code"] not in _CODES_OF_TOOLS:
                    return End({BROKEN}, agent_goes_on=False)
            if max(_depth(step.get("arguments")), _depth(step.get("result"))) > _MAX_DEPTH:
                return End({ErrorCode.COMMAND_INVALID.value})
        return None


def end_of_work(lines: list[str], execution_id: str, offers_steps: bool = False) -> End | None:
    """What comes of an execution in which the agent says these; None if it is not at its end with them.

    At WAIT it waits for an answer, or to be told to run its own tool, OWN.
    """
    calls, pieces = 0, 0
    own: set[int] = set()
    steps = _Steps()
    ends: set[str] = set()  # of calls that fail the execution when their turn comes, perhaps after what follows
    for place, said in enumerate(lines):
        if said == WAIT:
            continue
        message = _read(said, execution_id)
        if message is None:
            return End({BROKEN, *ends}, agent_goes_on=False)
        kind = message["type"]
        if kind == "pong" and not _is_heavy(message):
            continue
        misplaced = {"pong", "hello", "load_failed"} | (set() if offers_steps else _OF_STEPS)
        if kind in misplaced or message["execution_id"] != execution_id:
            return End({BROKEN, *ends}, agent_goes_on=False)
        if kind == "tool_result" and message["call"] in own:
            continue
        if _is_heavy(message):
            is_known = kind in ("call", "complete")
            code = ErrorCode.PAYLOAD_TOO_LARGE.value if is_known else BROKEN
            return End({code, *ends}, agent_goes_on=is_known and _is_quiet(lines[place + 1 :]))
        if kind == "call":
            calls += 1
            if message["call"] in steps.numbers or (message["call"] != calls and not offers_steps):
                return End({BROKEN, *ends}, agent_goes_on=False)
            if _depth(message.get("arguments")) >= _MAX_DEPTH - 1 and message["kind"] == "tool":
                return End({ErrorCode.COMMAND_INVALID.value, *ends})
            if message.get("tool") == OWN and lines[place + 1 : place + 2] == [WAIT]:
                own.add(message["call"])
            if message["kind"] == "checkpoint":
                ends |= _failures_of_state(message["state"])
            steps.numbers.add(message["call"])
        elif kind == "steps":
            if (end := steps.end(message["steps"], calls)) is not None:
                end.codes |= ends
                return end
        elif kind == "diverged":
            return End({ErrorCode.NONDETERMINISTIC_AGENT.value, *ends})
        elif kind == "begin":
            known = message["call"] in steps.numbers
            if message["tool"] != OWN or known or message["call"] > len(steps.numbers) + _MOST_UNTOLD:
                return End({BROKEN, *ends}, agent_goes_on=False)
        elif kind == "tool_result":
            return End({BROKEN, *ends}, agent_goes_on=False)
        elif kind == "emit":
            if message["n"] != pieces:
                return End({ErrorCode.STREAMING_ERROR.value, *ends})
            pieces += 1
        else:
            end = _completed(message) if kind == "complete" else _failed(message, calls)
            end.codes |= ends | ({str(message.get("code"))} & steps.codes)
            end.agent_goes_on = not ends and _is_quiet(lines[place + 1 :])
            return end
    return None


def _completed(message: dict[str, Any]) -> End:
    output = message["output"]
    if max(_depth(output), _depth(message.get("state", {}).get("set"))) > _MAX_DEPTH:
        return End({ErrorCode.COMMAND_INVALID.value})
    failures = _failures_of_state(message.get("state", {}))
    if len(json.dumps(output)) > _MAX_OUTPUT_BYTES:
        failures.add(ErrorCode.PAYLOAD_TOO_LARGE.value)
    return End(failures) if failures else End({DONE}, output=output)


def _failed(message: dict[str, Any], calls: int) -> End:
    codes = {ErrorCode.EXECUTION_FAILED.value}
    if message.get("code") == ErrorCode.TOOL_INVOCATION_FAILED.value and calls:
        codes.add(message["code"])  # perhaps that of a call
    return End(codes, said=message)


def _failures_of_state(state: dict[str, Any]) -> set[str]:
    codes = set()
    if _depth(state.get("set")) > _MAX_DEPTH:
        codes.add(ErrorCode.COMMAND_INVALID.value)
    if any(BIG in key for key in [*state.get("set", {}), *state.get("delete", [])]):
        codes.add(ErrorCode.PAYLOAD_TOO_LARGE.value)
    return codes


def _is_quiet(lines: list[str]) -> bool:
    """Whether nothing follows that may not be said without work."""
    messages = [_read(said) for said in lines]
    return all(message is not None and message["type"] == "pong" and not _is_heavy(message) for message in messages)


def _read(said: str, execution_id: str = "") -> dict[str, Any] | None:
    """The message, if it is one. Of one that is too heavy only the envelope matters, and comes in full."""
    if len(said) + said.count(BIG) * BIG_BYTES > MAX_LINE:
        return None
    try:
        message = json.loads(said.replace("$ID", execution_id), parse_constant=_refuse, parse_float=_finite)
        said.encode()
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str) or _has_half_pair(message):
        return None
    if _is_heavy(message):
        envelope = {"execution_id": "", "call": 0} | message
        return envelope if isinstance(envelope["execution_id"], str) and _is_int(envelope["call"]) else None
    info = TYPES.get(message["type"])
    return message if info is not None and _fits(info, message) and _is_whole(message) else None


def _can_be_own(step: dict[str, Any]) -> bool:
    """Whether an agent whose idempotent tool is OWN can have done that itself."""
    result: Any = step.get("result")
    is_number = isinstance(result, int | float) and not isinstance(result, bool)
    match step["kind"]:
        case "tool":
            return bool(step["tool"] == OWN)
        case "now":
            return is_number
        case "random":
            return is_number and bool(0 <= result < 1)
    return result is None


def _is_whole(message: dict[str, Any]) -> bool:
    """The rules between fields."""
    match message["type"]:
        case "call":
            return all(field in message for field in _NEEDED.get(message["kind"], ()))
        case "tool_result":
            return ("result" in message, "error" in message) == (message["ok"], not message["ok"])
        case "steps":
            return all(map(_is_whole_step, message["steps"]))
        case "hello":
            tools = message.get("tools", [])
            return len(tools) <= 500 and all(len(json.dumps(tool["schema"])) <= 64 * 1024 for tool in tools)
    return True


def _is_whole_step(step: dict[str, Any]) -> bool:
    if (step["kind"] == "tool", "tool" in step) != ("tool" in step, "arguments" in step):
        return False
    if step.get("ok", True):
        return True
    result = step.get("result")
    said = [result.get(key) for key in ("code", "message")] if isinstance(result, dict) else [None]
    return step["kind"] == "tool" and all(isinstance(text, str) for text in said)


def _fits(info: Any, value: Any) -> bool:
    match info:
        case inspect.StrType():
            return isinstance(value, str) and (info.min_length or 0) <= len(value) <= (info.max_length or len(value))
        case inspect.IntType():
            return _is_int(value) and (info.ge or value) <= value <= (info.le or value)
        case inspect.FloatType():
            return (_is_int(value) or isinstance(value, float)) and (info.ge is None or value >= info.ge)
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.NoneType():
            return value is None
        case inspect.LiteralType():
            return value in info.values if isinstance(value, str) else False
        case inspect.UnionType():
            return any(_fits(kind, value) for kind in info.types)
        case inspect.ListType():
            return isinstance(value, list) and all(_fits(info.item_type, item) for item in value)
        case inspect.DictType():
            return isinstance(value, dict) and all(_fits(info.value_type, item) for item in value.values())
        case inspect.StructType():
            return isinstance(value, dict) and all(
                _fits(field.type, value[field.encode_name]) if field.encode_name in value else not field.required
                for field in info.fields
            )
        case inspect.AnyType():
            return True
    raise AssertionError(info)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _finite(number: str) -> float:
    if abs(float(number)) == float("inf"):
        raise ValueError(number)
    return float(number)


def _has_half_pair(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _is_heavy(value: Any) -> bool:
    return _weight(value) > _MAX_WEIGHT


def _weight(value: Any) -> int:
    if isinstance(value, dict):
        return 10 + sum(5 + _weight(item) for item in value.values())
    return 10 + sum(1 + _weight(item) for item in value) if isinstance(value, list) else 0


def _depth(value: Any) -> int:
    items = [*value.values()] if isinstance(value, dict) else value
    return 1 + max(map(_depth, items), default=0) if isinstance(items, list) else 0
