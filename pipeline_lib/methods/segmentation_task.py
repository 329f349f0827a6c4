"""What the task of a segmentation method offers besides what the training loop asks of every task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

from torch import Tensor, nn

from ..config.method_settings import Teacher
from ..existence.scores import Scorer
from ..training.task import Task


@dataclass(frozen=True, kw_only=True)
class Ingredients:
    """What the tasks of all methods are built from; each takes what it uses.

    `new_network` builds a segmentation network with fresh weights on the device of the training. `rois` are the names
    of the K ROIs, `structures` those that decide each one's existence. The `scorer` is given where existence scores are
    computed online; without one they come with the batch.
    """

    new_network: Callable[[], nn.Module]
    rois: tuple[str, ...]
    structures: tuple[tuple[str, ...], ...]
    teacher: Teacher
    scorer: Scorer | None


class SegmentationTask(Task, Protocol):
    """The task of one method."""

    @classmethod
    def build(cls, settings: Any, ingredients: Ingredients) -> Self:
        """The task of the method with these settings."""

    @staticmethod
    def probabilities(logits: Tensor) -> Tensor:
        """Probability of each ROI at each voxel from the logits of a predictor: B K D H W → B K D H W, float32."""

    def predictors(self) -> Mapping[str, nn.Module]:
        """The networks that the model file keeps: `student`, and `teacher` if there is one."""
