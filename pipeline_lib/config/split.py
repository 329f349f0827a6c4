"""How a data set's cases are split into those for training and those for testing, as its author may write it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator


def _inside_its_folder(case: str) -> str:
    """A case's name, which becomes part of paths and of a Snakemake wildcard."""
    if not case.strip() or case in (".", ".."):
        raise ValueError(f"{case!r} is not the name of a case")
    bad = sorted({character for character in case if character in "/\\{}" or not character.isprintable()})
    if bad:
        raise ValueError(f"case {case!r} has {bad[0]!r} in its name; rename its files")
    return case


CaseName = Annotated[str, AfterValidator(_inside_its_folder)]
Split = Literal["every_fifth", "all_training"] | dict[CaseName, Literal["train", "test"]]

_SPLIT_EXAMPLES = (
    "write every_fifth, all_training, {train: [case_1, case_2], test: [case_3]} or {case_1: train, case_3: test}"
)


def with_lists_of_names(schema: dict[str, Any]) -> None:
    """For editors: `split` may list the names of each part too, before it becomes case → part."""
    names = {"type": "array", "items": {"type": "string"}}
    schema["anyOf"].append({"type": "object", "additionalProperties": names})


def split_by_case(split: Any, cases: Any) -> Any:
    """A split as case → part; raises ValueError with examples for what is none."""
    if split in ("every_fifth", "all_training"):
        return split
    if not isinstance(split, Mapping) or not split:
        raise ValueError(f"`split` is {split!r}; {_SPLIT_EXAMPLES}")
    if all(part in ("train", "test") for part in split.values()):
        return split
    if not set(split) <= {"train", "test"} or not all(isinstance(names, list | tuple) for names in split.values()):
        raise ValueError(f"`split` has {', '.join(str(key) for key in list(split)[:3])}; {_SPLIT_EXAMPLES}")
    listed = {part: [str(name) for name in names] for part, names in split.items()}
    both = sorted(set(listed.get("train", ())) & set(listed.get("test", ())))
    if both:
        raise ValueError(f"`split` lists {both[0]} under both train and test")
    if len(listed) == 1 and isinstance(cases, list | tuple):
        (part,) = listed
        other = "test" if part == "train" else "train"
        listed[other] = [str(case) for case in cases if str(case) not in listed[part]]
    return {name: part for part, names in listed.items() for name in names}
