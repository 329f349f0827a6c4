"""What existence scores decide about the ROIs of a batch, where labels may be known in parts."""

from __future__ import annotations

from torch import Tensor

from ..config.existence import DecisionRule
from ..data.batches import Batch
from ..existence.decisions import Decisions, decide
from .roi_maps import labelled_throughout


def decided(batch: Batch, scores: Tensor, rule: DecisionRule | None) -> tuple[Decisions, Tensor | None]:
    """The decisions by `scores` B K, and the voxels at which they count, bool B K D H W (None: at all).

    A ROI that is labelled but for some voxels is decided on too, for these; where its known part shows it, it is there.
    """
    known = batch.known
    if known is None:
        return decide(batch.labelled, scores, rule), None
    throughout = labelled_throughout(batch.labelled, known)
    return decide(throughout, scores, rule, batch.labelled & (batch.labelled_voxels > 0)), ~known
