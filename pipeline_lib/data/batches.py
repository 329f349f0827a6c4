"""Turns regions on the host into batches on the training device: both views, labels, existence scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config.augmentation import StrongView
from ..label_bits import plane_and_bit
from .crops import Shape
from .reading import Region
from .strong_view import draw_strong, strong_image
from .weak_view import noise_generator, weak_codes, weak_image


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of one step on the device.

    x_T and x_S float32 B 1 D H W, label bits uint8 B P D H W, labelled bool B K, existence scores float32 B K; `names`
    say which case and crop each sample is. `unknown` has the bits of the voxels at which a ROI is unknown, though the
    sample labels it (uint8 B P D H W; None if the batch has no such case).
    """

    names: tuple[str, ...]
    weak: Tensor
    strong: Tensor
    planes: Tensor
    labelled: Tensor
    scores: Tensor
    unknown: Tensor | None = None

    @property
    def labels(self) -> Tensor:
        """Labels as bool B K D H W."""
        return unpacked(self.planes, self.labelled.shape[1])

    @property
    def known(self) -> Tensor | None:
        """At which voxels the label of each ROI is known, bool B K D H W; None if at all voxels of labelled ROIs."""
        if self.unknown is None:
            return None
        return self.labelled[:, :, None, None, None] & ~unpacked(self.unknown, self.labelled.shape[1])

    def presence(self, least_voxels: int) -> tuple[Tensor, Tensor]:
        """Whether each sample holds at least so many voxels of each ROI, and whether its labels tell, bool B K each."""
        present, known = self.labelled_voxels >= least_voxels, self.known
        if known is None:
            return present, self.labelled
        return present, self.labelled & (present | known.flatten(2).all(2))

    @property
    def labelled_voxels(self) -> Tensor:
        """How many voxels each ROI has in each sample, int64 B K, without unpacking the labels."""
        places = [plane_and_bit(roi) for roi in range(self.labelled.shape[1])]
        return torch.stack([(self.planes[:, plane] >> bit & 1).sum(dim=(-3, -2, -1)) for plane, bit in places], dim=1)


@dataclass(frozen=True)
class ViewMaker:
    """Makes the views of samples from the draws in their regions and from random numbers keyed by (seed, sample).

    Without a strong view, x_S is x_T.
    """

    strong: StrongView | None
    patch: Shape
    window_hu: tuple[float, float]
    seed: int
    device: torch.device

    @torch.no_grad()
    def batch(self, regions: Sequence[Region]) -> Batch:
        labelled = torch.stack([region.labelled for region in regions]).to(self.device, non_blocking=True)
        scores = torch.stack([region.scores for region in regions]).to(self.device, non_blocking=True)
        weak, planes = zip(*(self._weak(region) for region in regions), strict=True)
        x_weak = torch.stack(weak)[:, None]
        return Batch(
            names=tuple(region.name for region in regions),
            weak=x_weak,
            strong=x_weak if self.strong is None else torch.stack(self._strong(regions, weak))[:, None],
            planes=torch.stack(planes),
            labelled=labelled,
            scores=scores,
            unknown=self._unknown(regions) if any(len(region.unknown) for region in regions) else None,
        )

    def _unknown(self, regions: Sequence[Region]) -> Tensor:
        """uint8 B P D H W."""
        planes = []
        for region in regions:
            codes = weak_codes(region.codes.to(self.device, non_blocking=True), region.draw, self.patch)
            nothing = torch.zeros_like(region.combinations)
            table = region.unknown if len(region.unknown) else nothing
            planes.append(planes_of(codes, table.to(self.device, non_blocking=True)))
        return torch.stack(planes)

    def _weak(self, region: Region) -> tuple[Tensor, Tensor]:
        noise = noise_generator(self.device, "weak noise", self.seed, region.sample)
        image = scaled(region.image.to(self.device, non_blocking=True), self.window_hu)
        codes = weak_codes(region.codes.to(self.device, non_blocking=True), region.draw, self.patch)
        combinations = region.combinations.to(self.device, non_blocking=True)
        return weak_image(image, region.draw, self.patch, noise), planes_of(codes, combinations)

    def _strong(self, regions: Sequence[Region], weak: Sequence[Tensor]) -> list[Tensor]:
        assert self.strong is not None
        views = []
        for region, image in zip(regions, weak, strict=True):
            draw = draw_strong(self.strong, self.seed, region.sample)
            noise = noise_generator(self.device, "strong noise", self.seed, region.sample)
            views.append(strong_image(image, draw, noise))
        return views


def scaled(image: Tensor, window_hu: tuple[float, float]) -> Tensor:
    """Intensities in HU (any integer type) as float32, the window scaled to −1…1; the twin of volumes.intensity."""
    low, high = window_hu
    return (image.float() - low) * (2 / (high - low)) - 1


def planes_of(codes: Tensor, combinations: Tensor) -> Tensor:
    """Label bits uint8 P D H W of codes D H W, by their table `combinations` (uint8 C P; volumes.label_codes)."""
    # As int64: PyTorch takes an index of uint8 for a mask.
    return combinations.T.contiguous()[:, codes.long()]


def unpacked(planes: Tensor, count: int) -> Tensor:
    """Label bits uint8 … P D H W as booleans … K D H W, K = `count`."""
    plane, bit = plane_and_bit(torch.arange(count, device=planes.device))
    return (planes.index_select(-4, plane) >> bit.to(torch.uint8)[:, None, None, None] & 1).bool()
