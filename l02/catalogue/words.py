"""JSON Schemas in words that fit into a cell of a table."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from l02.catalogue.schemas import REFERENCE, Schema


def fields_words(schema: Schema) -> str:
    """All fields of an object: `name` type, `name`? type = default."""
    described = []
    for name, field in schema.get("properties", {}).items():
        mark = "" if is_required(schema, name) else "?"
        default = default_words(field)
        described.append(f"`{name}`{mark} {type_words(field)}" + (f" = {default}" if default else ""))
    return "; ".join(described) or "–"


def is_required(schema: Schema, name: str) -> bool:
    """Whether the field must be there."""
    return name in schema.get("required", ())


def default_words(field: Schema) -> str:
    """The default if it is one that says something; a nested object's own table has those of its fields."""
    default = field.get("default")
    return "" if default in (None, [], {}) or isinstance(default, dict) else f"`{_json(default)}`"


def type_words(schema: Schema) -> str:
    """What the value may be."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(REFERENCE)
        return f"[{name}](#{name.lower()})"
    for key in ("allOf", "anyOf"):
        if key in schema:
            return _either([type_words(item) for item in schema[key]])
    if "enum" in schema:
        return _either([f"`{_json(item)}`" for item in schema["enum"]])
    if "const" in schema:
        return f"`{_json(schema['const'])}`"
    return _OF_TYPE.get(schema.get("type", ""), _any)(schema)


def _either(words: list[str]) -> str:
    return " or ".join([*([", ".join(words[:-1])] if words[:-1] else []), words[-1]])


def _any(schema: Schema) -> str:
    return "any JSON"


def _string(schema: Schema) -> str:
    if schema.get("contentEncoding") == "base64":
        return "string (base64)"
    if schema.get("format") == "date-time":
        return "string (RFC 3339)"
    least, most = schema.get("minLength"), schema.get("maxLength")
    if most is None:
        return "string"
    return f"string, {least} to {most} characters" if least else f"string, at most {most} characters"


_BOUNDS = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))


def _number(schema: Schema) -> str:
    bounds = [f"{sign} {schema[key]:,}" for key, sign in _BOUNDS if key in schema]
    return " ".join([schema["type"], " and ".join(bounds)]).strip()


def _list(schema: Schema) -> str:
    return f"list of {type_words(schema.get('items', {}))}"


def _object(schema: Schema) -> str:
    values = schema.get("additionalProperties")
    if "properties" in schema:
        return "object with " + ", ".join(f"`{name}`" for name in schema["properties"])
    return f"map of {type_words(values)}" if isinstance(values, dict) else "object"


_OF_TYPE: dict[str, Callable[[Schema], str]] = {
    "string": _string,
    "integer": _number,
    "number": _number,
    "boolean": lambda schema: "boolean",
    "null": lambda schema: "null",
    "array": _list,
    "object": _object,
}


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
