"""Several trained networks as one: the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..config.evaluation import Prediction, PredictionExecution
from ..errors import UserError
from ..inference.sliding_window import SlidingWindow
from ..networks.model_description import Shapes, has_teacher, read_description
from ..networks.model_file import load_segmentation_model
from .openvino_runtime import OpenVinoNetwork, check_openvino
from .windows import sliding_window

_MUST_AGREE = {
    "rois": "ROIs",
    "spacing_mm": "a voxel spacing",
    "window_hu": "an intensity window",
    "patches": "patches",
}


Runtime = Literal["pytorch", "openvino"]
"""What computes a network."""


def load_ensemble(
    paths: Sequence[Path],
    prediction: Prediction,
    execution: PredictionExecution,
    device: torch.device,
    runtime: Runtime = "pytorch",
) -> tuple[nn.Module, SlidingWindow, dict[str, Any]]:
    """The network in a file, or the average of several, ready to predict; its windows; the first file's description.

    Raises UserError if a file is not a usable model, or if the models do not fit together.
    """
    networks: list[nn.Module] = []
    windows: list[SlidingWindow] = []
    first: dict[str, Any] = {}
    for path in paths:
        described, shapes = read_description(path)
        first = first or described
        _check_fit(path, described, paths[0], first)
        check_teacher(path, shapes, prediction)
        network, description = load_segmentation_model(path, device, prediction.weights)
        window = sliding_window(prediction, execution, description, device)
        if windows and prediction.flip_tta and window.partners != windows[0].partners:
            wrong = f"pairs left and right unlike {paths[0]}"
            raise UserError(str(path), wrong, "average models of one configuration only")
        if runtime == "openvino":
            check_openvino(device, window.precision)
            networks.append(OpenVinoNetwork(network, window.to_probabilities, window.shape, window.precision))
            window = replace(window, to_probabilities=as_they_are)
        else:
            networks.append(network.for_prediction(device, window.precision))
        windows.append(window)
    if len(networks) == 1:
        return networks[0], windows[0], first
    joint = Ensemble(networks, [window.to_probabilities for window in windows]).eval()
    return joint, replace(windows[0], to_probabilities=as_they_are), first


class Ensemble(nn.Module):
    """Image B 1 D H W in −1…1 → the members' mean probability B K D H W, in at least float32.

    It counts how far the members agree about each ROI, in all windows since `start_counting`.
    """

    def __init__(self, networks: Sequence[nn.Module], to_probabilities: Sequence[Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        self.networks, self.to_probabilities = nn.ModuleList(networks), tuple(to_probabilities)
        self._counts: np.ndarray | None = None

    def forward(self, image: Tensor) -> Tensor:
        members = zip(self.networks, self.to_probabilities, strict=True)
        network, to_probabilities = next(members)
        total = to_probabilities(network(image))
        votes = (total >= 0.5).byte() if self._counts is not None else None
        for network, to_probabilities in members:
            probabilities = to_probabilities(network(image))
            total = total + probabilities
            if votes is not None:
                votes += probabilities >= 0.5
        if votes is not None:
            self._count(votes)
        return total / len(self.networks)

    def start_counting(self) -> None:
        """Reset the counts: the next windows are another volume's. Without this call nothing is counted."""
        self._counts = np.zeros((1, len(self.networks)), np.int64)

    def agreement(self) -> list[float | None]:
        """Of each ROI the Dice between the masks of any two members, all pairs together; None where all are empty.

        Where n of M members see a ROI in a voxel, their pairs overlap there n (n − 1) / 2 times, and their masks have
        n (M − 1) voxels. Voxels of overlapping windows count once for each, and masks are taken as they are before
        post-processing. Averaged over flips, a ROI that is exchanged with its mirror shares its counts.
        """
        if self._counts is None:
            raise RuntimeError("nothing was counted: call start_counting before the first window")
        members = np.arange(1, len(self.networks) + 1)
        votes, pairs = self._counts @ members, self._counts @ (members * (members - 1))
        others = len(self.networks) - 1
        return [float(both / (others * all_)) if all_ else None for both, all_ in zip(pairs, votes, strict=True)]

    def _count(self, votes: Tensor) -> None:
        """Add `votes` (uint8 B K D H W): of each ROI the voxels that one member sees, that two see, and so on."""
        seen = votes.transpose(0, 1).flatten(1)
        found = torch.stack([(seen == count).sum(1) for count in range(1, len(self.networks) + 1)], 1).cpu().numpy()
        assert self._counts is not None
        self._counts = self._counts + found


def as_they_are(probabilities: Tensor) -> Tensor:
    """What is a probability already."""
    return probabilities


def check_teacher(path: Path, shapes: Shapes, prediction: Prediction) -> None:
    """Raise UserError if the teacher is to predict and the file has none."""
    if prediction.weights == "teacher" and not has_teacher(shapes):
        raise UserError(str(path), "holds no teacher", "predict with the student")


def _check_fit(path: Path, description: Mapping[str, Any], first_path: Path, first: Mapping[str, Any]) -> None:
    """Raise UserError if a model cannot be averaged with the first: they must see and name the same."""
    for key, what in _MUST_AGREE.items():
        one, other = description[key], first[key]
        if key == "patches":
            one, other = one.get("size_voxels"), other.get("size_voxels")
        if one != other:
            wrong = f"has {what} of {_shown(one)}, and {first_path} of {_shown(other)}"
            raise UserError(str(path), wrong, "average models of one configuration only")


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
