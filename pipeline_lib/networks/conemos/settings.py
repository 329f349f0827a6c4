"""Settings of CoNeMOS' network."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ...config.network_settings import NetworkSettings


class ConemosUnet(NetworkSettings):
    """CoNeMOS' U-Net of four levels, which halves every side three times; the wanted ROI modulates every layer.

    Billot et al.: "Network conditioning for synergistic learning on partial annotations", MIDL 2024. Published: layers,
    widths and conditioning. Ours: instance normalisation (an option there, batch normalisation being its default), a
    modulation that starts as none, and AdamW's weight decay in place of an L2 penalty of the modulation. The code of a
    ROI is one-hot, so the method's `encoder` has no effect.
    """

    patch_multiple: ClassVar[int] = 8
    normalises_bottleneck: ClassVar[bool] = True
    answers_one_roi: ClassVar[bool] = True

    kind: Literal["conemos"]
    per_data_set: Literal["network"] | None = Field(
        default=None, description="network: each data set has its own, which it alone trains; null: all share one."
    )
    width: Annotated[int, Field(ge=1)] = Field(
        default=16, description="Channels of the first level, doubled at each (16 is the published network)."
    )

    @property
    def reads_embeddings(self) -> bool:
        return False
