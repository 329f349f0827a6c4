"""What tasks share that keep a moving average of their one network; whether it teaches is theirs to say."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..config.method_settings import Teacher
from .ema_teacher import EmaTeacher
from .one_student import OneStudent


class AveragedStudent(OneStudent):
    """The network `student` for the ROIs `names`, and its teacher, which follows it."""

    def __init__(self, student: nn.Module, names: tuple[str, ...], teacher: Teacher) -> None:
        super().__init__(student, names)
        self.teacher = EmaTeacher(student, teacher)

    def predictors(self) -> dict[str, nn.Module]:
        return super().predictors() | {"teacher": self.teacher.network}

    def after_update(self) -> None:
        self.teacher.update(self.student)

    def state_dict(self) -> dict[str, Any]:
        return self.teacher.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.teacher.load_state_dict(state)
