"""What the history counts of the labels, whatever the method."""

from __future__ import annotations

from torch import Tensor

from ..data.batches import Batch
from ..training.silent_rois import present_and_found


def label_counts(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Which ROIs are labelled, which labels are present, and the student's mean probability inside them, B K each.

    `logits` B K D H W are the student's, of which the sigmoid is a ROI's probability.
    """
    return {"labelled": batch.labelled, **present_and_found(logits, batch.labels, batch.labelled)}
