"""A part of a network that each data set has of its own, and what all of them together say of every ROI."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .autocast_norms import GroupNorm
from .dynamic_head import groups_for
from .head_parameters import WIDTH
from .probabilities import at_least_float32

_NOWHERE = -100.0
"""Logit of a ROI that no data set labels."""


class PerDataSet(nn.Module):
    """T branches of input B … → logits B K_t D H W of the ROIs that data set t labels, `rois[t]`, of `count` in all.

    A sample of a known data set is seen by that one's branch alone, so the others get no gradient from it. Without
    data sets, as in prediction, every branch is asked, and a ROI's probability is the mean over the data sets that
    label it. Publications that give a data set its own outputs label every ROI once, where this is that one's.
    """

    def __init__(self, branches: Sequence[nn.Module], rois: Sequence[Sequence[int]], count: int) -> None:
        super().__init__()
        self.branches, self.rois, self.count = nn.ModuleList(branches), rois, count

    def forward(self, values: Tensor, datasets: Tensor | None = None) -> Tensor:
        """Logits B K D H W; `datasets` int64 B are the samples'. A ROI that its data set does not label has logit 0."""
        return self._joined(values) if datasets is None else self._own(values, datasets)

    def _own(self, values: Tensor, datasets: Tensor) -> Tensor:
        found, order = [], []
        for place in datasets.unique().tolist():
            rows = (datasets == place).nonzero().squeeze(1)
            found.append(placed(self.branches[place](values[rows]), self.rois[place], self.count))
            order.append(rows)
        return torch.cat(found)[torch.cat(order).argsort()]

    def _joined(self, values: Tensor) -> Tensor:
        return joined([branch(values) for branch in self.branches], self.rois, self.count)


class OneNetworkPerDataSet(PerDataSet):
    """A whole network for each data set: B 1 D H W → B K D H W. `embeddings` K×E are those of all ROIs."""

    answers_per_data_set = True

    def __init__(self, networks: Sequence[nn.Module], rois: Sequence[Sequence[int]], embeddings: Tensor) -> None:
        super().__init__(networks, rois, len(embeddings))
        self.channels_last_on_cpu = bool(networks[0].channels_last_on_cpu)
        self.register_buffer("embeddings", embeddings.detach().float().clone())

    def for_prediction(self, device: torch.device, precision: torch.dtype) -> nn.Module:
        """This network, whose parts are changed to the form in which they predict fastest."""
        fast = [network.for_prediction(device, precision) for network in self.branches]  # type: ignore[operator]
        self.branches = nn.ModuleList(fast)
        return self


def output_per_roi(channels: int, count: int) -> nn.Module:
    """MultiTalent's outputs: a 1×1×1 convolution to one logit for each of `count` ROIs."""
    return nn.Conv3d(channels, count, kernel_size=1)


def head_per_data_set(channels: int, count: int) -> nn.Module:
    """A small decoder: GN-ReLU-Conv 3×3×3 to 8 channels, GN-ReLU-Conv 1×1×1 to one logit for each of `count` ROIs."""
    return nn.Sequential(
        GroupNorm(groups_for(channels), channels),
        # The same maps go to every head.
        nn.ReLU(inplace=False),
        nn.Conv3d(channels, WIDTH, kernel_size=3, padding=1),
        GroupNorm(groups_for(WIDTH), WIDTH),
        nn.ReLU(inplace=True),
        nn.Conv3d(WIDTH, count, kernel_size=1),
    )


def placed(logits: Tensor, rois: Sequence[int], count: int) -> Tensor:
    """Logits B K_t D H W of some `rois` at their places among all: B `count` D H W, 0 elsewhere."""
    everything = logits.new_zeros(len(logits), count, *logits.shape[2:])
    return everything.index_copy(1, torch.tensor(rois, device=logits.device), logits)


def joined(outputs: Sequence[Tensor], rois: Sequence[Sequence[int]], count: int) -> Tensor:
    """What data sets with logits B K_t D H W of `rois[t]` say together of every ROI: B `count` D H W."""
    of_rois: list[list[Tensor]] = [[] for _ in range(count)]
    for logits, own in zip(outputs, rois, strict=True):
        for roi, of_roi in zip(own, logits.unbind(1), strict=True):
            of_rois[roi].append(of_roi)
    nowhere = torch.full_like(outputs[0][:, 0], _NOWHERE)
    return torch.stack([_mean_logit(of_roi) if of_roi else nowhere for of_roi in of_rois], 1)


def _mean_logit(logits: Sequence[Tensor]) -> Tensor:
    """The logit of the mean of probabilities, given their logits."""
    if len(logits) == 1:
        return logits[0]
    wide = at_least_float32(torch.stack(list(logits)))
    # log P − log(1 − P), each a log-sum of exponentials.
    return F.logsigmoid(wide).logsumexp(0) - F.logsigmoid(-wide).logsumexp(0)
