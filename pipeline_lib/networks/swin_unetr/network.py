"""SwinUNETR's trunk (MONAI) under the text-conditioned dynamic head, or with parts that data sets have of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ...config.optimisation import Checkpointing
from ...monai_parts import SwinUNETR, UnetrUpBlock
from ..autocast_norms import LayerNorm, normed_channels
from ..dynamic_head import TextConditionedHead
from ..instance_norm import InstanceNorm
from ..per_data_set import PerDataSet, head_per_data_set, output_per_roi
from ..recomputing import recomputed
from ..replacing import replace
from ..universal_prompt import UniversalPrompt, prompted
from .fast_form import fast_form
from .settings import SwinUnetr
from .window_attention import fuse_attention


class SwinUnetrTrunk(nn.Module):
    """What all networks on this trunk share; `embeddings` K×E have a row for each ROI and are kept as a buffer.

    With `gradient_checkpointing` backward recomputes the transformer's activations, or those of the whole trunk, which
    are then not kept. The transformer's are a fifth of all on a GPU and half on a CPU, where attention keeps its
    weights. Recomputing them costs a few hundredths of a GPU's time and an eighth of a CPU's (docs/performance.md).

    The trunk starts from random weights; a training may load others into it (networks/start.py).
    """

    channels_last_on_cpu = True

    def __init__(self, sizes: SwinUnetr, embeddings: Tensor, gradient_checkpointing: Checkpointing) -> None:
        super().__init__()
        self.recomputes_blocks = gradient_checkpointing == "all"
        self.feature_channels = sizes.feature_size
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
        replace(self.trunk, nn.LayerNorm, LayerNorm)
        # A head takes its place; parameters that get no gradient would stop DistributedDataParallel.
        del self.trunk.out
        self.register_buffer("embeddings", embeddings.detach().float().clone())

    def for_prediction(self, device: torch.device, precision: torch.dtype) -> nn.Module:
        """This network, changed in place, in the form in which it predicts fastest (see fast_form.py)."""
        return fast_form(self, device, precision)

    def encoded(self, image: Tensor) -> tuple[Tensor, Iterator[Tensor]]:
        """`encoder10`'s output B 16·C D/32 H/32 W/32, and what else the decoders get, computed as they ask for it."""
        # MONAI's transformer would normalise them itself, in float32 on a GPU.
        stages = [normed_channels(stage) for stage in self.trunk.swinViT(image, normalize=False)]
        return self._run(self.trunk.encoder10, stages[4]), self._skips(image, stages)

    def decoded(self, values: Tensor, skips: Iterable[Tensor]) -> Tensor:
        """The last decoder's output, B C D H W."""
        trunk = self.trunk
        decoders = (trunk.decoder5, trunk.decoder4, trunk.decoder3, trunk.decoder2, trunk.decoder1)
        for decoder, skip in zip(decoders, skips, strict=True):
            values = self._run(decoder, values, skip)
        return values

    def _skips(self, image: Tensor, stages: Sequence[Tensor]) -> Iterator[Tensor]:
        yield stages[3]
        yield self._run(self.trunk.encoder4, stages[2])
        yield self._run(self.trunk.encoder3, stages[1])
        yield self._run(self.trunk.encoder2, stages[0])
        yield self._run(self.trunk.encoder1, image)

    def _run(self, block: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
        return recomputed(block, *arguments) if self.recomputes_blocks else block(*arguments)


class TextConditionedSwinUnetr(SwinUnetrTrunk):
    """One logit per ROI and voxel; the ROIs are given by their text embeddings.

    With `per_data_set`, outputs or heads of the data sets take the place of the head that is conditioned on text.
    """

    def __init__(
        self,
        sizes: SwinUnetr,
        embeddings: Tensor,
        gradient_checkpointing: Checkpointing = "none",
        fused_head: bool = True,
        rois_of_data_sets: Sequence[Sequence[int]] = (),
    ) -> None:
        super().__init__(sizes, embeddings, gradient_checkpointing)
        channels = sizes.feature_size
        self.answers_per_data_set = sizes.per_data_set is not None
        self.head: TextConditionedHead | PerDataSet
        if self.answers_per_data_set:
            branch = output_per_roi if sizes.per_data_set == "outputs" else head_per_data_set
            branches = [branch(channels, len(rois)) for rois in rois_of_data_sets]
            self.head = PerDataSet(branches, rois_of_data_sets, len(embeddings))
        else:
            self.head = TextConditionedHead(
                channels,
                16 * channels,
                self.embeddings,
                fused_head,
                raw_embeddings=sizes.embedding_scale == "raw",
                published_start=sizes.head_start == "published",
            )

    def forward(
        self, image: Tensor, datasets: Tensor | None = None, with_features: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits B K D H W of `image` B 1 D H W in −1…1; D, H and W must divide by 32.

        `datasets` int64 B are the samples', for a head that has parts for each (see per_data_set.py). With
        `with_features` also what the head sees at each voxel, the last decoder's output B C D H W.
        """
        bottleneck, skips = self.encoded(image)
        decoded = self.decoded(bottleneck, skips)
        if isinstance(self.head, PerDataSet):
            logits = self.head(decoded, datasets)
        else:
            logits = self.head(decoded, bottleneck, self.embeddings)
        return (logits, decoded) if with_features else logits


class PromptedSwinUnetr(SwinUnetrTrunk):
    """UniSeg on this trunk: the data set's prompt joins the bottleneck, and one head serves the ROIs of all data sets.

    Ye et al.: "UniSeg: A prompt-driven universal segmentation model as well as a strong representation learner", MICCAI
    2023. Map j is the j-th ROI of the data set that is asked for. Published: prompt, fusion and shared head. Ours: the
    trunk (theirs is nnU-Net's), one sigmoid per ROI (theirs: softmax), and batches of several data sets.

    `patch` D H W is the size of all images, since the prompt has a value for each place of the bottleneck. Prediction
    decodes once for each data set.
    """

    answers_per_data_set = True

    def __init__(
        self,
        sizes: SwinUnetr,
        embeddings: Tensor,
        gradient_checkpointing: Checkpointing,
        rois_of_data_sets: Sequence[Sequence[int]],
        patch: tuple[int, int, int],
    ) -> None:
        super().__init__(sizes, embeddings, gradient_checkpointing)
        self.rois, channels = rois_of_data_sets, sizes.feature_size
        self.prompt = UniversalPrompt(16 * channels, len(self.rois), tuple(side // 32 for side in patch))
        # As MONAI's, but for one more channel.
        self.trunk.decoder5 = UnetrUpBlock(
            spatial_dims=3,
            in_channels=16 * channels + 1,
            out_channels=8 * channels,
            kernel_size=3,
            upsample_kernel_size=2,
            norm_name="instance",
            res_block=True,
        )
        replace(self.trunk.decoder5, nn.InstanceNorm3d, InstanceNorm)
        self.head = nn.Conv3d(channels, max(map(len, self.rois)), kernel_size=1)

    def forward(self, image: Tensor, datasets: Tensor | None = None) -> Tensor:
        """Logits B K D H W of `image` B 1 D H W in −1…1; `datasets` int64 B are the samples', without them all's."""
        bottleneck, computed = self.encoded(image)
        # The decoder of each data set needs them.
        skips = list(computed) if datasets is None else computed

        def decoded(prompt: Tensor) -> Tensor:
            return self.head(self.decoded(torch.cat([bottleneck, prompt], 1), skips))

        count = len(self.embeddings)  # type: ignore[arg-type]
        return prompted(decoded, self.prompt(bottleneck), self.rois, count, datasets)
