"""What decides the time and the memory of a training step, and the sizes that are measured everywhere."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..config.networks import Network
from ..config.optimisation import Execution
from ..networks.swin_unetr.settings import SwinUnetr

Shape = tuple[int, int, int]
PAPERS_STEPS = 153_000
"""2000 epochs of 920 cases in batches of 12."""


@dataclass(frozen=True, kw_only=True)
class StepSizes:
    """A step of one process: `batch_size` samples of `patch` D H W, in as many parts as `execution` says.

    `embedding` is the length of a ROI's text embedding, or of the code of the tasks for DoDNet. `structures` and
    `roi_aware_width` are those of the ROI-aware network, where it takes part in the step.
    """

    patch: Shape
    batch_size: int
    network: Network
    rois: int
    embedding: int
    structures: int
    roi_aware_width: int
    execution: Execution = field(default_factory=Execution)

    @property
    def part_size(self) -> int:
        """Samples that pass through the network together, at the most."""
        return -(-self.batch_size // self.execution.gradient_accumulation_steps)


SMALL = StepSizes(
    patch=(32, 32, 64),
    batch_size=2,
    network=SwinUnetr(kind="swin_unetr", feature_size=12, depths=(1, 1, 1, 1), window_size=4),
    rois=11,
    embedding=256,
    structures=12,
    roi_aware_width=16,
)
"""Those of config/config.yaml."""

PAPER = StepSizes(
    patch=(96, 160, 160),
    batch_size=12,
    network=SwinUnetr(kind="swin_unetr"),
    rois=11,
    embedding=512,
    structures=104,
    roi_aware_width=64,
)
"""Those of config/mots.yaml."""
