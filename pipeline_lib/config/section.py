"""What every section of the config has in common."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..progress import say

Millimetres = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*$")]
"""A name that is safe in a path and in a Snakemake wildcard."""


class Section(BaseModel):
    """A frozen part of the config in which an unknown key is an error.

    Keys in `RENAMED` (old → new) are accepted in their old spelling for one version, with a notice. Keys in `REMOVED`
    (key → why) are rejected with a line that says so.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    RENAMED: ClassVar[Mapping[str, str]] = {}
    REMOVED: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _translate_old_keys(cls, content: Any) -> Any:
        if not isinstance(content, Mapping):
            return content
        for key, why in cls.REMOVED.items():
            if key in content:
                raise ValueError(f"the option `{key}` has been removed, because {why}; delete the key")
        for old, new in cls.RENAMED.items():
            if old in content and new in content:
                raise ValueError(f"`{old}` is the old spelling of `{new}`; give only `{new}`")
            if old in content:
                _announce(cls.__name__, old, new)
        return {cls.RENAMED.get(key, key): value for key, value in content.items()}


@cache
def _announce(section: str, old: str, new: str) -> None:
    """Print the notice about an old key, once per process."""
    say(f"notice: {section}: `{old}` is now spelled `{new}`; the next version will reject the old spelling")
