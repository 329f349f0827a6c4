"""Settings of DoDNet's own network."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ...config.network_settings import Conditioning, NetworkSettings


class DodNet(NetworkSettings):
    """DoDNet's residual 3D U-Net, which halves every side four times, and its head."""

    patch_multiple: ClassVar[int] = 16
    conditioning: ClassVar[Conditioning] = "one_hot"
    has_features: ClassVar[bool] = True

    kind: Literal["dodnet"]
    per_data_set: Literal["network"] | None = Field(
        default=None, description="network: each data set has its own, which it alone trains; null: all share one."
    )
    width: Annotated[int, Field(ge=8, multiple_of=8)] = Field(
        default=32, description="Channels of the first stage (32 is the published network)."
    )
