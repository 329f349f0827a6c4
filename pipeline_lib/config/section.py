"""What every section of the config has in common."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..progress import say

Millimetres = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*$")]
"""A name that is safe in a path and in a Snakemake wildcard."""


class Section(BaseModel):
    """A frozen part of the config in which an unknown key is an error.

    `renamed` maps the old name of a key to its present one. Old names are accepted, with one notice per process.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    renamed: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _accept_old_names(cls, content: Any) -> Any:
        if not isinstance(content, Mapping) or cls.renamed.keys().isdisjoint(content):
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

    def without_defaults(self) -> dict[str, Any]:
        """What this section says beyond its defaults, as JSON-able values; the discriminator of a union always stays.

        So a key that is added with its default changes nothing here.
        """
        return {
            name: _json_able(getattr(self, name))
            for name, field in type(self).model_fields.items()
            if (get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1)
            or field.is_required()
            or getattr(self, name) != field.get_default(call_default_factory=True)
        }


def _json_able(value: Any) -> Any:
    if isinstance(value, Section):
        return value.without_defaults()
    if isinstance(value, Mapping):
        return {str(key): _json_able(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_json_able(entry) for entry in value]
    return value


@cache
def _notice(old: str, new: str) -> None:
    say(f"notice: the config key `{old}` is now called `{new}`; the old name will be refused in the next version")
