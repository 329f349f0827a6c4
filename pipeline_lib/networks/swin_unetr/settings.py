"""Settings of SwinUNETR with the text-conditioned head."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ...config.network_settings import NetworkSettings
from ...config.section import Count


class SwinUnetr(NetworkSettings):
    """The SwinUNETR trunk (MONAI), which halves every side five times, and the Universal Model's head."""

    renamed: ClassVar = {"heads": "num_heads", "window": "window_size", "version_2": "use_v2"}
    patch_multiple: ClassVar[int] = 32
    normalises_bottleneck: ClassVar[bool] = True
    has_features: ClassVar[bool] = True

    kind: Literal["swin_unetr"]
    feature_size: Annotated[int, Field(ge=12, multiple_of=12)] = Field(
        default=48, description="Channels of the first stage (48 is the published network)."
    )
    depths: tuple[Count, Count, Count, Count] = Field(default=(2, 2, 2, 2), description="Transformer blocks per stage.")
    num_heads: tuple[Count, Count, Count, Count] = Field(
        default=(3, 6, 12, 24), description="Attention heads per stage."
    )
    window_size: Annotated[int, Field(ge=2)] = Field(default=7, description="Side of the attention window in tokens.")
    use_v2: bool = Field(default=False, description="SwinUNETR v2's residual convolution at each stage.")
    embedding_scale: Literal["standardised", "raw"] = Field(
        default="standardised",
        description="Text embeddings as the head sees them. standardised: centred over the ROIs, mean square 1; raw: "
        "as the encoder gives them (Universal Model).",
    )
    head_start: Literal["scaled", "published"] = Field(
        default="scaled",
        description="First weights of the head's controller. scaled: the layers that it generates start like ordinary "
        "ones; published: PyTorch's default (Universal Model).",
    )

    @property
    def reads_embeddings(self) -> bool:
        """Only the text-conditioned head does."""
        return self.per_data_set in (None, "network")

    @model_validator(mode="after")
    def _has_the_head_that_it_describes(self) -> Self:
        if not self.reads_embeddings and (self.embedding_scale != "standardised" or self.head_start != "scaled"):
            raise ValueError(
                "`embedding_scale` and `head_start` are of the text-conditioned head, which gives way to "
                f"`per_data_set: {self.per_data_set}`: leave them out"
            )
        return self
