"""Settings of the lower bound that takes what is not labelled for background."""

from __future__ import annotations

from typing import Literal

from ...config.method_settings import SupervisedMethodSettings


class Background(SupervisedMethodSettings):
    """Eq. 1 on every ROI, of which those that a sample does not label are taught as absent.

    Nobody publishes this as a method: it is what training on the joined data sets does if nothing is said of missing
    labels, and the bound that every other row should exceed. Voxels that a labelled ROI's masks call unknown are left
    out: every training knows an ignore label. So is a case that labels no ROI: it would teach that no ROI is there.
    """

    kind: Literal["background"]
