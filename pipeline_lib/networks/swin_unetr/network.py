"""SwinUNETR's trunk (MONAI) under the text-conditioned dynamic head."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...config.optimisation import Checkpointing
from ...monai_parts import SwinUNETR
from ..dynamic_head import TextConditionedHead
from ..instance_norm import InstanceNorm
from ..recomputing import recomputed
from ..replacing import replace
from .fast_form import fast_form
from .settings import SwinUnetr
from .window_attention import fuse_attention


class TextConditionedSwinUnetr(nn.Module):
    """One logit per ROI and voxel; the ROIs are given by their text embeddings, K×E, kept as a buffer.

    With `gradient_checkpointing` backward recomputes the transformer's activations, or those of the whole trunk, which
    are then not kept. The transformer's are a fifth of all on a GPU and half on a CPU, where attention keeps its
    weights. Recomputing them costs a few hundredths of a GPU's time and an eighth of a CPU's (docs/performance.md).

    The trunk starts from random weights; a training may load others into it (networks/start.py).
    """

    channels_last_on_cpu = True

    def __init__(
        self,
        sizes: SwinUnetr,
        embeddings: Tensor,
        gradient_checkpointing: Checkpointing = "none",
        fused_head: bool = True,
    ) -> None:
        super().__init__()
        self.recomputes_blocks = gradient_checkpointing == "all"
        self.trunk = SwinUNETR(
            in_channels=1,
            out_channels=1,
            feature_size=sizes.feature_size,
            depths=sizes.depths,
            num_heads=sizes.num_heads,
            window_size=sizes.window_size,
            use_v2=sizes.use_v2,
            use_checkpoint=gradient_checkpointing != "none",
        )
        fuse_attention(self.trunk)
        replace(self.trunk, nn.InstanceNorm3d, InstanceNorm)
        # The dynamic head takes its place; parameters that get no gradient would stop DistributedDataParallel.
        del self.trunk.out
        self.register_buffer("embeddings", embeddings.detach().float().clone())
        self.head = TextConditionedHead(sizes.feature_size, 16 * sizes.feature_size, self.embeddings, fused_head)

    def forward(self, image: Tensor) -> Tensor:
        """Logits B K D H W of `image` B 1 D H W in −1…1; D, H and W must divide by 32."""
        decoded, bottleneck = self._features(image)
        return self.head(decoded, bottleneck, self.embeddings)

    def for_prediction(self, device: torch.device, precision: torch.dtype) -> nn.Module:
        """This network, changed in place, in the form in which it predicts fastest (see fast_form.py)."""
        return fast_form(self, device, precision)

    def _features(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The last decoder's output B C D H W and `encoder10`'s, B 16·C D/32 H/32 W/32."""
        trunk, run = self.trunk, self._run
        stages = trunk.swinViT(image, trunk.normalize)
        bottleneck = run(trunk.encoder10, stages[4])
        decoded = run(trunk.decoder5, bottleneck, stages[3])
        decoded = run(trunk.decoder4, decoded, run(trunk.encoder4, stages[2]))
        decoded = run(trunk.decoder3, decoded, run(trunk.encoder3, stages[1]))
        decoded = run(trunk.decoder2, decoded, run(trunk.encoder2, stages[0]))
        decoded = run(trunk.decoder1, decoded, run(trunk.encoder1, image))
        return decoded, bottleneck

    def _run(self, block: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
        return recomputed(block, *arguments) if self.recomputes_blocks else block(*arguments)
