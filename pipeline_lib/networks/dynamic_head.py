"""Segmentation heads whose three 1×1×1 layers are generated for each sample and each ROI.

The head of the Universal Model (8-8-1, conditioned on text) and that of DoDNet (8-8-C, conditioned on a task) differ
only in what their controller sees and in how many maps the last layer makes. How the layers are applied is in
generated_layers.py.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .autocast_norms import GroupNorm
from .generated_layers import generated_layers
from .head_parameters import WIDTH, HeadParameters, parameter_count, parameter_sizes

_CONDITION = 256
LEAST_SCALE = 1e-6
"""Scale of embeddings that do not differ, as that of a single ROI."""
EMBEDDING_STATISTICS = ("embedding_mean", "embedding_scale")
"""Names of the head's buffers that keep the statistics of the first ROI list."""


def groups_for(channels: int) -> int:
    """Groups of a GroupNorm: 16 as published, or the largest divisor that `channels` shares with 16."""
    return math.gcd(16, channels)


def head_features(channels: int) -> nn.Sequential:
    """GN-ReLU-Conv `channels`→8 on the last decoder's output."""
    return nn.Sequential(
        GroupNorm(groups_for(channels), channels),
        nn.ReLU(inplace=True),
        nn.Conv3d(channels, WIDTH, kernel_size=1),
    )


class TextConditionedHead(nn.Module):
    """The Universal Model's head: 153 parameters per sample and ROI, from the image and the ROI's embedding.

    Its layers are those of the Universal Model; two things are not, unless asked for: the embeddings are standardised
    first (not with `raw_embeddings`), and the controller starts from other weights (not with `published_start`); see
    `standardised` and `start_as_plain_network`.

    `bottleneck_channels` are those of SwinUNETR's `encoder10` (768 in the published network); `embeddings` K×E are
    those of the first ROI list. Their statistics belong to the parameters and are saved with them: a head that gets
    another list later still sees each old ROI as before. `fused` is `generated_layers`'.
    """

    def __init__(
        self,
        channels: int,
        bottleneck_channels: int,
        embeddings: Tensor,
        fused: bool = True,
        raw_embeddings: bool = False,
        published_start: bool = False,
    ) -> None:
        super().__init__()
        self.fused, self.raw_embeddings = fused, raw_embeddings
        mean, scale = embedding_statistics(embeddings)
        self.register_buffer("embedding_mean", mean)
        self.register_buffer("embedding_scale", scale)
        self.register_load_state_dict_pre_hook(_keep_statistics_if_missing)
        self.image_feature = nn.Sequential(
            GroupNorm(groups_for(bottleneck_channels), bottleneck_channels),
            nn.ReLU(inplace=False),
            nn.AdaptiveAvgPool3d(1),
            nn.Conv3d(bottleneck_channels, _CONDITION, kernel_size=1),
        )
        self.text_feature = nn.Sequential(nn.Linear(embeddings.shape[1], _CONDITION), nn.ReLU(inplace=True))
        self.features = head_features(channels)
        self.controller = nn.Linear(2 * _CONDITION, parameter_count(1))
        if not published_start:
            start_as_plain_network(self.controller, maps=1)

    def forward(self, decoded: Tensor, bottleneck: Tensor, embeddings: Tensor) -> Tensor:
        """Logits B K D H W from `decoded` B C D H W, `bottleneck` B C' D' H' W' and `embeddings` K E."""
        image = self.image_feature(bottleneck).flatten(1)
        if not self.raw_embeddings:
            embeddings = standardised(embeddings, self.embedding_mean, self.embedding_scale)
        text = self.text_feature(embeddings)
        B, K = len(image), len(text)
        condition = torch.cat([image[:, None].expand(-1, K, -1), text[None].expand(B, -1, -1)], dim=2)
        parameters = self.controller(condition)
        return generated_layers(self.features(decoded), parameters, maps=1, fused=self.fused).squeeze(2)


def embedding_statistics(embeddings: Tensor, mean: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean over the ROIs (E) of `embeddings` K×E, unless it is given, and the root mean square about it."""
    embeddings = embeddings.detach()
    mean = embeddings.mean(0) if mean is None else mean
    # A single ROI has no spread: its vector becomes 0, not 0/0.
    return mean, (embeddings - mean).square().mean().sqrt().clamp(min=LEAST_SCALE)


def standardised(embeddings: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """`embeddings` K×E less `mean` E, divided by the number `scale`: with their own statistics, of mean square 1.

    Prompts differ in a word or two, so their vectors have cosines of up to 0.98: what distinguishes the ROIs is small
    beside what they share. The linear layer that follows could learn this shift and scale, so the network can represent
    nothing new, but it learns several times faster (benchmarks/head_start.py). The Universal Model feeds its linear
    layer with the vectors as they are.
    """
    return (embeddings - mean) / scale


def _keep_statistics_if_missing(head: TextConditionedHead, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """States of earlier versions have no statistics: those of the embeddings, which the head has computed already."""
    for name in EMBEDDING_STATISTICS:
        state.setdefault(prefix + name, getattr(head, name))


def start_as_plain_network(controller: nn.Linear, maps: int, one_hot: int = 0) -> None:
    """Initialise `controller` so that the layers it generates start at the scale of ordinary ones.

    Its bias is drawn as the weights of an unconditioned 8-8-`maps` network (normal, He's scale for the fan-in of 8;
    biases zero). Its weight is drawn so that a condition of unit mean square adds as much variance again, and so does
    the one-hot code that its last `one_hot` inputs are. PyTorch's default, with which the Universal Model and DoDNet
    start, ignores the fan-in of the generated layers, makes their biases as large as their weights (in the text head
    0.17 and 0.19 rms, here 0 and 0.54), and makes the code weak beside the image: benchmarks/head_start.py.
    """
    hidden, output = math.sqrt(2 / WIDTH), math.sqrt(1 / WIDTH)
    deviations = HeadParameters(hidden, 0.0, hidden, 0.0, output, 0.0)
    scale = torch.cat(
        [torch.full((size,), value) for size, value in zip(parameter_sizes(maps), deviations, strict=True)]
    )
    dense = controller.in_features - one_hot
    share = torch.cat([torch.full((dense,), 1 / math.sqrt(dense)), torch.ones(one_hot)])
    with torch.no_grad():
        controller.bias.normal_().mul_(scale)
        controller.weight.normal_().mul_(scale[:, None] * share)
