"""Settings of the target adaptive loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from ...config.method_settings import LeafMethodSettings


class TargetAdaptive(LeafMethodSettings):
    """Cross-entropy of one softmax, in which organs that a sample does not label belong to its background.

    Fang and Yan: "Multi-organ segmentation over partially labeled datasets with multi-scale feature abstraction", IEEE
    Transactions on Medical Imaging, 2020. Published: the loss. Ours: network, optimiser and batches of all rows, and
    that ROIs of one organ may overlap.
    """

    terms: ClassVar[Mapping[str, str]] = {"cross_entropy": "marginal cross-entropy"}

    kind: Literal["target_adaptive"]
