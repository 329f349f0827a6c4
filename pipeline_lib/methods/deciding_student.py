"""What tasks share that learn from labels, from a mean teacher, and from what existence scores decide."""

from __future__ import annotations

from typing import Generic, Self, TypeVar

from torch import Tensor, nn

from ..config.method_settings import Teacher
from ..data.batches import Batch
from ..existence.decisions import Decisions
from ..existence.scores import Scorer
from .decided import decided
from .exclusive_organs import Structures, exclusive_rois
from .lacuna.settings import Lacuna
from .latent_class.settings import LatentClass
from .segmentation_task import Ingredients
from .taught_student import TaughtStudent

S = TypeVar("S", LatentClass, Lacuna)
"""The settings of the method."""


class DecidingStudent(TaughtStudent, Generic[S]):
    """The network `student` for the ROIs `names`, its teacher, and the source of existence scores.

    Scores come with the batch, or with a `scorer` from x_T in every step, as in the paper. `structures` are those that
    decide each ROI's existence; they say which ROIs are rivals.
    """

    def __init__(
        self,
        *,
        student: nn.Module,
        names: tuple[str, ...],
        settings: S,
        teacher: Teacher,
        structures: Structures,
        scorer: Scorer | None,
    ) -> None:
        super().__init__(student, names, teacher)
        self.settings: S = settings
        self.rivals, self.scorer = exclusive_rois(structures), scorer

    @classmethod
    def build(cls, settings: S, ingredients: Ingredients) -> Self:
        return cls(
            student=ingredients.new_network(),
            names=ingredients.rois,
            settings=settings,
            teacher=ingredients.teacher,
            structures=ingredients.structures,
            scorer=ingredients.scorer,
        )

    def decided(self, batch: Batch) -> tuple[Decisions, Tensor | None]:
        """The decisions about the batch's ROIs, and the voxels at which they count (decided.py)."""
        return decided(batch, batch.scores if self.scorer is None else self.scorer(batch.weak), self.settings.decision)


def unlabelled_decisions(decisions: Decisions) -> dict[str, Tensor]:
    """The decisions about ROIs that labels do not settle, by name."""
    return {"positive": decisions.positive, "negative": decisions.negative, "ambiguous": decisions.ambiguous}


def unlabelled_counts(decisions: Decisions, batch: Batch) -> dict[str, Tensor]:
    """For the history: what each unlabelled ROI was decided to be, bool B K each."""
    return {name: mask & ~batch.labelled for name, mask in vars(decisions).items()}
