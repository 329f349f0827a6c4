"""The structures of a DICOM folder as the labels of a case: matched with ROIs by name, read when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Self

import numpy as np

from ...config.label_names import MatchedNames, match_names
from ...config.labelling import Labelling, label_names
from ...errors import UserError
from .case import DicomCase


@dataclass(frozen=True)
class DicomLabels:
    """The ROIs that a case's contours and segments make (case_labels.CaseLabels).

    A structure that is not drawn is unknown. A segment without a voxel is labelled, and absent.
    """

    case: DicomCase
    labelled: tuple[str, ...]
    names: MatchedNames

    @classmethod
    def of(cls, case: DicomCase, targets: tuple[str, ...], labelling: Labelling) -> Self:
        """The labels of `case`; without names in `labelling`, a structure has its target's name.

        Raises UserError if two of its structures are the same part of a ROI.
        """
        wanted = label_names(labelling.labels) or {target: ((target,),) for target in targets}
        try:
            matched = match_names(case.names, wanted)
        except ValueError as error:
            raise UserError(str(case.folder), str(error), "rename one of them, or correct `labels`") from error
        rule = labelling.labelled
        labelled = matched.found if rule == "present" else wanted if rule == "all" else rule
        return cls(case, tuple(target for target in targets if target in labelled), matched)

    def mask(self, target: str) -> np.ndarray:
        """Where a labelled target is; raises UserError if it is not drawn, or not as a mask can show it."""
        if target not in self.names.found:
            has = ", ".join(self.case.names)
            remedy = f"correct `labels`, or write `labelled: present` if {target} is unknown where it is not drawn"
            raise UserError(str(self.case.folder), f"draws no {target} (it draws {has})", remedy)
        return reduce(np.logical_or, (self.case.mask(name) for name in self.names.found[target]))

    def unknown(self, target: str) -> None:
        return None

    def parts(self, target: str) -> tuple[str, ...]:
        return ()
