"""The parts of MONAI that are used, imported without the optional packages that MONAI tries for its other parts.

`import monai` loads all of MONAI, and with it every optional package that is installed. Loading them takes longer
than all the rest, at the start of most stages, and they serve nothing here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_UNUSED = ("matplotlib", "pandas", "scipy.signal", "skimage", "sklearn", "tensorboard", "torchvision", "transformers")


@contextmanager
def left_out(*packages: str) -> Iterator[None]:
    """Inside, `packages` look as if they were not installed, except those that are imported already."""
    missing = [package for package in packages if package not in sys.modules]
    sys.modules.update(dict.fromkeys(missing))  # type: ignore[arg-type]  # None forbids an import
    try:
        yield
    finally:
        for package in missing:
            del sys.modules[package]


with left_out(*_UNUSED):
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice
    from monai.networks.blocks import UnetrUpBlock
    from monai.networks.nets.resnet import ResNet, ResNetBlock
    from monai.networks.nets.swin_unetr import (
        BasicLayer,
        SwinUNETR,
        WindowAttention,
        compute_mask,
        get_window_size,
    )

__all__ = [
    "BasicLayer",
    "ResNet",
    "ResNetBlock",
    "SwinUNETR",
    "UnetrUpBlock",
    "WindowAttention",
    "compute_hausdorff_distance",
    "compute_mask",
    "compute_surface_dice",
    "get_window_size",
]
