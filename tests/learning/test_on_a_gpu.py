"""Whole training steps on a GPU that is not there: PyTorch's fake tensors know their device and shape, and no values.

They raise where an operation meets tensors of two devices, or where the host asks for a value that a step should not
wait for. What cannot be pretended is the engine behind `backward`, which wants a real device.
"""

from dataclasses import dataclass

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pipeline_lib.config.methods import DodNet, Method, Networks, SwinUnetr, Teacher
from pipeline_lib.config.optimisation import Execution
from pipeline_lib.config.roi_aware import RoiAware
from pipeline_lib.learning import batches
from pipeline_lib.learning.batches import Views
from pipeline_lib.learning.calibration import Calibration
from pipeline_lib.learning.crops import CropPlan
from pipeline_lib.learning.existence_scores import RoiScorer
from pipeline_lib.learning.latent_classes import Thresholds
from pipeline_lib.learning.partial_labels import PartialLabels
from pipeline_lib.learning.processes import Processes
from pipeline_lib.learning.reading import CropReader
from pipeline_lib.learning.step import Stepper
from pipeline_lib.learning.structure_presence import StructurePresence
from pipeline_lib.networks.build import build_roi_aware_network, build_segmentation_network

from .synthetic import WINDOW
from .tiny_training import AUGMENTATION, ROIS, Tiny, write_cases

pytestmark = [
    pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="this PyTorch was built without CUDA"),
    pytest.mark.filterwarnings("ignore:CUDA is not available", "ignore:torch.cuda.amp.GradScaler is enabled"),
    pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor"),
]

GPU = torch.device("cuda", 0)
PATCH = (64, 32, 32)
NETWORKS = Networks(swin_unetr=SwinUnetr(feature_size=12, depths=(1, 1, 1, 1), window=4), dodnet=DodNet(width=8))
WHOLE = Method(encoder="none", latent="cross_entropy", consistency="ambiguous")
METHODS = {
    "baseline": Method(encoder="none"),
    "mean_teacher": Method(encoder="none", consistency="all"),
    "without_mse": Method(encoder="none", latent="cross_entropy"),
    "dodnet": Method(encoder="none", network="dodnet"),
    "latent_class": WHOLE,
    "exclusive": WHOLE.model_copy(update={"exclusive_organs": True, "negative_target": "zero"}),
}


@dataclass(frozen=True)
class OnlyOne(Processes):
    """One process on a GPU; the report of a step is the one thing that the host waits for."""

    def summed(self, values):
        assert values.device == GPU
        return NoTrouble([0.0] * values.numel())


class NoTrouble(list):
    """The sums over all processes, which say that nothing is broken and nobody asks to stop."""

    def tolist(self):
        return self


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return write_cases(tmp_path_factory.mktemp("cases"))


@pytest.fixture
def pretended(monkeypatch):
    """Within it tensors are fake; what needs a real GPU or a value has a stand-in."""
    monkeypatch.setattr(torch.__future__, "get_overwrite_module_params_on_conversion", lambda: True)
    monkeypatch.setattr(batches, "noise_generator", lambda *key: None)
    monkeypatch.setattr(torch.Tensor, "nonzero", _all_places)
    return FakeTensorMode(allow_non_fake_inputs=True)


def _all_places(mask):
    """As if the whole mask were set: how many places there are is what fake tensors cannot know."""
    return torch.zeros(mask.numel(), mask.ndim, dtype=torch.int64, device=mask.device)


def take_a_step(task, cases, monkeypatch, strong=AUGMENTATION.strong, **execution):
    def backward(loss):
        assert loss.device == GPU
        for parameter in task.student.parameters():
            parameter.grad = torch.zeros_like(parameter)

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    tiny = Tiny(cases, work=cases[0].folder)
    reader = CropReader(cases, CropPlan.of(cases, tiny.optimisation, 0), PATCH, AUGMENTATION.weak)
    views = Views(AUGMENTATION.weak, strong, PATCH, WINDOW, 0, GPU)
    settings = Execution(device="cuda", **execution)
    stepper = Stepper(task, views, tiny.optimisation, settings, OnlyOne(0, 1, GPU), 8, "pretended")
    return stepper.take(5, [reader.read(sample) for sample in range(4)], stop_asked=False)


def student(method, gradient_checkpointing="transformer"):
    embeddings = torch.eye(len(ROIS)) if method.network == "dodnet" else torch.randn(len(ROIS), 16)
    return build_segmentation_network(method, NETWORKS, embeddings, gradient_checkpointing)


def segmentation(network, method, scorer=None, thresholds_on=GPU):
    thresholds = Thresholds.of([0.8] * len(ROIS), [0.1] * len(ROIS)).to(thresholds_on)
    structures = tuple((roi,) for roi in ROIS)
    return PartialLabels(network.to(GPU), method, thresholds, Teacher(), ROIS, structures, scorer)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_of_every_method_stays_on_the_gpu(name, cases, pretended, monkeypatch):
    network = student(METHODS[name])
    with pretended:
        task = segmentation(network, METHODS[name])
        assert all(parameter.device == GPU for parameter in task.student.parameters())
        assert take_a_step(task, cases, monkeypatch).applied


@pytest.mark.parametrize(
    "execution",
    [
        {"precision": "float32", "gradient_checkpointing": "all"},
        {"precision": "float16", "accumulation": 2},
        {"precision": "bfloat16", "memory_format": "channels_last"},
    ],
)
def test_so_does_one_that_saves_memory_or_computes_otherwise(execution, cases, pretended, monkeypatch):
    network = student(WHOLE, execution.get("gradient_checkpointing", "none"))
    with pretended:
        assert take_a_step(segmentation(network, WHOLE), cases, monkeypatch, **execution).applied


def test_so_do_the_roi_aware_network_and_what_it_scores_in_every_step(cases, pretended, monkeypatch):
    network = student(WHOLE)
    roi_aware = build_roi_aware_network(RoiAware(structures=ROIS, width=8), len(ROIS))
    with pretended:
        roi_aware = roi_aware.to(GPU)
        presence = StructurePresence(roi_aware, ROIS, 8, torch.ones(len(ROIS)).to(GPU))
        assert take_a_step(presence, cases, monkeypatch, strong=None).applied
        calibration = Calibration([1.0] * len(ROIS), [0.0] * len(ROIS)).to(GPU)
        scorer = RoiScorer(roi_aware, ROIS, [(roi,) for roi in ROIS], calibration, average_flips=True)
        assert take_a_step(segmentation(network, WHOLE, scorer), cases, monkeypatch).applied


def test_a_tensor_that_was_left_behind_is_found(cases, pretended, monkeypatch):
    network = student(WHOLE)
    with pretended, pytest.raises(RuntimeError, match="same device"):
        take_a_step(segmentation(network, WHOLE, thresholds_on=torch.device("cpu")), cases, monkeypatch)
