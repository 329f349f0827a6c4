"""Segment CTs with a trained model in three lines.

    model = lacuna.load("model.safetensors")
    masks = model.predict("ct.nii.gz")         # or a SimpleITK image
    liver = masks["liver"]                     # bool, D H W (z, y, x) on the CT's own grid

`lacuna predict` is the same on the command line. Importing this package loads nothing heavy; `load` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import UserError
from pipeline_lib.version import version

if TYPE_CHECKING:
    from pipeline_lib.prediction.model import Model

__all__ = ["UserError", "load"]
__version__ = version()


def load(*models: str | Path, **options: Any) -> Model:
    """The model in a file, or several whose probabilities are averaged, ready to `predict`.

    `options` are the fields of pipeline_lib.prediction.model.Options: device, precision, fast, overlap, flip_tta,
    weights, largest_part, runtime. Raises UserError, one line, if a file is not a usable model or models do not fit
    together.
    """
    from pipeline_lib.prediction.model import Options, load_models

    return load_models([Path(model) for model in models], Options(**options))
