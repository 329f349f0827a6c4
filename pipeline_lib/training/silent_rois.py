"""ROIs that the student never finds, even where they are labelled: warned of while there is time to stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_WINDOWS = 10
_QUIET_SHARE = 0.3
"""Share of the training before which nothing is said: small ROIs are found late."""
_MIN_SAMPLES = 20
_SILENT_BELOW = 0.01


@torch.no_grad()
def present_and_found(logits: Tensor, labels: Tensor, labelled: Tensor) -> dict[str, Tensor]:
    """Counts for the history: which samples hold labelled voxels of which ROI, and the mean probability inside them.

    `logits` B K D H W, `labels` bool B K D H W, `labelled` bool B K → `present` bool B K, `found` float32 B K (0 where
    not present).
    """
    pairs = labelled.flatten().nonzero().squeeze(1)
    inside = labels.flatten(0, 1).flatten(1).index_select(0, pairs)
    voxels = inside.sum(1)
    probability = torch.sigmoid(logits.flatten(0, 1).flatten(1).index_select(0, pairs)[inside].float())
    rows = torch.repeat_interleave(voxels)
    totals = torch.zeros(len(pairs), device=logits.device).index_add(0, rows, probability)
    present = torch.zeros_like(labelled).flatten().index_copy(0, pairs, voxels > 0)
    found = torch.zeros(labelled.numel(), device=logits.device).index_copy(0, pairs, totals / voxels.clamp(min=1))
    return {"present": present.view_as(labelled), "found": found.view_as(labelled)}


class SilentRois:
    """Watches the mean predicted probability inside the labelled voxels of each ROI.

    At the end of every tenth of the training, from 30 % on, a ROI is silent if this mean over the tenth is below 0.01
    in at least 20 samples that hold it. Each ROI is reported once.
    """

    def __init__(self, names: Sequence[str], steps: int) -> None:
        self.names, self.steps = tuple(names), steps
        self.silent: list[str] = []
        self._window = 0
        self._present = dict.fromkeys(names, 0.0)
        self._found = dict.fromkeys(names, 0.0)

    def note(self, step: int, values: Mapping[str, float], batch_size: int) -> list[str]:
        """Count what was seen when `step` steps were done; returns warnings.

        `values` may have, for each ROI, `present/ROI`, the share of samples that hold labelled voxels of it, and
        `found/ROI`, the mean over all samples of the probability inside these voxels (0 where there are none).
        """
        for name in self.names:
            self._present[name] += batch_size * values.get(f"present/{name}", 0.0)
            self._found[name] += batch_size * values.get(f"found/{name}", 0.0)
        window = step * _WINDOWS // self.steps
        if window == self._window:
            return []
        self._window = window
        warnings = self._judge() if step >= _QUIET_SHARE * self.steps else []
        self._present, self._found = dict.fromkeys(self.names, 0.0), dict.fromkeys(self.names, 0.0)
        return warnings

    def state_dict(self) -> dict[str, Any]:
        return {
            "silent": list(self.silent),
            "window": self._window,
            "present": dict(self._present),
            "found": dict(self._found),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.silent, self._window = list(state["silent"]), state["window"]
        self._present, self._found = dict(state["present"]), dict(state["found"])

    def _judge(self) -> list[str]:
        warnings = []
        for name in self.names:
            samples, found = round(self._present[name]), self._found[name]
            if name in self.silent or samples < _MIN_SAMPLES or found >= _SILENT_BELOW * samples:
                continue
            self.silent.append(name)
            warnings.append(
                f"{name} is not learned: its mean probability inside its own labels was {found / samples:.2%} in the "
                f"last {samples} crops that hold it; probably it fills too few voxels of a crop or the learning rate "
                f"is too low: look at its labels, raise patches.foreground_fraction, or train longer"
            )
        return warnings
