"""A training step of given sizes, without a config and data of its own: this code's, and the plain composition's."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config.augmentation import Augmentation
from ..config.method_settings import Teacher
from ..config.optimisation import Optimisation
from ..config.roi_aware import RoiAware
from ..data.batches import ViewMaker
from ..data.reading import Region
from ..existence.scores import RoiScorer
from ..methods.latent_class.settings import LatentClass
from ..methods.latent_class.task import LatentClassTask
from ..networks.build import build_roi_aware_network, build_segmentation_network
from ..networks.dodnet.settings import DodNet
from ..networks.memory_format import memory_format
from ..networks.precision import autocast_type
from ..networks.recomputing import checkpointing
from ..networks.swin_unetr.settings import SwinUnetr
from ..training.distributed import Distributed
from ..training.step import Stepper
from .cases import WINDOW
from .plain_step import plain_step
from .sizes import PAPERS_STEPS, StepSizes

METHOD = LatentClass(kind="latent_class", network="swin_unetr", encoder="text")
Step = Callable[[int, list[Region]], float | Tensor]
"""Takes step `number` with some regions; the loss, NaN if the weights were not updated."""


def our_stepper(sizes: StepSizes, distributed: Distributed, *, online: bool = False) -> Stepper:
    """The stepper of the paper's method; `online` scores x_T with the ROI-aware network in each step."""
    device, execution = distributed.device, sizes.execution
    names = tuple(f"roi_{k}" for k in range(sizes.rois))
    student = build_segmentation_network(
        sizes.network, embeddings_of(sizes), names, checkpointing(execution, device), execution.fused_head
    )
    student = student.to(device, memory_format=memory_format(execution, student, device))
    task = LatentClassTask(
        student=student,
        names=names,
        settings=METHOD,
        teacher=Teacher(),
        structures=tuple((name,) for name in names),
        scorer=_online_scorer(sizes, device) if online else None,
    )
    optimisation, view_maker = Optimisation(batch_size=sizes.batch_size), view_maker_of(sizes, device)
    return Stepper(task, view_maker, optimisation, execution, distributed, steps=PAPERS_STEPS, title="measured step")


def our_step(sizes: StepSizes, distributed: Distributed, *, online: bool = False) -> Step:
    """The stepper's step."""
    stepper = our_stepper(sizes, distributed, online=online)

    def take(number: int, crops: list[Region]) -> float:
        report = stepper.train_step(number, crops, stop_asked=False)
        return report.values["loss/total"] if report.applied else float("nan")

    return take


def their_step(sizes: StepSizes, device: torch.device) -> Step:
    """The plain composition's step. ValueError if the network is not SwinUNETR, of which alone there is one."""
    if not isinstance(sizes.network, SwinUnetr):
        raise ValueError(f"there is no plain composition of {sizes.network.kind}")
    roi_aware = build_roi_aware_network(RoiAware(width=sizes.roi_aware_width), sizes.structures).to(device)
    precision = autocast_type(sizes.execution.precision, device)
    take = plain_step(sizes.network, sizes.rois, sizes.embedding, roi_aware, METHOD, precision)
    view_maker, size = view_maker_of(sizes, device), sizes.part_size
    return lambda number, crops: take([view_maker.batch(crops[at : at + size]) for at in range(0, len(crops), size)])


def view_maker_of(sizes: StepSizes, device: torch.device) -> ViewMaker:
    return ViewMaker(Augmentation().strong, sizes.patch, WINDOW, 0, device)


def embeddings_of(sizes: StepSizes) -> Tensor:
    """Random rows K E, or DoDNet's one-hot codes."""
    if isinstance(sizes.network, DodNet):
        return F.one_hot(torch.arange(sizes.rois) % sizes.embedding, sizes.embedding)
    return torch.randn(sizes.rois, sizes.embedding)


def _online_scorer(sizes: StepSizes, device: torch.device) -> RoiScorer:
    """A frozen ROI-aware network of random weights; ROI k takes structure k."""
    names = [f"structure_{number}" for number in range(sizes.structures)]
    network = build_roi_aware_network(RoiAware(width=sizes.roi_aware_width), sizes.structures)
    return RoiScorer(network, names, [[name] for name in names[: sizes.rois]]).to(device)
