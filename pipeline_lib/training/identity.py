"""What a training depends on, by content: two trainings of one identity give the same model.

File dates, the run's name, test cases, licences and keys at their defaults are not part of it, so editing those never
trains again. A default that changes is a change of results: raise the stage's version with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..config.section import Section
from ..data.crops import TrainingCase
from ..files import fingerprint, read_json
from ..volumes.names import IMAGE, LABELS, RECORD

_RECORD_KEYS = ("targets", "labelled", "shape", "spacing_mm", "window_hu", "voxels", "body")
_LONGEST_VALUE = 200


@dataclass(frozen=True)
class Identity:
    """Named parts: short values as JSON, long ones as their fingerprints."""

    parts: Mapping[str, str]

    @classmethod
    def from_training(
        cls,
        settings: Section,
        ignored: Sequence[str],
        cases: Sequence[TrainingCase],
        inputs: Mapping[str, str],
        version: str,
    ) -> Identity:
        """The identity of a training with `settings`, but for the keys `ignored`, on `cases`, in their order.

        `inputs` are the fingerprints of all else that is learned from, `version` that of the code.
        """
        values = {
            name: value
            for name, value in settings.model_dump(mode="json", exclude_defaults=True).items()
            if name not in ignored
        }
        parts = {name: _short(json.dumps(value, sort_keys=True)) for name, value in values.items()}
        contents: dict[tuple[str, str], str] = {}
        for case in cases:
            key = (case.dataset, case.name)
            contents[key] = contents.get(key) or case_fingerprint(case)
        ordered = [contents[case.dataset, case.name] for case in cases]
        return cls({"version": version, **parts, **inputs, "training cases": fingerprint(*ordered)})

    @property
    def fingerprint(self) -> str:
        return fingerprint(json.dumps(dict(self.parts), sort_keys=True))

    def differences(self, other: Mapping[str, str]) -> list[str]:
        """Names of the parts in which `other`, the parts of another identity, differs."""
        return sorted(name for name in self.parts.keys() | other.keys() if self.parts.get(name) != other.get(name))


def case_fingerprint(case: TrainingCase) -> str:
    """The content of a case: image and labels, which ROIs are labelled, pool, existence scores, record.

    Scores count by what they were computed from, where that is known: a GPU may round them otherwise the next time.
    """
    content = read_json(case.folder / RECORD)
    record = json.dumps({key: content[key] for key in _RECORD_KEYS}, sort_keys=True)
    # A record of an earlier version does not know its content: the files stand for it.
    voxels = content.get("content") or fingerprint(case.folder / IMAGE, case.folder / LABELS)
    arrays = (np.asarray(case.labelled, bool), np.asarray(case.pool, np.int64))
    scores: str | bytes = b""
    if case.scores is not None:
        scores = case.scored_by or np.asarray(case.scores, np.float32).tobytes()
    return fingerprint(
        case.dataset, case.name, record, voxels, scores, *(np.ascontiguousarray(array).tobytes() for array in arrays)
    )


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST_VALUE else fingerprint(value)
