"""UniSeg's learned prompt: what the bottleneck says to each task, here to each data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .convolution_block import convolution_block
from .per_data_set import joined, placed


class UniversalPrompt(nn.Module):
    """`count` maps of the bottleneck's size, learned for all images, and mixed with the features of one.

    Three blocks of 3×3×3 convolution, InstanceNorm and LeakyReLU take the C `channels` of the bottleneck and all T
    maps, C + T, to (C + T) // 4 twice and to T, one for each data set.
    """

    def __init__(self, channels: int, count: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.universal = nn.Parameter(torch.randn(1, count, *shape))
        hidden = (channels + count) // 4
        self.fusion = nn.Sequential(
            convolution_block(channels + count, hidden),
            convolution_block(hidden, hidden),
            convolution_block(hidden, count),
        )

    def forward(self, bottleneck: Tensor) -> Tensor:
        """B C D H W → B T D H W."""
        universal = self.universal.to(bottleneck.dtype).expand(len(bottleneck), -1, -1, -1, -1)
        return self.fusion(torch.cat([bottleneck, universal], 1))


def prompted(
    decoder: Callable[[Tensor], Tensor],
    prompts: Tensor,
    rois: Sequence[Sequence[int]],
    count: int,
    datasets: Tensor | None,
) -> Tensor:
    """Logits of all `count` ROIs, B K D H W, from a `decoder` that gives B M D H W for a data set's prompt.

    `prompts` B T D H W are those of all data sets, of which the decoder gets one for each sample, B 1 D H W. Map j is
    the j-th of the ROIs `rois[t]` of data set t. `datasets` int64 B are the samples': ROIs that a sample's data set
    does not label have logit 0. Without it, as in prediction, the decoder runs once for each data set, and a ROI's
    probability is the mean over the data sets that label it.
    """
    if datasets is None:
        outputs = [decoder(prompts[:, [place]])[:, : len(own)] for place, own in enumerate(rois)]
        return joined(outputs, rois, count)
    logits = decoder(prompts[torch.arange(len(prompts), device=prompts.device), datasets][:, None])
    each = zip(logits.split(1), datasets.tolist(), strict=True)
    return torch.cat([placed(maps[:, : len(rois[place])], rois[place], count) for maps, place in each])
