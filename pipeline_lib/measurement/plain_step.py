"""A training step as one would compose it today from MONAI and PyTorch, to compare this code's step with.

MONAI's SwinUNETR in eager mode with DoDNet's per-sample head (grouped convolutions), the ROI-aware network run on every
batch, losses in a loop over samples and ROIs, AdamW's and the average's loops over parameters.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from monai.networks.nets import SwinUNETR
from torch import Tensor, nn

from ..data.batches import Batch
from ..methods.latent_class.settings import LatentClass
from ..networks.swin_unetr.settings import SwinUnetr


class PlainNetwork(nn.Module):
    """MONAI's SwinUNETR as it comes, its output taken as features, and a head that loops over the samples."""

    def __init__(self, sizes: SwinUnetr, rois: int, embedding: int) -> None:
        super().__init__()
        width = sizes.feature_size
        self.trunk = SwinUNETR(
            in_channels=1,
            out_channels=8,
            feature_size=width,
            depths=sizes.depths,
            num_heads=sizes.num_heads,
            window_size=sizes.window_size,
        )
        self.trunk.encoder10.register_forward_hook(self._keep)
        self.pool = nn.Sequential(nn.GroupNorm(16, 16 * width), nn.ReLU(), nn.AdaptiveAvgPool3d(1))
        self.image = nn.Conv3d(16 * width, 256, 1)
        self.text = nn.Sequential(nn.Linear(embedding, 256), nn.ReLU())
        self.controller = nn.Conv3d(512, 153, 1)
        self.register_buffer("embeddings", torch.randn(rois, embedding))

    def _keep(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        self.bottleneck = output

    def forward(self, images: Tensor) -> Tensor:
        features = self.trunk(images)
        pooled = self.image(self.pool(self.bottleneck))
        text = self.text(self.embeddings)
        K = len(text)
        logits = []
        for sample in range(len(images)):
            condition = torch.cat([pooled[sample].flatten().expand(K, -1), text], 1)
            parameters = self.controller(condition[..., None, None, None]).flatten(1)
            w1, b1, w2, b2, w3, b3 = parameters.split([64, 8, 64, 8, 8, 1], 1)
            x = features[sample : sample + 1].repeat(1, K, 1, 1, 1)
            x = F.relu(F.conv3d(x, w1.reshape(K * 8, 8, 1, 1, 1), b1.flatten(), groups=K))
            x = F.relu(F.conv3d(x, w2.reshape(K * 8, 8, 1, 1, 1), b2.flatten(), groups=K))
            logits.append(F.conv3d(x, w3.reshape(K, 8, 1, 1, 1), b3.flatten(), groups=K))
        return torch.cat(logits)


def plain_losses(
    logits: Tensor, teacher: Tensor, labels: Tensor, labelled: Tensor, scores: Tensor, method: LatentClass
) -> Tensor:
    """The same three terms as `method`'s, one ROI of one sample after the other."""
    rule, total = method.decision, logits.new_zeros((), dtype=torch.float32)
    for b in range(len(logits)):
        supervised, latent, consistency = [], [], []
        for k in range(logits.shape[1]):
            student = logits[b, k].float()
            probability = torch.sigmoid(student)
            target = torch.sigmoid(teacher[b, k].float())
            if labelled[b, k]:
                truth = labels[b, k].float()
                dice = 2 * (probability * truth).sum() / (probability.sum() + truth.sum() + 1)
                supervised.append(F.binary_cross_entropy_with_logits(student, truth) + 1 - dice)
            elif scores[b, k] > rule.positive_above or scores[b, k] < rule.negative_below:
                sharp = target**10 / (target**10 + (1 - target) ** 10)
                latent.append(F.binary_cross_entropy_with_logits(student, sharp))
            else:
                consistency.append(F.mse_loss(probability, target))
        total = total + sum(torch.stack(terms).mean() for terms in (supervised, latent, consistency) if terms)
    return total / len(logits)


def plain_step(
    sizes: SwinUnetr, rois: int, embedding: int, roi_aware: nn.Module, method: LatentClass, precision: torch.dtype
) -> Callable[[list[Batch]], Tensor]:
    """Takes a step with a batch that may come in parts, and gives the loss of the last of them.

    It runs on the device of `roi_aware`, which has the ROIs first.
    """
    device = next(roi_aware.parameters()).device
    student = PlainNetwork(sizes, rois, embedding).to(device)
    teacher = copy.deepcopy(student).requires_grad_(False).eval()
    roi_aware = roi_aware.requires_grad_(False).eval()
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-4, weight_decay=1e-5)

    def step(parts: list[Batch]) -> Tensor:
        optimiser.zero_grad()
        for batch in parts:
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                logits = student(batch.strong)
                with torch.no_grad():
                    teacher_logits = teacher(batch.weak)
                    scores = torch.sigmoid(roi_aware(batch.weak))[:, :rois]
            loss = plain_losses(logits, teacher_logits, batch.labels, batch.labelled, scores, method)
            (loss / len(parts)).backward()
        optimiser.step()
        with torch.no_grad():
            for mine, students in zip(teacher.parameters(), student.parameters(), strict=True):
                mine.mul_(0.999).add_(students, alpha=0.001)
        return loss.detach()

    return step
