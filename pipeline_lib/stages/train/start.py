"""What a training begins with, who labels the ROIs that a start model knows, and who scores existence in every step.

All three may be a model that `start_from` names.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ...errors import UserError
from ...existence.scores import Scorer, SegmentationScorer, load_scorer
from ...files import file_digest
from ...methods.exclusive_organs import exclusive_rois
from ...methods.start_labels import LabellingViewMaker, StartLabels
from ...networks.model_file import load_segmentation_model
from ...networks.start import Start, Wanted, read_start
from ...prediction.windows import probabilities_of
from ...training.distributed import Distributed
from ...training.loop import TrainingData
from .settings import Inputs, Settings


def start_digest(start_from: str) -> str:
    """Names the content of the file that a training starts from; UserError if there is none."""
    path = Path(start_from)
    if not path.is_file():
        raise UserError("methods: start_from", f"there is no file {path}", "correct the path")
    return file_digest(path)


def checked_start(settings: Settings, embeddings: Tensor) -> Start | None:
    """What the training begins with; None: random weights.

    UserError: it does not fit, or nothing here tells what one of the ROIs is.
    """
    if settings.method.start_from is None:
        return None
    wanted = Wanted(settings.network, embeddings, settings.rois, settings.spacing_mm, settings.window_hu)
    start = read_start(Path(settings.method.start_from), wanted)
    labelled = {roi for names in settings.labelled.values() for roi in names}
    if unknown := [roi for roi in settings.rois if roi not in labelled and roi not in start.rois]:
        wrong = f"{', '.join(unknown)}: no training case labels it, nor does {settings.method.start_from} know it"
        raise UserError("rois", wrong, "remove it, or add a data set that labels it")
    return start


def labelled_by_start(data: TrainingData, settings: Settings, distributed: Distributed) -> TrainingData:
    """`data` whose samples are labelled by the start model too, or as it is where the method keeps none.

    The model computes in float32 whatever autocast says, and estimates of time and memory leave it out.
    """
    start_from = settings.method.start_from
    if start_from is None or not settings.method.keeps_start:
        return data
    model, description = load_segmentation_model(Path(start_from), distributed.device)
    labels = StartLabels(
        model,
        tuple(description["rois"]),
        settings.rois,
        exclusive_rois(settings.structures),
        probabilities_of(description),
    )
    return replace(data, view_maker=LabellingViewMaker(**vars(data.view_maker), start=labels))


def online_scorer(settings: Settings, inputs: Inputs, start: Start | None, distributed: Distributed) -> Scorer | None:
    """The network that scores x_T in every step: the ROI-aware one, or the start model.

    None where the pools' scores are used.
    """
    if settings.existence.mode == "cached":
        return None
    if settings.existence.mode == "start_model":
        if start is None or start.model is None:
            wrong = "is start_model, which needs a segmentation model"
            raise UserError("existence.mode", wrong, "name one in the method's `start_from`, or choose another mode")
        model, to_probabilities = start.model.to(distributed.device), probabilities_of(start.description)
        return SegmentationScorer(model, start.rois, settings.rois, to_probabilities)
    if inputs.roi_aware_model is None:
        raise UserError("existence.mode", "is online, which needs the ROI-aware network", "give it as input")
    return load_scorer(inputs.roi_aware_model, settings.structures, distributed.device)
