"""Settings of Hermes' network."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ...config.network_settings import NetworkSettings


class HermesUnet(NetworkSettings):
    """Hermes' residual U-Net, which halves every side four times, and tokens of ROIs that attend to its features.

    Gao et al.: "Training like a medical resident: Context-prior learning toward universal medical image segmentation",
    CVPR 2024. Published: widths, places and blocks of the attention, tokens, and the output. Ours: a mask in place of a
    null token for ROIs that are not asked for, one modality and so no term that names it, and the form of the residual
    block. The tokens are the network's own, so the method's `encoder` has no effect.
    """

    patch_multiple: ClassVar[int] = 16
    normalises_bottleneck: ClassVar[bool] = True
    has_features: ClassVar[bool] = True

    kind: Literal["hermes"]
    per_data_set: Literal["network"] | None = Field(
        default=None, description="network: each data set has its own, which it alone trains; null: all share one."
    )
    width: Annotated[int, Field(ge=8, multiple_of=8)] = Field(
        default=32, description="Channels of the first level (32 is the published network)."
    )

    @property
    def reads_embeddings(self) -> bool:
        return False
