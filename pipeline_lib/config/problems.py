"""What pydantic finds wrong with a config, as one line for its author."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from ..errors import UserError
from .section import Section

_SEE = "see config/README.md for the key"
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "list": "a list",
    "dict": "a section of keys",
    "mapping": "a section of keys",
    "model": "a section of keys",
}
"""First word of pydantic's error types → what the value must be."""


def most_helpful(error: ValidationError, model: type[Any], where: str) -> UserError:
    """The problem that helps most: a misspelt key, then a wrong value, then what is missing, often because of those."""
    problems = error.errors()
    schema = model.model_json_schema()
    first = min(problems, key=lambda problem: _rank(problem, schema))
    shown, allowed, tags = _place(first["loc"], schema)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    wrong, remedy = _in_words(first, allowed, tags)
    return UserError(f"{where}: {shown or '(top level)'}", f"{wrong}{more}", remedy)


def _rank(problem: Mapping[str, Any], schema: dict[str, Any]) -> float:
    """0 to 1 for a misspelt key, the nearer to a known one the lower; 2 for other mistakes; 3 for what is missing."""
    if problem["type"] == "missing":
        return 3
    if problem["type"] == "extra_forbidden":
        _, allowed, _ = _place(problem["loc"], schema)
        key = str(problem["loc"][-1])
        for name in _nearest(key, allowed):
            return 1 - difflib.SequenceMatcher(None, key, name).ratio()
    return 2


def _nearest(key: str, allowed: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(key, allowed, n=1)


def _in_words(problem: Mapping[str, Any], allowed: Sequence[str], tags: Sequence[str]) -> tuple[str, str]:
    """What is wrong, and what to do."""
    kind, context, value = problem["type"], problem.get("ctx", {}), problem["input"]
    given = "" if isinstance(value, Mapping | Section) else f", given {value!r}"
    if kind == "extra_forbidden":
        nearest = _nearest(str(problem["loc"][-1]), allowed)
        meant = f"did you mean `{nearest[0]}`? " if nearest else ""
        return "is not a known key", f"{meant}allowed here: {', '.join(allowed) or 'see config/README.md'}"
    if kind == "missing":
        return "is missing", "add it; config/README.md describes it"
    if kind == "value_error":
        return str(context["error"]), _SEE
    if kind == "union_tag_not_found":
        return f"has no {context['discriminator'].strip(chr(39))}", f"add it; choose from: {', '.join(tags)}"
    if kind == "union_tag_invalid":
        tag, key = context["tag"], context["discriminator"].strip("'")
        return f"has an unknown {key}, {tag!r}", f"choose from: {context['expected_tags']}"
    if kind in ("too_short", "too_long"):
        few = kind == "too_short"
        count = context["min_length" if few else "max_length"]
        return f"must have {'at least' if few else 'at most'} {count} entries, given {context['actual_length']}", _SEE
    wanted = _KINDS.get(kind.split("_")[0])
    if wanted is not None and kind.endswith(("_type", "_parsing", "_from_float")):
        remedy = f"write [{value}]" if wanted == "a list" and isinstance(value, int | float | str) else _SEE
        remedy = "fill it in, or leave the key out if it is optional" if value is None else remedy
        return f"must be {wanted}{given}", remedy
    return f"{problem['msg'].replace('Input should', 'must').replace('String should', 'must')}{given}", _SEE


def _place(location: Sequence[Any], schema: dict[str, Any]) -> tuple[str, list[str], list[str]]:
    """A location of a pydantic error: its keys with dots, the keys allowed beside its last one, and its union's kinds.

    pydantic's names of a union's members, which are not keys of the config, are left out.
    """
    shown: list[str] = []
    here, above = schema, schema
    for part in location:
        options = _options(here, schema)
        member = next((option["discriminator"]["mapping"].get(part) for option in options if _is_union(option)), None)
        if member is not None:
            here = {"$ref": member}
            continue
        inner = next((found for option in options if (found := _inside(option, part)) is not None), None)
        if inner is None and not str(part).replace("-", "_").isidentifier():
            continue
        shown.append(str(part))
        above, here = here, inner or {}
    allowed = {name for option in _options(above, schema) for name in option.get("properties", {})}
    tags = [tag for option in _options(here, schema) if _is_union(option) for tag in option["discriminator"]["mapping"]]
    return ".".join(shown), sorted(allowed), tags


def _is_union(schema: Mapping[str, Any]) -> bool:
    return "mapping" in schema.get("discriminator", {})


def _options(here: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """A schema and, where it is a union, its members."""
    here = _resolved(here, schema)
    members = (*here.get("anyOf", ()), *here.get("oneOf", ()))
    return [here, *(option for member in members for option in _options(member, schema))]


def _inside(schema: Mapping[str, Any], part: str | int) -> dict[str, Any] | None:
    """Schema of one entry of a section, mapping or list; None if this schema has no such entry."""
    if part in schema.get("properties", {}):
        return schema["properties"][part]
    if isinstance(part, int):
        prefix = schema.get("prefixItems", ())
        return prefix[part] if part < len(prefix) else schema.get("items")
    named = next(iter(schema.get("patternProperties", {}).values()), None)
    return named or schema.get("additionalProperties") or None


def _resolved(part: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    return schema["$defs"][part["$ref"].rsplit("/", 1)[1]] if "$ref" in part else part
