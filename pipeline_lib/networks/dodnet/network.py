"""DoDNet's own network: a residual 3D U-Net with weight standardisation and a task-conditioned dynamic head.

Zhang, Xie, Xia, Shen: "DoDNet: Learning to segment multi-organ and tumors from multiple partially labeled datasets",
CVPR 2021. Layers, widths and the number of parameters are those of its code. The optimiser, patch, batch and crops of a
training are not: they are those of the other methods.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config.optimisation import Checkpointing
from ...config.rois import is_lesion
from ..autocast_norms import GroupNorm
from ..dynamic_head import groups_for, head_features, start_as_plain_network
from ..generated_layers import generated_layers
from ..head_parameters import parameter_count
from ..recomputing import recomputed
from .settings import DodNet

_EPS = 1e-12
"""Added to the variance of a kernel, as in DoDNet's code."""


class StandardisedConv3d(nn.Conv3d):
    """A convolution whose kernel is standardised per output channel: mean 0 and standard deviation 1."""

    def forward(self, values: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3, 4), keepdim=True)
        return self._conv_forward(values, (self.weight - mean) / torch.sqrt(variance + _EPS), self.bias)


def norm_relu_conv(channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """GN-ReLU-WSConv without bias."""
    return nn.Sequential(
        GroupNorm(groups_for(channels), channels),
        nn.ReLU(inplace=True),
        StandardisedConv3d(channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False),
    )


class ResidualBlock(nn.Module):
    """Two GN-ReLU-WSConv 3×3×3 and a shortcut, projected by a 1×1×1 where the shape changes."""

    def __init__(self, channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            norm_relu_conv(channels, out_channels, 3, stride), norm_relu_conv(out_channels, out_channels, 3)
        )
        same = channels == out_channels and stride == 1
        self.shortcut = nn.Identity() if same else norm_relu_conv(channels, out_channels, 1, stride)

    def forward(self, values: Tensor) -> Tensor:
        return self.body(values) + self.shortcut(values)


class DodNetwork(nn.Module):
    """One logit per ROI and voxel; `embeddings` K×T has one row for each of `rois`, the one-hot code of its task.

    Every task has the same maps: those of organs first, then those of lesions, as many of each as the task with the
    most has (`task_and_map`; two in MOTS). The head of every task is computed for every image, which gives all K maps
    at once; DoDNet computes one task at a time, with the same result. With `gradient_checkpointing` "all", backward
    recomputes the activations of the blocks; there is no transformer.

    The controller starts as described in `start_as_plain_network`, DoDNet's from PyTorch's defaults.

    Raises ValueError if a row of `embeddings` is not one-hot.
    """

    channels_last_on_cpu = False

    def __init__(
        self,
        sizes: DodNet,
        embeddings: Tensor,
        rois: Sequence[str],
        gradient_checkpointing: Checkpointing = "none",
        fused_head: bool = True,
    ) -> None:
        super().__init__()
        self.fused_head = fused_head
        self.recomputes_blocks = gradient_checkpointing == "all"
        self.register_buffer("embeddings", embeddings.detach().float().clone())
        tasks, maps = task_and_map(embeddings, rois)
        self.maps = int(maps.max()) + 1
        self.register_buffer("_map_of_roi", tasks * self.maps + maps, persistent=False)

        width = self.feature_channels = sizes.width
        widths = (width, 2 * width, 4 * width, 8 * width, 8 * width)
        self.stem = StandardisedConv3d(1, width, 3, padding=1, bias=False)
        encoders = [ResidualBlock(width, width)]
        for channels, out_channels in pairwise(widths):
            encoders.append(
                nn.Sequential(ResidualBlock(channels, out_channels, 2), ResidualBlock(out_channels, out_channels))
            )
        self.encoders = nn.ModuleList(encoders)
        self.fusion = norm_relu_conv(widths[-1], widths[-1], 1)
        self.decoders = nn.ModuleList(
            ResidualBlock(channels, out_channels)
            for channels, out_channels in (
                (8 * width, 4 * width),
                (4 * width, 2 * width),
                (2 * width, width),
                (width, width),
            )
        )
        self.pooled = nn.Sequential(
            GroupNorm(groups_for(widths[-1]), widths[-1]), nn.ReLU(inplace=False), nn.AdaptiveAvgPool3d(1)
        )
        self.features = head_features(width)
        self.controller = nn.Linear(widths[-1] + embeddings.shape[1], parameter_count(self.maps))
        start_as_plain_network(self.controller, self.maps, one_hot=embeddings.shape[1])

    def forward(self, image: Tensor, with_features: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Logits B K D H W of `image` B 1 D H W in −1…1; D, H and W must divide by 16.

        With `with_features` also what the head sees at each voxel, the last decoder's output B C D H W.
        """
        values = self._run(self.encoders[0], self.stem(image))
        skips = []
        for encoder in self.encoders[1:]:
            skips.append(values)
            values = self._run(encoder, values)
        bottleneck = values = self.fusion(values)
        for decoder in self.decoders:
            # Added, not concatenated: the decoder's widths are made for it.
            values = F.interpolate(values, scale_factor=2.0, mode="trilinear") + skips.pop()
            values = self._run(decoder, values)
        parameters = self.controller(self._condition(bottleneck))
        logits = generated_layers(self.features(values), parameters, self.maps, self.fused_head)
        logits = logits.flatten(1, 2).index_select(1, self._map_of_roi)
        return (logits, values) if with_features else logits

    def for_prediction(self, device: torch.device, precision: torch.dtype) -> nn.Module:
        """This network: it has no faster form."""
        return self

    def _condition(self, bottleneck: Tensor) -> Tensor:
        """The pooled bottleneck joined with every task's code: B T C+T."""
        image = self.pooled(bottleneck).flatten(1)
        codes = torch.eye(self.embeddings.shape[1], device=image.device, dtype=image.dtype)
        B, T = len(image), len(codes)
        return torch.cat([image[:, None].expand(-1, T, -1), codes[None].expand(B, -1, -1)], dim=2)

    def _run(self, block: Callable[..., Tensor], values: Tensor) -> Tensor:
        return recomputed(block, values) if self.recomputes_blocks else block(values)


def task_and_map(codes: Tensor, rois: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The task of each of `rois` and its map among those of the task (K each), from one-hot rows K×T.

    In DoDNet map 0 is a task's organ and map 1 its tumour, also where a task has no organ, as those of colon cancer
    and of lung tumours. In general the organs of a task come first, each in its place among them; lesions follow, after
    as many maps as the task with the most organs needs.

    Raises ValueError if a row is not one-hot.
    """
    if not (((codes == 0) | (codes == 1)).all() and (codes.sum(1) == 1).all()):
        raise ValueError("DoDNet's embeddings must be one-hot rows, one per ROI: use a text encoder of kind one_hot")
    tasks = codes.argmax(1)
    lesion = torch.tensor([is_lesion(roi) for roi in rois], device=codes.device)
    alike = (tasks[:, None] == tasks[None, :]) & (lesion[:, None] == lesion[None, :])
    place = torch.tril(alike, diagonal=-1).sum(1)
    organ_maps = int((place[~lesion] + 1).max()) if (~lesion).any() else 0
    return tasks, place + organ_maps * lesion
