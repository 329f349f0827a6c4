"""Calibration of existence scores: temperature and Platt scaling, fitted per structure on held-out cases.

Beyond the paper, and off by default. Guo et al.: "On calibration of modern neural networks", ICML 2017; Platt:
"Probabilistic outputs for support vector machines", 1999.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn

from ..errors import UserError
from ..files import read_json

Kind = Literal["temperature", "platt"]

Line = tuple[float, float]
"""Slope and offset that turn a logit into a calibrated one."""

FEWEST = 5
"""Positive and negative patches that a structure needs for a fit of its own."""

UNCHANGED: Line = (1.0, 0.0)


class Calibration(nn.Module):
    """Calibrated logits, slope · logit + offset per structure: … S → … S."""

    def __init__(self, slopes: Sequence[float], offsets: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("slopes", torch.tensor(slopes, dtype=torch.float32))
        self.register_buffer("offsets", torch.tensor(offsets, dtype=torch.float32))

    def forward(self, logits: Tensor) -> Tensor:
        return logits.float() * self.slopes + self.offsets


def fit(kind: Kind, logits: NDArray[np.floating], present: NDArray[np.bool_]) -> Line | None:
    """Slope and offset that minimise the cross-entropy of one structure's logits (N) against `present` (N).

    Temperature scaling has a slope alone. None if there are too few positive or negative patches, so that nothing
    could be said about new ones. Platt's smoothed targets keep the fit finite where a threshold separates all patches.
    """
    positives, negatives = int(present.sum()), int((~present).sum())
    if min(positives, negatives) < FEWEST:
        return None
    targets = np.where(present, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def cross_entropy(parameters: NDArray[np.float64]) -> float:
        values = np.exp(parameters[0]) * logits + (parameters[1] if kind == "platt" else 0.0)
        return float(np.mean(np.logaddexp(0, values) - targets * values))

    start = np.zeros(2 if kind == "platt" else 1)
    found = minimize(cross_entropy, start, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-9}).x
    return float(np.exp(found[0])), float(found[1]) if kind == "platt" else 0.0


def read_calibration(metrics: Path, kind: Kind, structures: Sequence[str]) -> Calibration:
    """The calibration that metrics.json holds for `structures`; where none could be fitted, that of all together."""
    lines = calibration_lines(read_json(metrics), kind, structures, metrics).values()
    return Calibration([slope for slope, _ in lines], [offset for _, offset in lines])


def calibration_lines(
    content: Mapping[str, Any], kind: Kind | Literal["none"], structures: Sequence[str], metrics: Path
) -> dict[str, Line]:
    """Slope and offset of each of `structures` in the `content` of the file `metrics`."""
    if kind == "none":
        return dict.fromkeys(structures, UNCHANGED)
    try:
        common = content["calibration"][kind]
        fitted = {name: content["structures"][name]["calibration"][kind] or common for name in structures}
        return {name: (each["slope"], each["offset"]) for name, each in fitted.items()}
    except (KeyError, TypeError) as error:
        remedy = "rerun the stage roi_aware, or set existence.calibration to none"
        raise UserError(str(metrics), f"holds no {kind} calibration of these structures", remedy) from error
