"""What learns beside a segmentation network from its last features, and is not part of its prediction.

Jiang et al.: "Labeled-to-unlabeled distribution alignment for partially-supervised multi-organ medical image
segmentation", Medical Image Analysis, 2025.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EMBEDDING_SIZE = 64


class PrototypeHead(nn.Module):
    """Places voxels on a unit sphere and scores `classes` by their nearest prototypes there.

    The projection is a 1×1×1 convolution, batch norm, ReLU and a 1×1×1 convolution, on voxels in place of maps. The
    statistics of the batch norm are always those of the voxels at hand.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.projection = nn.Sequential(
            nn.Linear(channels, EMBEDDING_SIZE, bias=False),
            nn.BatchNorm1d(EMBEDDING_SIZE, track_running_stats=False),
            nn.ReLU(inplace=True),
            nn.Linear(EMBEDDING_SIZE, EMBEDDING_SIZE),
        )
        self.embedding_norm = nn.LayerNorm(EMBEDDING_SIZE)
        self.score_norm = nn.LayerNorm(classes)

    def forward(self, features: Tensor, banks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings N E of N voxels, their cosines T N L P with all prototypes, and the classes' scores T N L.

        `features` N C; `banks` T L P E are T times P prototypes of L classes, of length 1. The score of a class is its
        largest cosine, normalised over the classes.
        """
        embeddings = F.normalize(self.embedding_norm(F.normalize(self.projection(features))))
        cosines = torch.einsum("ne,tlpe->tnlp", embeddings, banks)
        return embeddings, cosines, self.score_norm(cosines.amax(3))
