"""What tasks share that train one network and have one sigmoid per ROI; nothing is kept besides the network."""

from __future__ import annotations

from torch import Tensor, nn

from ..networks.probabilities import probabilities
from ..training.task import Stateless
from .exclusive_organs import Structures


class OneStudent(Stateless):
    """The network `student` for the ROIs `names`."""

    def __init__(self, student: nn.Module, names: tuple[str, ...]) -> None:
        self.student, self.names = student, names
        self.networks = {"student": student}

    @staticmethod
    def probabilities(logits: Tensor, structures: Structures) -> Tensor:
        """One sigmoid per ROI."""
        return probabilities(logits)

    def predictors(self) -> dict[str, nn.Module]:
        return {"student": self.student}
