"""What tasks share that train one network with a mean teacher and have one sigmoid per ROI."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..config.method_settings import Teacher
from ..data.batches import Batch
from .ema_teacher import EmaTeacher
from .one_student import OneStudent
from .pseudo_labels import PseudoLabels


class TaughtStudent(OneStudent):
    """The network `student` for the ROIs `names`, and its teacher, which follows it."""

    def __init__(self, student: nn.Module, names: tuple[str, ...], teacher: Teacher) -> None:
        super().__init__(student, names)
        self.teacher = EmaTeacher(student, teacher)

    def pseudo_labels(self, batch: Batch) -> PseudoLabels:
        """What the teacher tells the student of the ROIs that the labels of `batch` leave open."""
        raise NotImplementedError

    def predictors(self) -> dict[str, nn.Module]:
        return super().predictors() | {"teacher": self.teacher.network}

    def after_update(self) -> None:
        self.teacher.update(self.student)

    def state_dict(self) -> dict[str, Any]:
        return self.teacher.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.teacher.load_state_dict(state)
