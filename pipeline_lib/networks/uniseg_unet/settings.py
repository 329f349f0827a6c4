"""Settings of UniSeg's own network."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ...config.network_settings import NetworkSettings


class UnisegUnet(NetworkSettings):
    """UniSeg's network: nnU-Net's plain 3D U-Net of six levels, with a learned prompt for each data set.

    Ye et al.: "UniSeg: A prompt-driven universal segmentation model as well as a strong representation learner", MICCAI
    2023. Published, for patches of 192×192×64 voxels: x and y are halved five times and z four times; layers, widths,
    first weights, prompt and fusion; one last convolution for all data sets, whose map j is the j-th ROI of the data
    set that is asked for. Ours: a sigmoid per ROI in place of a softmax over a data set's classes, batches of several
    data sets, and no deep supervision. The prompt has a value for each place of the bottleneck, so that a model
    predicts patches of the size that it was trained on. Every side of a patch must divide by 32, though z is halved
    only four times. The prompts are the network's own, so the method's `encoder` has no effect.
    """

    patch_multiple: ClassVar[int] = 32
    normalises_bottleneck: ClassVar[bool] = True

    kind: Literal["uniseg_unet"]
    per_data_set: Literal["prompt"] = Field(
        default="prompt",
        description="What each data set has of its own, and so a network for labels_alone only: a prompt at the "
        "bottleneck. A ROI is predicted with the prompts of the data sets of which a training case labels it.",
    )
    width: Annotated[int, Field(ge=1)] = Field(
        default=32, description="Channels of the first level (32 is the published network)."
    )

    @property
    def reads_embeddings(self) -> bool:
        return False
