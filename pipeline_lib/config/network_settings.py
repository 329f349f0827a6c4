"""What the settings class of a segmentation network states about it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from .section import Section

Conditioning = Literal["text", "one_hot"]


class NetworkSettings(Section):
    """The facts about a kind of network that the config is checked by; the keys are those of each kind.

    Every side of a patch must divide by `patch_multiple`; with `normalises_bottleneck` one side must be larger, because
    statistics over a single voxel are undefined. `conditioning` is what tells the network its ROIs: text embeddings,
    or DoDNet's one-hot code of the task. `answers_one_roi` is whether it can be asked for one ROI alone, `has_features`
    whether the logits of all ROIs come from the same features, which it can return.
    """

    patch_multiple: ClassVar[int]
    normalises_bottleneck: ClassVar[bool] = False
    conditioning: ClassVar[Conditioning] = "text"
    answers_one_roi: ClassVar[bool] = False
    has_features: ClassVar[bool] = False

    kind: str = Field(description="Architecture.")
    per_data_set: Literal["outputs", "head", "prompt", "network"] | None = Field(
        default=None,
        description="What each data set has of its own, which its samples alone train (labels_alone); a ROI is "
        "predicted by those of the data sets of which a training case labels it, all alike. outputs: a last 1×1×1 "
        "convolution; head: two convolutions; prompt: UniSeg's, at the bottleneck, under one head for all; network: "
        "everything; null: nothing. The first three replace swin_unetr's text-conditioned head, so that the method's "
        "`encoder` has no effect.",
    )

    @property
    def reads_embeddings(self) -> bool:
        """Whether the numbers in the ROIs' embeddings have an effect, and not only how many ROIs there are."""
        return True
