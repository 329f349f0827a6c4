"""Settings of Hermes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from ...config.method_settings import MethodSettings


class Hermes(MethodSettings):
    """Cross-entropy and adaptive Tversky loss of labelled ROIs, by a network that is asked for those of each sample.

    Gao et al.: "Training like a medical resident: Context-prior learning toward universal medical image segmentation",
    CVPR 2024. Published: both terms, the network and the moving average, which it predicts with (`inference: {weights:
    teacher}`). Ours: AdamW (theirs: LAMB), length, patches, batches and decay of all rows; all ROIs are asked for at
    once in prediction.
    """

    needs_teacher: ClassVar[bool] = True
    terms: ClassVar[Mapping[str, str]] = {"cross_entropy": "cross-entropy", "tversky": "adaptive Tversky"}

    kind: Literal["hermes"]
