"""Settings of SwinUNETR with the text-conditioned head."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ...config.network_settings import NetworkSettings


class SwinUnetr(NetworkSettings):
    """The SwinUNETR trunk (MONAI), which halves every side five times, and the Universal Model's head."""

    renamed: ClassVar = {"heads": "num_heads", "window": "window_size", "version_2": "use_v2"}
    patch_multiple: ClassVar[int] = 32
    normalises_bottleneck: ClassVar[bool] = True

    kind: Literal["swin_unetr"]
    feature_size: Annotated[int, Field(ge=12, multiple_of=12)] = Field(
        default=48, description="Channels of the first stage (48 is the published network)."
    )
    depths: tuple[int, int, int, int] = Field(default=(2, 2, 2, 2), description="Transformer blocks per stage.")
    num_heads: tuple[int, int, int, int] = Field(default=(3, 6, 12, 24), description="Attention heads per stage.")
    window_size: Annotated[int, Field(ge=2)] = Field(default=7, description="Side of the attention window in tokens.")
    use_v2: bool = Field(default=False, description="SwinUNETR v2's residual convolution at each stage.")
