"""What decides the time and the memory of a training step, and the sizes that are measured everywhere."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..config.networks import Network
from ..config.optimisation import Execution
from ..networks.dodnet.settings import DodNet
from ..networks.swin_unetr.settings import SwinUnetr

Shape = tuple[int, int, int]
_TEXT_EMBEDDING = 512  # BiomedCLIP's and CLIP's; it changes a step by less than a thousandth
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
        return -(-self.batch_size // self.execution.parts)


SMALL = StepSizes(
    patch=(32, 32, 64),
    batch_size=2,
    network=SwinUnetr(kind="swin_unetr", feature_size=12, depths=(1, 1, 1, 1), window_size=4),
    rois=11,
    embedding=256,
    structures=12,
    roi_aware_width=16,
)
"""Those of config/config.yaml, but for the paper's eleven ROIs."""

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


def can_be_reckoned(network: Network) -> bool:
    """Whether estimate.py knows this kind of network; outputs and heads of data sets count as the shared head."""
    return isinstance(network, SwinUnetr | DodNet) and network.per_data_set != "network"


def step_of(
    network: Network, patch: Shape, batch_size: int, rois: int, datasets: int, execution: Execution
) -> StepSizes:
    """The step of the paper's method with this `network`, of which `can_be_reckoned` holds; existence is cached."""
    return StepSizes(
        patch=patch,
        batch_size=batch_size,
        network=network.model_copy(update={"per_data_set": None}),
        rois=rois,
        embedding=datasets if isinstance(network, DodNet) else _TEXT_EMBEDDING,
        structures=PAPER.structures,
        roi_aware_width=PAPER.roi_aware_width,
        execution=execution,
    )
