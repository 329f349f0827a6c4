"""Hermes' network: a residual U-Net with tokens at five places, whose union is the last layer of each ROI.

Gao et al.: "Training like a medical resident: Context-prior learning toward universal medical image segmentation", CVPR
2024.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config.optimisation import Checkpointing
from ..instance_norm import InstanceNorm
from ..recomputing import recomputed
from .settings import HermesUnet
from .tokens import TokenPlace

_WIDTHS = (1, 2, 4, 8, 10)
_PLACES = ((4, 2), (8, 2), (10, 4), (8, 2), (4, 2))
"""Channels of the places with tokens, in first widths, and how many exchanges each has; in the order of the pass."""


class ResidualBlock(nn.Module):
    """Conv 3×3×3, InstanceNorm, ReLU, Conv 3×3×3, InstanceNorm, and a shortcut, a 1×1×1 where channels change; ReLU."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(channels, out_channels, 3, padding=1, bias=False),
            InstanceNorm(nn.InstanceNorm3d(out_channels, affine=True)),
            nn.ReLU(inplace=True),
            nn.Conv3d(out_channels, out_channels, 3, padding=1, bias=False),
            InstanceNorm(nn.InstanceNorm3d(out_channels, affine=True)),
        )
        same = channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv3d(channels, out_channels, 1, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        return F.relu(self.body(values) + self.shortcut(values))


class HermesNetwork(nn.Module):
    """One logit per ROI and voxel: the product of the last features with what the ROI's tokens have become.

    `embeddings` K×E only say how many ROIs there are. With `gradient_checkpointing` "all", backward recomputes the
    activations of the blocks and of the tokens' places.
    """

    channels_last_on_cpu = False
    asks_for_labelled = True

    def __init__(self, sizes: HermesUnet, embeddings: Tensor, gradient_checkpointing: Checkpointing = "none") -> None:
        super().__init__()
        self.recomputes_blocks = gradient_checkpointing == "all"
        self.register_buffer("embeddings", embeddings.detach().float().clone())
        width, rois = sizes.width, len(embeddings)
        self.feature_channels = width
        one, two, four, eight, ten = (times * width for times in _WIDTHS)
        self.stem = nn.Sequential(nn.Conv3d(1, one, 3, padding=1, bias=False), ResidualBlock(one, one))
        self.encoders = nn.ModuleList(_blocks(*pair) for pair in ((one, two), (two, four), (four, eight), (eight, ten)))
        self.decoders = nn.ModuleList(
            _blocks(below + beside, beside) for below, beside in ((ten, eight), (eight, four), (four, two), (two, one))
        )
        self.places = nn.ModuleList(TokenPlace(times * width, rois, blocks) for times, blocks in _PLACES)
        joined = sum(times for times, _ in _PLACES) * width
        self.output = nn.Sequential(
            nn.LayerNorm(joined),
            *(nn.Linear(joined, joined), nn.GELU(), nn.Linear(joined, width)),
            *(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)),
        )
        for layer in self.output:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(
        self, image: Tensor, asked: Tensor | None = None, with_features: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits B K D H W of `image` B 1 D H W in −1…1; D, H and W must divide by 16.

        `asked` bool B K are the ROIs that are asked for, without it all. Those that are not have logits that mean
        nothing. With `with_features` also the last decoder's output, B C D H W.
        """
        if asked is None:
            asked = image.new_ones(len(image), len(self.embeddings), dtype=torch.bool)  # type: ignore[arg-type]
        values, skips, tokens = self._run(self.stem, image), [], []
        for level, encoder in enumerate(self.encoders):
            skips.append(values)
            values = self._run(encoder, F.max_pool3d(values, 2))
            if level > 0:
                values = self._exchange(values, asked, tokens)
        for level, decoder in enumerate(self.decoders):
            upsampled = F.interpolate(values, scale_factor=2.0, mode="trilinear", align_corners=True)
            values = self._run(decoder, torch.cat([skips.pop(), upsampled], 1))
            if level < 2:
                values = self._exchange(values, asked, tokens)
        weights = self.output(torch.cat(tokens, 2))
        logits = torch.einsum("bkc,bcdhw->bkdhw", weights, values)
        return (logits, values) if with_features else logits

    def for_prediction(self, device: torch.device, precision: torch.dtype) -> nn.Module:
        """This network: it has no faster form."""
        return self

    def _exchange(self, maps: Tensor, asked: Tensor, tokens: list[Tensor]) -> Tensor:
        """The maps after the next place with tokens; those of the ROIs join `tokens`."""
        maps, of_rois = self._run(self.places[len(tokens)], maps, asked)
        tokens.append(of_rois)
        return maps

    def _run(self, block: Callable[..., Any], *arguments: Tensor) -> Any:
        return recomputed(block, *arguments) if self.recomputes_blocks else block(*arguments)


def _blocks(channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(ResidualBlock(channels, out_channels), ResidualBlock(out_channels, out_channels))
