"""The image and the structure map that anatomy is painted on, back to front."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .frame import Array, Frame, Local

Mask = NDArray[np.bool_]


class Canvas:
    """HU and structure of every voxel. What is painted later covers what lies there already.

    `hu` is float32 D H W; `structure` is an index into `names` (0: nothing with a name), D H W.
    """

    def __init__(self, frame: Frame, background_hu: float) -> None:
        self.frame = frame
        self.hu = np.full(frame.grid.shape, background_hu, np.float32)
        self.structure = np.zeros(frame.grid.shape, np.uint8)
        self.names: list[str] = [""]

    def paint(self, local: Local, distance: Array, hu: float | Array, name: str | None = None) -> None:
        """Fill the shape with `hu`; voxels on its border get a mixture, as partial volumes do.

        Parameters
        ----------
        distance: signed distance in mm over the box.
        name: structure that voxels with their centre inside become; None paints the image and unnames them.
        """
        self.tint(local, distance, hu)
        self.structure[local.slices][distance < 0] = self.index(name)

    def tint(self, local: Local, distance: Array, hu: float | Array) -> None:
        """Change the image as `paint` does, and leave the structures as they are."""
        view = self.hu[local.slices]
        view += np.clip(np.float32(0.5) - distance / np.float32(self.frame.voxel), 0, 1) * (hu - view)

    def mask(self, name: str) -> Mask:
        """Where a structure is, D H W."""
        if name not in self.names:
            return np.zeros(self.structure.shape, bool)
        return self.structure == self.names.index(name)

    def any_of(self, names: tuple[str, ...]) -> Mask:
        """Where any of the structures is, D H W."""
        chosen = np.array([name in names for name in self.names])
        return chosen[self.structure]

    def index(self, name: str | None) -> int:
        """The number of a structure in the map, given out when it is first asked for."""
        if name is None:
            return 0
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)
