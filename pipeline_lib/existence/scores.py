"""Existence scores: from the frozen ROI-aware network's structures to the ROIs ([LC], section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor, nn

from ..config.existence import Existence
from ..errors import UserError
from ..networks.model_file import load_roi_aware_model
from ..networks.probabilities import probabilities
from .calibration import Calibration, read_calibration

_MIRRORS = [axes for count in range(4) for axes in combinations((2, 3, 4), count)]
"""The eight ways to mirror a patch along D, H and W (axes of B 1 D H W); the first leaves it as it is."""


class RoiScorer(nn.Module):
    """Scores patches with a frozen network of `available` structures: B 1 D H W → B K.

    `structures` has, for each ROI, those whose highest score is the ROI's; a tumour's are its organ's. UserError if
    one of them is none of the network's.
    """

    def __init__(
        self,
        network: nn.Module,
        available: Sequence[str],
        structures: Sequence[Sequence[str]],
        calibration: Calibration | None = None,
        average_flips: bool = False,
    ) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.calibration, self.average_flips = calibration, average_flips
        self.columns = [[_place(name, available) for name in names] for names in structures]

    def forward(self, images: Tensor) -> Tensor:
        """Scores of the ROIs, float32 B K, of patches B 1 D H W in −1…1."""
        return self.roi_scores(self.logits(images))

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """The network's logits of its S structures, M B S, of patches B 1 D H W.

        M is 8 with `average_flips`, one for each way to mirror the patch, the patch as it is first; else 1.
        """
        mirrors = _MIRRORS if self.average_flips else _MIRRORS[:1]
        return torch.stack([self.network(images.flip(axes)) for axes in mirrors])

    def roi_scores(self, logits: Tensor) -> Tensor:
        """Scores of the ROIs, float32 B K, from logits M B S."""
        calibrated = logits if self.calibration is None else self.calibration(logits)
        scores = probabilities(calibrated).mean(0)
        return torch.stack([scores[:, columns].amax(1) for columns in self.columns], dim=1)

    def train(self, mode: bool = True) -> RoiScorer:
        """Does nothing: a frozen network's BatchNorm must not learn."""
        return self


def load_scorer(
    model: Path,
    metrics: Path | None,
    structures: Sequence[Sequence[str]],
    existence: Existence,
    device: torch.device,
    average_flips: bool,
) -> RoiScorer:
    """The scorer of the ROI-aware network in `model`; `metrics` is its metrics.json, which holds the calibration."""
    network, description = load_roi_aware_model(model, device)
    available = description["structures"]
    calibration = None
    if existence.calibration != "none":
        if metrics is None:
            raise UserError("existence.calibration", "needs the ROI-aware network's metrics.json", "give it as input")
        calibration = read_calibration(metrics, existence.calibration, available).to(device)
    return RoiScorer(network, available, structures, calibration, average_flips).to(device)


def _place(name: str, available: Sequence[str]) -> int:
    if name not in available:
        raise UserError(
            "rois.structures", f"{name} is no structure of the ROI-aware network", f"choose from {', '.join(available)}"
        )
    return list(available).index(name)
