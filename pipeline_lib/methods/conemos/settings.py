"""Settings of CoNeMOS."""

from __future__ import annotations

from typing import ClassVar, Literal

from ...config.method_settings import SupervisedMethodSettings


class Conemos(SupervisedMethodSettings):
    """Eq. 1 of one ROI of each sample, drawn among those that it labels, by a network that is told which.

    Billot et al.: "Network conditioning for synergistic learning on partial annotations", MIDL 2024. Published: the
    network and the drawn ROI. Ours: Eq. 1 as in the other rows (theirs is Dice after a first phase that fits logits:
    `cross_entropy: false`), AdamW, and length, patches and batches of all rows.
    """

    asks_one_roi: ClassVar[bool] = True

    kind: Literal["conemos"]
