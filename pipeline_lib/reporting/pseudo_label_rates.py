"""Rates of pseudo labels from sums of voxels: of one training, and of several together."""

from __future__ import annotations

import pandas as pd

COUNTS = ("crops", "crops_with_roi", "voxels_predicted", "voxels_true", "voxels_true_positive", "voxels_in_rivals")
"""Columns of sums; one follows for each ROI that false voxels may lie in."""


def with_rates(sums: pd.DataFrame) -> pd.DataFrame:
    """The table with columns `precision`, `recall` and `in_rivals`, from its sums of voxels; NaN where a sum is 0."""
    predicted, true = (sums[name].where(sums[name] > 0) for name in ("voxels_predicted", "voxels_true"))
    return sums.assign(
        precision=sums["voxels_true_positive"] / predicted,
        recall=sums["voxels_true_positive"] / true,
        in_rivals=sums["voxels_in_rivals"] / predicted,
    )
