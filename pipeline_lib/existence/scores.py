"""Existence scores: from the frozen ROI-aware network's structures to the ROIs ([LC], section 2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..networks.model_file import load_roi_aware_model
from ..networks.probabilities import probabilities

Scorer = Callable[[Tensor], Tensor]
"""Existence scores of the ROIs, float32 B K, of patches B 1 D H W in −1…1; NaN: nothing is known."""


class RoiScorer(nn.Module):
    """Scores patches with a frozen network of `available` structures: B 1 D H W → B K.

    `structures` has, for each ROI, those whose highest score is the ROI's; a tumour's are its organ's. UserError if
    the network does not score one of them.
    """

    def __init__(self, network: nn.Module, available: Sequence[str], structures: Sequence[Sequence[str]]) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.columns = [[_column(name, available) for name in names] for names in structures]

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Scores of the ROIs, float32 B K, of patches B 1 D H W in −1…1."""
        scores = probabilities(self.network(images))
        return torch.stack([scores[:, columns].amax(1) for columns in self.columns], dim=1)

    def train(self, mode: bool = True) -> RoiScorer:
        """Does nothing: a frozen network's BatchNorm must not learn."""
        return self


class SegmentationScorer:
    """Scores patches with a frozen segmentation network of the ROIs `known`: B 1 D H W → B K for the ROIs `wanted`.

    A ROI's score is its largest probability in the patch: what the network itself says of the ROI's existence. It is
    NaN for a ROI that the network does not know. `to_probabilities` is that of the method that trained the network:
    logits B K D H W → probabilities of the same shape. Not in the paper.
    """

    def __init__(
        self,
        network: nn.Module,
        known: Sequence[str],
        wanted: Sequence[str],
        to_probabilities: Callable[[Tensor], Tensor],
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.columns = [(place, list(known).index(roi)) for place, roi in enumerate(wanted) if roi in known]
        self.count, self.to_probabilities = len(wanted), to_probabilities

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        largest = self.to_probabilities(self.network(images)).amax((2, 3, 4))
        scores = largest.new_full((len(images), self.count), math.nan)
        for place, column in self.columns:
            scores[:, place] = largest[:, column]
        return scores


def load_scorer(model: Path, structures: Sequence[Sequence[str]], device: torch.device) -> RoiScorer:
    """The scorer that uses the ROI-aware network in the file `model`; `structures` are those of each ROI."""
    network, description = load_roi_aware_model(model, device)
    return RoiScorer(network, description["structures"], structures).to(device)


def _column(name: str, available: Sequence[str]) -> int:
    if name not in available:
        raise UserError(
            "rois.structures",
            f"the ROI-aware network does not score {name}",
            f"choose from {', '.join(available)}",
        )
    return list(available).index(name)
