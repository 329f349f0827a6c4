"""The estimate of a training step: against counts by hand, and that it leaves no trace."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from pipeline_lib.config.optimisation import Execution
from pipeline_lib.data.batches import ViewMaker
from pipeline_lib.measurement import advice, auto_sizes, steps
from pipeline_lib.measurement import estimate as module
from pipeline_lib.measurement.cards import CARDS, UNKNOWN_RATES, Card, card_named, card_of_memory
from pipeline_lib.measurement.counting import Call, LiveTensors, Rates, Traffic, cudnn_workspace
from pipeline_lib.measurement.estimate import estimate
from pipeline_lib.measurement.sizes import SMALL
from pipeline_lib.networks.dodnet.settings import DodNet
from pipeline_lib.networks.swin_unetr.network import TextConditionedSwinUnetr
from pipeline_lib.training.distributed import Distributed


def test_live_bytes_are_those_of_storages_that_are_held():
    with LiveTensors() as live:
        held = torch.zeros(100)
        live.start()
        torch.zeros(1000).add_(1)  # gone at once
        view = held[:10].view(2, 5)
    assert live.peak == 4 * 1100
    assert live.now == 4 * 100
    del held, view
    assert live.now == 0


def test_traffic_counts_products_and_what_is_read_and_written():
    left, right = torch.zeros(4, 8), torch.zeros(8, 16)
    with Traffic() as traffic:
        (left @ right).view(-1)
    assert traffic.calls == [Call("aten.mm", 2 * 4 * 8 * 16, 4 * (4 * 8 + 8 * 16 + 4 * 16))]
    (call,) = traffic.calls
    assert call.seconds(Rates(1, 1e9)) == 2 * 4 * 8 * 16
    assert call.seconds(Rates(1e9, 1)) == call.moved


@pytest.mark.parametrize(
    ("dtype", "channels", "forward", "backward"),
    [
        (torch.bfloat16, 4, 2 * (4 + 6) * 2 * 6**3, 2 * (4 + 6) * 2 * 6**3),
        (torch.float32, 4, 0, 0),
        (torch.bfloat16, 1, 0, 0),
    ],
)
def test_cudnn_copies_what_a_convolution_in_half_precision_reads_and_writes(dtype, channels, forward, backward):
    """Two samples of 6×6×6 voxels, so many channels to 6: input and output, or the gradient of one and the other."""
    values = torch.zeros(2, channels, 6, 6, 6, dtype=dtype, requires_grad=True)
    weight = torch.zeros(6, channels, 3, 3, 3, dtype=dtype, requires_grad=True)
    found = []

    def workspace(function, args, made):
        found.append(cudnn_workspace(function, args, made))
        return found[-1]

    with LiveTensors(workspace) as live:
        live.start()
        output = F.conv3d(values, weight, padding=1)
        assert max(found) == forward
        assert live.peak == output.nbytes + forward
        found.clear()
        output.sum().backward()
    assert max(found) == backward


def test_for_a_gpu_norms_under_autocast_are_in_float32():
    norm = module._in_float32(F.layer_norm)
    values = torch.zeros(3, 4, dtype=torch.bfloat16)
    assert norm(values, (4,)).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert norm(values, (4,)).dtype == torch.float32


def test_a_step_holds_its_weights_and_their_moments():
    """Student, teacher, gradients and two moments: five times the weights, and less than the whole for activations."""
    found = estimate("ours", SMALL, "cuda")
    student = TextConditionedSwinUnetr(SMALL.network, torch.zeros(SMALL.rois, SMALL.embedding))
    weights = sum(parameter.nbytes for parameter in student.parameters())
    assert found.gradients == weights
    assert found.peak > 5 * weights
    # Two samples in two parts hold the activations of one at a time.
    halved = replace(SMALL, execution=Execution(gradient_accumulation_steps=2))
    assert 5 * weights < estimate("ours", halved, "cuda").peak < found.peak
    # The plain composition keeps hidden layers, attention and more.
    assert estimate("plain", SMALL, "cuda").peak > found.peak


def test_an_estimate_leaves_pytorch_as_it_was():
    before = (torch.Tensor.nonzero, torch.nn.functional.scaled_dot_product_attention, steps.view_maker_of)
    estimate("ours", replace(SMALL, batch_size=1), "cpu")
    assert before == (torch.Tensor.nonzero, torch.nn.functional.scaled_dot_product_attention, steps.view_maker_of)
    assert isinstance(steps.view_maker_of(SMALL, torch.device("cpu")), ViewMaker)
    assert torch.tensor([0, 1]).nonzero().tolist() == [[1]]


def test_a_step_that_does_not_fit_by_the_estimate_is_never_taken_to_fit_without_one(monkeypatch):
    """On a tenth less memory than it needs, automatic sizes ask for advice."""
    alone = replace(SMALL, batch_size=1)
    needed = estimate("ours", alone, "cpu").peak
    card = Card(2 * 0.9 * needed / 2**30, UNKNOWN_RATES, device="cpu")
    monkeypatch.setattr(auto_sizes, "card_at_hand", lambda device: ("a computer", card))
    monkeypatch.setattr(advice, "advised", lambda *_: advice.Fit(1, "all", (needed / 2,), (0.0,)))
    distributed = Distributed(0, 1, torch.device("cpu"))
    found = auto_sizes.with_sizes(Execution(), alone, distributed, title="train x")
    assert found.gradient_checkpointing == "all"


def test_dodnet_can_be_reckoned():
    sizes = replace(SMALL, network=DodNet(kind="dodnet", width=8), embedding=7)
    assert estimate("ours", sizes, "cuda").peak > 0
    with pytest.raises(ValueError, match="no plain composition of dodnet"):
        steps.their_step(sizes, torch.device("cpu"))


def test_parts_must_be_equal():
    with pytest.raises(ValueError, match="3 parts of a batch of 2 are not equal"):
        module.estimate("ours", replace(SMALL, execution=Execution(gradient_accumulation_steps=3)), "cuda")


def test_a_card_is_found_by_the_name_that_cuda_gives():
    assert card_named("NVIDIA A100-SXM4-40GB", 39.4).rates == CARDS["A100 40GB"].rates
    assert card_named("NVIDIA H100 80GB HBM3", 79.6).gib == 79.6
    assert card_named("NVIDIA GeForce RTX 2080 Ti", 10.8).has_bfloat16 is False
    assert card_named("NVIDIA GeForce RTX 3090 Ti", 24) is None
    assert card_named("Tesla V100-SXM2-32GB", 32) is None


def test_a_memory_stands_for_the_slowest_card_that_has_it():
    assert card_of_memory(24)[0] == "RTX 3090"
    assert card_of_memory(20) == ("RTX 3090", CARDS["RTX 3090"]._replace(gib=20))
    assert card_of_memory(500)[0] == "H200"
    assert 0 < CARDS["RTX 3090"].usable_bytes < 23 * 2**30
