"""DoDNet's own network: a residual 3D U-Net with weight standardisation and a task-conditioned dynamic head.

Zhang, Xie, Xia, Shen: "DoDNet: Learning to segment multi-organ and tumors from multiple partially labeled datasets",
CVPR 2021.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.methods import DodNet
from ..config.optimisation import Checkpointing
from .dynamic_head import groups_for, head_features, start_as_plain_network
from .generated_layers import generated_layers
from .head_parameters import parameter_count
from .recomputing import recomputed


class StandardisedConv3d(nn.Conv3d):
    """A convolution whose kernel has mean 0 and standard deviation 1 per output channel."""

    def forward(self, values: Tensor) -> Tensor:
        deviation, mean = torch.std_mean(self.weight, dim=(1, 2, 3, 4), keepdim=True)
        return self._conv_forward(values, (self.weight - mean) / (deviation + 1e-5), self.bias)


def norm_relu_conv(channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """GN-ReLU-WSConv without bias."""
    return nn.Sequential(
        nn.GroupNorm(groups_for(channels), channels),
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
    """One logit per ROI and voxel; `embeddings` K×T has one row per ROI, the one-hot code of its task.

    As many maps are generated per task as the largest task has ROIs; a ROI's map is its place among its task's ROIs.
    With `gradient_checkpointing` "all" the blocks' activations are made again in backward instead of kept; there is no
    transformer.

    Raises ValueError if a row of `embeddings` is not one-hot.
    """

    def __init__(
        self,
        sizes: DodNet,
        embeddings: Tensor,
        gradient_checkpointing: Checkpointing = "none",
        fused_head: bool = True,
    ) -> None:
        super().__init__()
        self.fused_head = fused_head
        self.recomputes_blocks = gradient_checkpointing == "all"
        self.register_buffer("embeddings", embeddings.detach().float().clone())
        tasks, place = task_and_place(embeddings)
        self.maps = int(place.max()) + 1
        self.register_buffer("_map_of_roi", tasks * self.maps + place, persistent=False)

        width = sizes.width
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
            nn.GroupNorm(groups_for(widths[-1]), widths[-1]), nn.ReLU(inplace=False), nn.AdaptiveAvgPool3d(1)
        )
        self.features = head_features(width)
        self.controller = nn.Linear(widths[-1] + embeddings.shape[1], parameter_count(self.maps))
        start_as_plain_network(self.controller, self.maps, one_hot=embeddings.shape[1])

    def forward(self, image: Tensor) -> Tensor:
        """Logits B K D H W of `image` B 1 D H W in −1…1; D, H and W must divide by 16."""
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
        return logits.flatten(1, 2).index_select(1, self._map_of_roi)

    def _condition(self, bottleneck: Tensor) -> Tensor:
        """The pooled bottleneck joined with every task's code: B T C+T."""
        image = self.pooled(bottleneck).flatten(1)
        codes = torch.eye(self.embeddings.shape[1], device=image.device, dtype=image.dtype)
        B, T = len(image), len(codes)
        return torch.cat([image[:, None].expand(-1, T, -1), codes[None].expand(B, -1, -1)], dim=2)

    def _run(self, block: Callable[..., Tensor], values: Tensor) -> Tensor:
        return recomputed(block, values) if self.recomputes_blocks else block(values)


def task_and_place(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Each ROI's task and its place among the earlier ROIs of that task (K each), from one-hot rows K×T.

    Raises ValueError if a row is not one-hot.
    """
    if not (((codes == 0) | (codes == 1)).all() and (codes.sum(1) == 1).all()):
        raise ValueError("DoDNet's embeddings must be one-hot rows, one per ROI: use a text encoder of kind one_hot")
    tasks = codes.argmax(1)
    earlier = torch.tril(tasks[:, None] == tasks[None, :], diagonal=-1)
    return tasks, earlier.sum(1)
