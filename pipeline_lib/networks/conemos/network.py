"""CoNeMOS' network: a U-Net that segments one ROI at a time, told which by FiLM after every layer.

Billot et al.: "Network conditioning for synergistic learning on partial annotations", MIDL 2024. FiLM: Perez et al.,
AAAI 2018.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config.optimisation import Checkpointing
from ..instance_norm import InstanceNorm
from ..recomputing import recomputed
from .settings import ConemosUnet

_UNITS = 64
_HIDDEN_LAYERS = 4
_LEVELS = 4


class Film(nn.Module):
    """Scales and shifts each channel by what the condition says: (1 + γ)·x + β, [γ, β] linear in the condition."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(_UNITS, 2 * channels)
        # The network starts unconditioned.
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, values: Tensor, condition: Tensor) -> Tensor:
        """B C D H W and B 64 → B C D H W."""
        scale, shift = self.modulation(condition)[:, :, None, None, None].chunk(2, 1)
        return (1 + scale) * values + shift


class Block(nn.Module):
    """Twice a 3×3×3 convolution without bias, ELU, normalisation, FiLM."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        widths = (channels, out_channels, out_channels)
        self.convolutions = nn.ModuleList(
            nn.Conv3d(before, after, 3, padding=1, bias=False) for before, after in pairwise(widths)
        )
        self.norms = nn.ModuleList(InstanceNorm(nn.InstanceNorm3d(out_channels, affine=True)) for _ in range(2))
        self.films = nn.ModuleList(Film(out_channels) for _ in range(2))

    def forward(self, values: Tensor, condition: Tensor) -> Tensor:
        for convolution, norm, film in zip(self.convolutions, self.norms, self.films, strict=True):
            values = film(norm(F.elu(convolution(values))), condition)
        return values


class ConemosNetwork(nn.Module):
    """One logit per voxel of the ROI that is asked for; without one, all K, each in a pass of its own.

    `embeddings` K×E only say how many ROIs there are. With `gradient_checkpointing` "all", backward recomputes the
    activations of the blocks; there is no transformer.
    """

    channels_last_on_cpu = False

    def __init__(self, sizes: ConemosUnet, embeddings: Tensor, gradient_checkpointing: Checkpointing = "none") -> None:
        super().__init__()
        self.recomputes_blocks = gradient_checkpointing == "all"
        self.register_buffer("embeddings", embeddings.detach().float().clone())
        widths = [sizes.width * 2**level for level in range(_LEVELS)]
        layers: list[nn.Module] = []
        for before, after in pairwise((len(embeddings), *[_UNITS] * _HIDDEN_LAYERS)):
            layers += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
        self.condition = nn.Sequential(*layers)
        self.encoders = nn.ModuleList(Block(before, after) for before, after in pairwise((1, *widths)))
        self.decoders = nn.ModuleList(Block(after + before, before) for before, after in pairwise(widths))
        self.output = nn.Conv3d(sizes.width, 1, kernel_size=1)
        self.output_film = Film(1)

    def forward(self, image: Tensor, rois: Tensor | None = None) -> Tensor:
        """Logits B 1 D H W of the ROIs with the indices `rois` (int64 B), or B K D H W of all.

        `image` B 1 D H W in −1…1; D, H and W must divide by 8.
        """
        if rois is not None:
            return self._of(image, rois)
        indices = torch.arange(len(self.embeddings), device=image.device)  # type: ignore[arg-type]
        return torch.cat([self._of(image, roi.expand(len(image))) for roi in indices], 1)

    def for_prediction(self, device: torch.device, precision: torch.dtype) -> nn.Module:
        """This network: it has no faster form."""
        return self

    def _of(self, image: Tensor, rois: Tensor) -> Tensor:
        condition = self.condition(F.one_hot(rois, len(self.embeddings)).to(image.dtype))  # type: ignore[arg-type]
        values, skips = image, []
        for level, encoder in enumerate(self.encoders):
            values = self._run(encoder, F.max_pool3d(values, 2) if level else values, condition)
            skips.append(values)
        skips.pop()
        for decoder in reversed(self.decoders):
            upsampled = F.interpolate(values, scale_factor=2.0, mode="nearest")
            values = self._run(decoder, torch.cat([upsampled, skips.pop()], 1), condition)
        return self.output_film(self.output(values), condition)

    def _run(self, block: nn.Module, values: Tensor, condition: Tensor) -> Tensor:
        return recomputed(block, values, condition) if self.recomputes_blocks else block(values, condition)
