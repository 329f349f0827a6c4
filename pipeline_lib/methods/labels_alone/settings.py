"""Settings of the methods that learn from labels alone: the baseline and, with DoDNet's network, DoDNet."""

from __future__ import annotations

from typing import ClassVar, Literal

from ...config.method_settings import SupervisedMethodSettings


class LabelsAlone(SupervisedMethodSettings):
    """Eq. 1 on the ROIs that a sample labels, and nothing on the others."""

    sees_data_sets: ClassVar[bool] = True

    kind: Literal["labels_alone"]
