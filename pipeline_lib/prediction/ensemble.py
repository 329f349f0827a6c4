"""Several trained networks as one: the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn


class Ensemble(nn.Module):
    """Image B 1 D H W in −1…1 → the members' mean probability B K D H W, in at least float32."""

    def __init__(self, networks: Sequence[nn.Module], to_probabilities: Sequence[Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        self.networks, self.to_probabilities = nn.ModuleList(networks), tuple(to_probabilities)

    def forward(self, image: Tensor) -> Tensor:
        total = self.to_probabilities[0](self.networks[0](image))
        for network, to_probabilities in zip(self.networks[1:], self.to_probabilities[1:], strict=True):
            total = total + to_probabilities(network(image))
        return total / len(self.networks)


def as_they_are(probabilities: Tensor) -> Tensor:
    """What is a probability already."""
    return probabilities
