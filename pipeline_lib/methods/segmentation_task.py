"""What the task of a segmentation method offers besides what the training loop asks of every task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

from torch import Tensor, nn

from ..config.method_settings import Teacher
from ..existence.scores import Scorer
from ..training.task import Task
from .exclusive_organs import Structures


@dataclass(frozen=True, kw_only=True)
class Ingredients:
    """What the tasks of all methods are built from; each takes what it uses.

    `new_network` builds a segmentation network with fresh weights on the device of the training. `rois` are the names
    of the K ROIs, `structures` those that decide each one's existence. The `scorer` is given where existence scores are
    computed online; without one they come with the batch. `datasets` are the names of the data sets, in the order of
    the parts that some networks have for each. `seed` keys what a method draws itself.
    """

    new_network: Callable[[], nn.Module]
    rois: tuple[str, ...]
    structures: Structures
    teacher: Teacher
    scorer: Scorer | None
    datasets: tuple[str, ...] = ()
    seed: int = 0


class SegmentationTask(Task, Protocol):
    """The task of one method."""

    @classmethod
    def build(cls, settings: Any, ingredients: Ingredients) -> Self:
        """The task of the method with these settings."""

    @staticmethod
    def probabilities(logits: Tensor, structures: Structures) -> Tensor:
        """Probability of each ROI at each voxel from the logits of a predictor: B K D H W → B K D H W, float32.

        `structures` are those that decide each ROI's existence; they say which ROIs exclude each other.
        """

    def predictors(self) -> Mapping[str, nn.Module]:
        """The networks that the model file keeps: `student`, and `teacher` if there is one."""
