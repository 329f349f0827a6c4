"""What tasks share that train one network with a mean teacher and have one sigmoid per ROI."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..config.method_settings import Teacher
from ..networks.probabilities import probabilities
from .ema_teacher import EmaTeacher
from .exclusive_organs import Structures


class TaughtStudent:
    """The network `student` for the ROIs `names`, and its teacher, which follows it."""

    def __init__(self, student: nn.Module, names: tuple[str, ...], teacher: Teacher) -> None:
        self.student, self.names = student, names
        self.networks = {"student": student}
        self.teacher = EmaTeacher(student, teacher)

    @staticmethod
    def probabilities(logits: Tensor, structures: Structures) -> Tensor:
        """One sigmoid per ROI."""
        return probabilities(logits)

    def predictors(self) -> dict[str, nn.Module]:
        return {"student": self.student, "teacher": self.teacher.network}

    def after_update(self) -> None:
        self.teacher.update(self.student)

    def state_dict(self) -> dict[str, Any]:
        return self.teacher.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.teacher.load_state_dict(state)
