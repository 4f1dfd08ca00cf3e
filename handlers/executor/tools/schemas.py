"""Do arguments fit a tool's schema? The schema is somebody else's, and some can make a check take for ever.

A backtracking pattern such as `(a+)+$`, or definitions that refer to one another, cost more than any node has, and even
plain keywords cost the product of two sizes. So only small arguments against small schemas of plain keywords are
checked in the node itself; the others in a process of this file, which the kernel ends when a check has used up its
time (`l02.handlers.executor.tools.checks`).
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import Any

import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import extend, validator_for
from msgspec import Struct
from referencing import Registry

CHECK_SECONDS = 1.0
"""Of processor time, so that a busy machine does not make a good schema a bad one."""
_MEMORY_BYTES = 1 << 30
_NICENESS = 10
_SHOWN_CHARACTERS = 500
_ONE_SCHEMA = {"items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames"}
_SCHEMAS_BY_NAME = {"properties", "dependentSchemas"}
_SCHEMAS = {"allOf", "anyOf", "oneOf", "prefixItems"}
_VALUES = {
    *("$comment", "$id", "$schema", "default", "deprecated", "description", "examples", "format", "readOnly", "title"),
    *("const", "enum", "type", "required", "dependentRequired", "minProperties", "maxProperties", "writeOnly"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength"),
    *("minItems", "maxItems", "minContains", "maxContains"),
}
# What else is known about a schema is looked up here and nowhere else: never over the network.
_NO_OTHERS: Registry[Any] = Registry()


class Question(Struct, frozen=True, array_like=True):
    """Do these arguments fit this schema?"""

    schema: Any
    arguments: Any


class Misfit(Struct, frozen=True, array_like=True):
    """What does not fit, and where (a JSON path); `broken` if it is the schema that is at fault."""

    message: str
    path: str = "$"
    broken: bool = False


class Verdict(Struct, frozen=True, array_like=True):
    """What was found, and how many seconds of processor time that took."""

    seconds: float
    misfit: Misfit | None


def is_plain(schema: Any) -> bool:
    """Whether a check can cost no more than the product of the sizes of schema and arguments."""
    if not isinstance(schema, dict):
        return isinstance(schema, bool)
    for keyword, value in schema.items():
        if keyword in _VALUES:
            continue
        if keyword in _ONE_SCHEMA:
            inner = [value]
        elif keyword in _SCHEMAS_BY_NAME and isinstance(value, dict):
            inner = [*value.values()]
        elif keyword in _SCHEMAS and isinstance(value, list):
            inner = value
        else:
            return False
        if not all(map(is_plain, inner)):
            return False
    return True


def _multiple_of(_: Any, step: Any, value: Any, __: Any) -> Iterator[ValidationError]:
    """In decimals, as they are written: 19.99 is a multiple of 0.01."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and _decimal(value) % _decimal(step):
        yield ValidationError(f"{value!r} is not a multiple of {step!r}")


def _decimal(number: float) -> Fraction:
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


@cache
def _exact(validator: Any) -> Any:
    return extend(  # type: ignore[no-untyped-call]
        validator, {"multipleOf": _multiple_of}
    )


def misfit(question: Question) -> Misfit | None:
    """The most telling error, None if the arguments fit."""
    try:
        validator = _exact(validator_for(question.schema, default=Draft202012Validator))
        error = best_match(validator(question.schema, registry=_NO_OTHERS).iter_errors(question.arguments))
    except Exception as broken:  # the library does not say what a schema that is none can make it raise
        return Misfit(f"{type(broken).__name__}: {broken}"[:_SHOWN_CHARACTERS], broken=True)
    return None if error is None else Misfit(error.message[:_SHOWN_CHARACTERS], error.json_path)


def main() -> None:
    """Answer questions, a line each; a check that takes too long or too much ends the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(_NICENESS)
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, CHECK_SECONDS)
        began = time.process_time()
        found = misfit(msgspec.json.decode(line, type=Question))
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(msgspec.json.encode(Verdict(time.process_time() - began, found)) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(0)
