"""UniSeg's own network: nnU-Net's plain 3D U-Net, whose decoder is told the data set by a prompt.

Ye et al.: "UniSeg: A prompt-driven universal segmentation model as well as a strong representation learner", MICCAI
2023. Layers, widths and first weights are those of its code, as nnU-Net (version 1) plans and builds them for patches
of 64×192×192 voxels at 3×1.5×1.5 mm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ...config.optimisation import Checkpointing
from ..convolution_block import SLOPE, Sides, convolution_block
from ..recomputing import recomputed
from ..universal_prompt import UniversalPrompt, prompted
from .settings import UnisegUnet

_WIDTHS = (1, 2, 4, 8, 10, 10)
"""Channels of the levels, in first widths: doubled up to 320 where the first has 32."""
_STRIDES: tuple[Sides, ...] = ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
"""With which each level begins. Slices are twice as far apart as pixels, so that they are halved once less."""
_FIRST_KERNEL, _KERNEL = (1, 3, 3), (3, 3, 3)
"""Of the encoder's first level, for the same reason, and of all others; the decoder's last is of the others."""


class Decoder(nn.Module):
    """Transposed convolution without bias, joined with the encoder's output of that level, then two blocks."""

    def __init__(self, below: int, channels: int, stride: Sides) -> None:
        super().__init__()
        self.upsampling = nn.ConvTranspose3d(below, channels, kernel_size=stride, stride=stride, bias=False)
        self.blocks = _level(2 * channels, channels)

    def forward(self, values: Tensor, skip: Tensor) -> Tensor:
        return self.blocks(torch.cat([self.upsampling(values), skip], 1))


class UnisegNetwork(nn.Module):
    """One logit per ROI and voxel, from a decoder that gets the bottleneck and the prompt of the sample's data set.

    `embeddings` K×E only say how many ROIs there are, and `patch` D H W is the size of all images. The last convolution
    has as many maps as the data set with the most ROIs. Prediction decodes once for each data set. With
    `gradient_checkpointing` "all", backward recomputes the activations of the levels; there is no transformer.
    """

    channels_last_on_cpu = False
    answers_per_data_set = True

    def __init__(
        self,
        sizes: UnisegUnet,
        embeddings: Tensor,
        gradient_checkpointing: Checkpointing,
        rois_of_data_sets: Sequence[Sequence[int]],
        patch: tuple[int, int, int],
    ) -> None:
        super().__init__()
        self.recomputes_blocks = gradient_checkpointing == "all"
        self.rois = rois_of_data_sets
        self.register_buffer("embeddings", embeddings.detach().float().clone())
        widths = [times * sizes.width for times in _WIDTHS]
        kernels = (_FIRST_KERNEL, *(_KERNEL for _ in _STRIDES[1:]))
        levels = zip(pairwise((1, *widths)), kernels, _STRIDES, strict=True)
        self.encoders = nn.ModuleList(_level(*channels, kernel, stride) for channels, kernel, stride in levels)
        strides = zip(*_STRIDES, strict=True)
        shape = tuple(side // math.prod(of_side) for side, of_side in zip(patch, strides, strict=True))
        self.prompt = UniversalPrompt(widths[-1], len(self.rois), shape)
        # The prompt is one more channel of the bottleneck.
        below = (*widths[1:-1], widths[-1] + 1)
        upwards = reversed([*zip(below, widths[:-1], _STRIDES[1:], strict=True)])
        self.decoders = nn.ModuleList(Decoder(*sizes_of_level) for sizes_of_level in upwards)
        self.head = nn.Conv3d(sizes.width, max(map(len, self.rois)), kernel_size=1, bias=False)
        self.apply(_start_as_published)

    def forward(self, image: Tensor, datasets: Tensor | None = None) -> Tensor:
        """Logits B K D H W of `image` B 1 D H W in −1…1; `datasets` int64 B are the samples', without them all's."""
        values, skips = image, []
        for encoder in self.encoders:
            values = self._run(encoder, values)
            skips.append(values)
        bottleneck = skips.pop()

        def decoded(prompt: Tensor) -> Tensor:
            values = torch.cat([bottleneck, prompt], 1)
            for decoder, skip in zip(self.decoders, reversed(skips), strict=True):
                values = self._run(decoder, values, skip)
            return self.head(values)

        count = len(self.embeddings)  # type: ignore[arg-type]
        return prompted(decoded, self.prompt(bottleneck), self.rois, count, datasets)

    def for_prediction(self, device: torch.device, precision: torch.dtype) -> nn.Module:
        """This network: it has no faster form."""
        return self

    def _run(self, block: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
        return recomputed(block, *arguments) if self.recomputes_blocks else block(*arguments)


def _level(channels: int, out_channels: int, kernel: Sides = _KERNEL, stride: Sides = (1, 1, 1)) -> nn.Module:
    """Two blocks, of which the first changes channels and size."""
    return nn.Sequential(
        convolution_block(channels, out_channels, kernel, stride), convolution_block(out_channels, out_channels, kernel)
    )


def _start_as_published(module: nn.Module) -> None:
    """He's initialisation, and no bias."""
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
