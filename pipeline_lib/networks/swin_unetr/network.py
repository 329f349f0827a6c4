"""SwinUNETR's trunk (MONAI) under the text-conditioned dynamic head."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.networks.nets import SwinUNETR
from torch import Tensor, nn

from ...config.optimisation import Checkpointing
from ..dynamic_head import TextConditionedHead
from ..instance_norm import InstanceNorm
from ..per_data_set import PerDataSet, head_per_data_set, output_per_roi
from ..recomputing import recomputed
from ..replacing import replace
from .fast_form import fast_form
from .settings import SwinUnetr
from .window_attention import fuse_attention


class TextConditionedSwinUnetr(nn.Module):
    """One logit per ROI and voxel; the ROIs are given by their text embeddings, K×E, kept as a buffer.

    With `per_data_set`, outputs or heads of the data sets take the place of the head that is conditioned on text.

    With `gradient_checkpointing` backward recomputes the transformer's activations, or those of the whole trunk, which
    are then not kept. The transformer's are a fifth of all on a GPU and half on a CPU, where attention keeps its
    weights. Recomputing them costs a few hundredths of a GPU's time and an eighth of a CPU's (docs/performance.md).

    The trunk starts from random weights; the Universal Model may start from MONAI's self-supervised ones.
    """

    channels_last_on_cpu = True

    def __init__(
        self,
        sizes: SwinUnetr,
        embeddings: Tensor,
        gradient_checkpointing: Checkpointing = "none",
        fused_head: bool = True,
        rois_of_data_sets: Sequence[Sequence[int]] = (),
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
        channels = sizes.feature_size
        self.answers_per_data_set = sizes.per_data_set is not None
        self.head: TextConditionedHead | PerDataSet
        if self.answers_per_data_set:
            branch = output_per_roi if sizes.per_data_set == "outputs" else head_per_data_set
            branches = [branch(channels, len(rois)) for rois in rois_of_data_sets]
            self.head = PerDataSet(branches, rois_of_data_sets, len(embeddings))
        else:
            self.head = TextConditionedHead(channels, 16 * channels, embeddings.shape[1], fused_head)
        self.register_buffer("embeddings", embeddings.detach().float().clone())

    def forward(self, image: Tensor, datasets: Tensor | None = None) -> Tensor:
        """Logits B K D H W of `image` B 1 D H W in −1…1; D, H and W must divide by 32.

        `datasets` int64 B are the samples', for a head that has parts for each (see per_data_set.py).
        """
        decoded, bottleneck = self._features(image)
        if isinstance(self.head, PerDataSet):
            return self.head(decoded, datasets)
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
