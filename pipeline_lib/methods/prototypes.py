"""Classes as prototypes: which one a voxel belongs to, what that costs, and how they follow their voxels.

Zhou et al.: "Rethinking semantic segmentation: A prototype view", CVPR 2022; with two banks, Jiang et al., Medical
Image Analysis, 2025 (LTUDA). Below, N voxels are of the `classes` int64 N, L in all; a bank has P prototypes of each,
L P E, of length 1. `cosines` N L P are those of the voxels' embeddings N E, of length 1 too, with all of them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_EPSILON = 0.05
_ITERATIONS = 3
_WEIGHT_AMONG_ALL = 0.01
_WEIGHT_OF_DISTANCE = 0.001


@torch.no_grad()
def shares(cosines: Tensor, classes: Tensor) -> Tensor:
    """How a voxel is divided among the prototypes of its class, by Sinkhorn's iterations: N P, rows of sum 1.

    From exp(cosine / 0.05), three times in turn: all prototypes of a class get the same sum, and all its voxels do.
    """
    own = cosines[torch.arange(len(classes), device=classes.device), classes]
    found = (own / _EPSILON).exp()
    # Products of matrices add in the same order each time; adding by index does not on a GPU.
    members = F.one_hot(classes, cosines.shape[1]).to(found.dtype)
    for _ in range(_ITERATIONS):
        found = found / (members.T @ found)[classes]
        found = found / found.sum(1, keepdim=True)
    return found


def assigned(cosines: Tensor, classes: Tensor) -> Tensor:
    """The prototype of each voxel's class that has its largest share: int64 N, in 0…L·P − 1 of all prototypes."""
    return classes * cosines.shape[2] + shares(cosines, classes).argmax(1)


def class_loss(scores: Tensor, classes: Tensor) -> Tensor:
    """The cross-entropy of the classes' `scores` N L, of each voxel: N."""
    return F.cross_entropy(scores, classes, reduction="none")


def prototype_loss(cosines: Tensor, prototypes: Tensor) -> Tensor:
    """What it costs each voxel to be away from the one of all `prototypes` (int64 N) that it is assigned to: N.

    0.01 × the cross-entropy of the cosines with all prototypes, plus 0.001 × (1 − cosine)² with its own.
    """
    of_all = cosines.flatten(1)
    distances = 1 - of_all.gather(1, prototypes[:, None]).squeeze(1)
    among_all = F.cross_entropy(of_all, prototypes, reduction="none")
    return _WEIGHT_AMONG_ALL * among_all + _WEIGHT_OF_DISTANCE * distances.square()


@torch.no_grad()
def moved(bank: Tensor, embeddings: Tensor, prototypes: Tensor, decay: float) -> Tensor:
    """`bank` L P E after a step: decay·prototype + (1 − decay)·mean direction of its voxels, at length 1.

    `embeddings` N E are those of the voxels that count, each belonging to one of all `prototypes` (int64 N). One
    without voxels stays where it is.
    """
    flat = bank.flatten(0, 1)
    members = F.one_hot(prototypes, len(flat)).to(flat.dtype)
    directions = F.normalize(members.T @ embeddings.to(flat.dtype))
    followed = F.normalize(decay * flat + (1 - decay) * directions)
    return torch.where(members.any(0)[:, None], followed, flat).unflatten(0, bank.shape[:2])
