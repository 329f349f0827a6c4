"""The mean teacher: a second network whose parameters are a moving average of the student's.

Tarvainen and Valpola: "Mean teachers are better role models", NeurIPS 2017.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ..config.method_settings import Teacher
from ..data.batches import Batch
from .exclusive_organs import Rivals, exclusive_logits


class EmaTeacher:
    """A copy of the student that follows it; `network` is always in eval mode and never has gradients.

    `student` must be the bare network, not wrapped by DistributedDataParallel or torch.compile.
    """

    def __init__(self, student: nn.Module, settings: Teacher) -> None:
        self.settings = settings
        self.updates = 0
        self.network = copy.deepcopy(student).eval().requires_grad_(False)

    @torch.no_grad()
    def logits(self, batch: Batch, rivals: Rivals | None = None) -> Tensor:
        """Logits B K D H W of the weak view x_T; with `rivals`, no voxel belongs to two organs."""
        logits = self.network(batch.weak)
        return logits if rivals is None else exclusive_logits(logits, batch.labels, batch.labelled, rivals, batch.known)

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Move every parameter to α·teacher + (1 − α)·student, and copy the student's buffers.

        α is `decay`, or with `fast_start` the smaller of it and 1 − 1/(t + 1) at the t-th update (t = 1, 2, …), which
        is the plain mean of start and students so far. That is the formula of the authors' code; their paper raises α
        from 0.99 to 0.999 during the training.
        """
        self.updates += 1
        alpha = self.settings.decay
        if self.settings.fast_start:
            alpha = min(1 - 1 / (self.updates + 1), alpha)
        torch._foreach_lerp_(list(self.network.parameters()), list(student.parameters()), 1 - alpha)
        for mine, students in zip(self.network.buffers(), student.buffers(), strict=True):
            mine.copy_(students)

    def state_dict(self) -> dict[str, Any]:
        return {"teacher": self.network.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["teacher"])
        self.updates = state["updates"]
