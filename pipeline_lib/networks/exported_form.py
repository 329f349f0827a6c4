"""A segmentation network from image to probabilities in operations that other runtimes have too."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from .instance_norm import ExportedInstanceNorm, InstanceNorm
from .replacing import replace


class ExportedForm(nn.Module):
    """Image B 1 D H W in −1…1 → probabilities B K D H W, float32; `network` (in eval mode) is changed in place.

    The ROIs are fixed: their embeddings are constants of the graph.
    """

    def __init__(self, network: nn.Module, to_probabilities: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        replace(network, InstanceNorm, ExportedInstanceNorm)
        self.network, self.to_probabilities = network, to_probabilities

    def forward(self, image: Tensor) -> Tensor:
        return self.to_probabilities(self.network(image))
