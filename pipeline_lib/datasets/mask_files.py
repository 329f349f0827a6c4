"""Where a case's masks lie: one file for each structure, found by the layout's template and the names of the ROIs."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

from ..config.label_names import MatchedNames, match_names
from ..config.labelling import LabelledRule, Parts
from ..errors import UserError


@dataclass(frozen=True)
class FoundMasks:
    """The mask files of each target that a case labels, one for each of its parts, and how their names matched.

    A file that the case must have and lacks is named after its target. `names` is None where targets are found by
    their own names alone.
    """

    masks: Mapping[str, tuple[Path, ...]]
    names: MatchedNames | None = None


def find_masks(
    root: Path,
    template: str,
    targets: tuple[str, ...],
    names: Mapping[str, Parts],
    labelled: LabelledRule | tuple[str, ...],
) -> FoundMasks:
    """The masks of one case, whose `template` below `root` has only `{structure}` to be filled in.

    `names` are those of each ROI (labelling.label_names); without any, a structure's file has its name. Raises
    UserError if two files are the same ROI's.
    """
    if not names:
        paths = {target: (root / template.format(structure=target),) for target in targets}
        if labelled == "present":
            paths = {target: files for target, files in paths.items() if files[0].is_file()}
        return FoundMasks(paths)
    files = _structures(root, template)
    try:
        matched = match_names(files, names)
    except ValueError as error:
        folder = (root / template).parent
        raise UserError(str(folder), str(error), "remove one of them, or correct `labels`") from error
    wanted = matched.found if labelled == "present" else names if labelled == "all" else labelled
    masks = {
        target: tuple(files[name] for name in matched.found[target])
        if target in matched.found
        else (root / template.format(structure=target),)
        for target in targets
        if target in wanted
    }
    return FoundMasks(masks, matched)


def _structures(root: Path, template: str) -> dict[str, Path]:
    """Structure → its file, in the order of the names, for all files that the template fits."""
    fixed, pattern = "", ""
    for text, field, _, _ in Formatter().parse(template):
        fixed += glob.escape(text)
        pattern += re.escape(text)
        if field is not None:
            fixed += "*"
            pattern += "(?P=structure)" if "(?P<structure>" in pattern else "(?P<structure>[^/]+)"
    found = {}
    for path in sorted(root.glob(fixed)):
        if (match := re.fullmatch(pattern, path.relative_to(root).as_posix())) and path.is_file():
            found[match["structure"]] = path
    return found
