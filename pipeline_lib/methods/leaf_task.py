"""What tasks share that have one softmax over leaves in place of one sigmoid per ROI (leaves.py)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import lru_cache

from torch import Tensor, nn

from ..data.batches import Batch
from ..networks.probabilities import probabilities
from ..training.task import Losses
from .exclusive_organs import Structures, exclusive_rois
from .label_counts import label_counts
from .leaves import Leaves, allowed_leaves, leaf_logits, leaves_of, roi_logits
from .one_student import OneStudent
from .roi_maps import with_known_voxels


class LeafTask(OneStudent):
    """The student sees x_S; its K logits make those of the leaves. The loss is the weighted sum of `leaf_terms`.

    `structures` are those that decide each ROI's existence; they say which ROIs are rivals.
    """

    def __init__(
        self, student: nn.Module, names: tuple[str, ...], structures: Structures, weights: Mapping[str, float]
    ) -> None:
        super().__init__(student, names)
        self.weights = weights
        self.rivals = exclusive_rois(structures)
        self.leaves = leaves_of(self.rivals)

    @abstractmethod
    def leaf_terms(
        self, z: Tensor, allowed: Tensor, labels: Tensor, labelled: Tensor, known: Tensor | None
    ) -> dict[str, Tensor]:
        """The terms of the loss, B each.

        `z` B L D H W are the logits of the leaves, `allowed` bool B L D H W says which agree with the `labels`, bool
        B K D H W, of which those of `labelled` ROIs count, bool B K, at the voxels that are `known`, bool B K D H W
        (None: all).
        """

    def losses(self, networks: Mapping[str, nn.Module], batch: Batch, progress: float) -> Losses:
        """Losses of `batch`; the history counts how often each ROI was labelled."""
        z = leaf_logits(networks["student"](batch.strong), self.leaves)
        labels, known = batch.labels, batch.known
        labelled = with_known_voxels(batch.labelled, known)
        allowed = allowed_leaves(labels, labelled, self.leaves, known)
        terms = self.leaf_terms(z, allowed, labels, labelled, known)
        total = sum((self.weights[name] * term for name, term in terms.items()), z.new_zeros(len(z)))
        return Losses(total, terms, label_counts(roi_logits(z.detach(), self.leaves), batch))

    @staticmethod
    def probabilities(logits: Tensor, structures: Structures) -> Tensor:
        """Of each ROI, the sum over the leaves that contain it."""
        leaves = _leaves(structures)
        return probabilities(roi_logits(leaf_logits(logits, leaves), leaves))


@lru_cache(maxsize=1)
def _leaves(structures: Structures) -> Leaves:
    return leaves_of(exclusive_rois(structures))
