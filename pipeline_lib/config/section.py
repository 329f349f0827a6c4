"""What every section of the config has in common."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from ..progress import say

Millimetres = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*$")]
"""A name that is safe in a path and in a Snakemake wildcard."""


class Section(BaseModel):
    """A frozen part of the config in which an unknown key is an error.

    Keys in `renamed` (old → new) are accepted in their old spelling for one version, with one notice per process.
    Keys in `removed` (key → why) are rejected with a line that says so.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    renamed: ClassVar[Mapping[str, str]] = {}
    removed: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _translate_old_keys(cls, content: Any) -> Any:
        if not isinstance(content, Mapping):
            return content
        for key, why in cls.removed.items():
            if key in content:
                raise ValueError(f"the option `{key}` has been removed, because {why}; delete the key")
        if cls.renamed.keys().isdisjoint(content):
            return content
        present = dict(content)
        for old, new in cls.renamed.items():
            if old not in present:
                continue
            if new in present:
                raise ValueError(f"`{old}` is the old name of `{new}`: give only `{new}`")
            present[new] = present.pop(old)
            _notice(old, new)
        return present

    @model_serializer(mode="wrap")
    def _with_its_kind(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keep `kind`, by which a union is read again, also where values that equal their default are left out."""
        kind = {name: value for name, value in self if name == "kind"}
        return {**kind, **serialise(self)}


def text_without_defaults(section: Section) -> str:
    """JSON without the values that equal their default: a new key with its default changes nothing in it."""
    return section.model_dump_json(indent=2, exclude_defaults=True)


def digest(*parts: Section | str) -> str:
    """A short name for the content of sections (without defaults) and texts."""
    texts = (text_without_defaults(part) if isinstance(part, Section) else part for part in parts)
    return hashlib.sha256("".join(f"{text}\n" for text in texts).encode()).hexdigest()[:12]


@cache
def _notice(old: str, new: str) -> None:
    say(f"notice: the config key `{old}` is now called `{new}`; the old name will be refused in the next version")
