"""Equations 2 and 3 of [LC]: what the student learns from its teacher, about the ROIs that a mask selects.

Both are means over the selected ROIs of a sample where the paper has sums (see roi_maps.py), in at least float32
whatever autocast says. The maps of other ROIs are never read.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..networks.probabilities import at_least_float32, probabilities
from .roi_maps import mean_over_voxels_and_rois, selected_maps
from .sharpening import sharpened_probabilities


def latent_loss(
    student_logits: Tensor, teacher_logits: Tensor, selected: Tensor, temperature: float, where: Tensor | None = None
) -> Tensor:
    """Eq. 2: cross-entropy of the student with the teacher's sharpened output as its target.

    Both logits B K D H W, `selected` bool B K → B; with `where` (bool B K D H W) at these voxels alone.
    """
    student = at_least_float32(selected_maps(student_logits, selected))
    target = sharpened_probabilities(selected_maps(teacher_logits.detach(), selected), temperature)
    cross_entropy = F.binary_cross_entropy_with_logits(student, target.to(student.dtype), reduction="none")
    return mean_over_voxels_and_rois(cross_entropy, selected, where)


def consistency_loss(
    student_logits: Tensor, teacher_logits: Tensor, selected: Tensor, where: Tensor | None = None
) -> Tensor:
    """Eq. 3: mean squared error between the probabilities of the student and those of the teacher.

    Both logits B K D H W, `selected` bool B K → B; with `where` (bool B K D H W) at these voxels alone.
    """
    student = probabilities(selected_maps(student_logits, selected))
    teacher = probabilities(selected_maps(teacher_logits.detach(), selected))
    return mean_over_voxels_and_rois((student - teacher).square(), selected, where)
