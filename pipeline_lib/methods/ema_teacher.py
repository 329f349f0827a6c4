"""The mean teacher: a second network whose parameters are a moving average of the student's.

Tarvainen and Valpola: "Mean teachers are better role models", NeurIPS 2017.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from ..config.methods import Teacher


class MeanTeacher:
    """A copy of the student that follows it; `network` is always in eval mode and never has gradients.

    `student` must be the bare network, not wrapped by DistributedDataParallel or torch.compile.
    """

    def __init__(self, student: nn.Module, settings: Teacher) -> None:
        self.settings = settings
        self.updates = 0
        self.network = copy.deepcopy(student).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Move every parameter to α·teacher + (1 − α)·student, and copy the student's buffers.

        α is `decay`, or with `fast_start` the smaller of it and 1 − 1/(t + 1) at the t-th update (t = 1, 2, …), which
        is the plain mean of start and students so far.
        """
        self.updates += 1
        alpha = self.settings.decay
        if self.settings.fast_start:
            alpha = min(1 - 1 / (self.updates + 1), alpha)
        torch._foreach_lerp_(list(self.network.parameters()), list(student.parameters()), 1 - alpha)
        for mine, students in zip(self.network.buffers(), student.buffers(), strict=True):
            mine.copy_(students)
