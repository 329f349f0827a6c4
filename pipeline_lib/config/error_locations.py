"""Where in the config a pydantic error lies, read from the JSON schema of the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def without_tags(model: type[Any], location: tuple[Any, ...]) -> tuple[Any, ...]:
    """A location of a pydantic error without the kinds of unions, which are not keys of the config."""
    return tuple(part for part, schema in _walk(model, location) if part not in _kinds(schema))


def keys_at(model: type[Any], location: tuple[Any, ...]) -> list[str]:
    """Field names of the section that a location of a pydantic error leads to, through its JSON schema."""
    whole = model.model_json_schema()
    here = whole
    for part, schema in _walk(model, location):
        here = _kinds(schema).get(part) or _entry(schema, part, whole)
    return sorted(_resolve(here, whole).get("properties", {}))


def _walk(model: type[Any], location: tuple[Any, ...]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Each part of a location with the schema in which it is looked up."""
    whole = model.model_json_schema()
    here = whole
    for part in location:
        here = _resolve(here, whole)
        yield part, here
        here = _kinds(here).get(part) or _entry(here, part, whole)


def _kinds(schema: dict[str, Any]) -> dict[Any, dict[str, Any]]:
    """The schemas of a union by the values of its `kind`; none if this is not such a union."""
    mapping = schema.get("discriminator", {}).get("mapping", {})
    return {kind: {"$ref": reference} for kind, reference in mapping.items()}


def _entry(schema: dict[str, Any], part: Any, whole: dict[str, Any]) -> dict[str, Any]:
    """Schema of one entry of a section, mapping or list, or of one of its alternatives; empty if there is none."""
    alternatives = (*schema.get("anyOf", ()), *schema.get("oneOf", ()))
    options = [schema, *(_resolve(option, whole) for option in alternatives)]
    return next((inner for option in options if (inner := _inside(option, part))), {})


def _inside(schema: dict[str, Any], part: str | int) -> dict[str, Any] | None:
    """Schema of one entry of a section, mapping or list; None if this schema has no such entry."""
    if part in schema.get("properties", {}):
        return schema["properties"][part]
    if isinstance(part, int):
        return schema.get("items")
    named = next(iter(schema.get("patternProperties", {}).values()), None)
    return named or schema.get("additionalProperties") or None


def _resolve(part: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    return schema["$defs"][part["$ref"].rsplit("/", 1)[1]] if "$ref" in part else part
