"""What all segmentation networks promise to the training and the inference."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.config.optimisation import Execution
from pipeline_lib.networks.build import build_segmentation_network
from pipeline_lib.networks.dodnet.settings import DodNet
from pipeline_lib.networks.memory_format import memory_format
from pipeline_lib.networks.recomputing import checkpointing
from pipeline_lib.networks.swin_unetr.settings import SwinUnetr
from tests.support.network_fixtures import NETWORKS, ROIS

MOTS = (
    *("liver", "liver_tumor", "kidney", "kidney_tumor", "hepatic_vessel", "hepatic_vessel_tumor"),
    *("pancreas", "pancreas_tumor", "colon_cancer", "lung_tumor", "spleen"),
)


def test_one_logit_per_roi_and_voxel(network_name, build, patch):
    with torch.no_grad():
        logits = build(network_name)(patch)
    assert logits.shape == (2, 3, 32, 64, 32)
    assert logits.dtype == torch.float32
    # Neither silent nor saturated before the first step.
    assert 0.05 < logits.std() < 5


@pytest.mark.parametrize(
    ("name", "part"),
    [(name, None) for name in NETWORKS] + [("swin_unetr", part) for part in ("outputs", "head", "prompt", "network")],
)
def test_embeddings_have_an_effect_where_the_settings_say_so(name, part, patch):
    network = NETWORKS[name].model_copy(update={"per_data_set": part})
    logits = []
    for embeddings in (torch.eye(3), torch.eye(3).flip(1)):
        torch.manual_seed(0)
        built = build_segmentation_network(
            network, embeddings, ROIS, labelled=[ROIS[:2], ROIS[2:]], patch=tuple(patch.shape[2:])
        )
        with torch.no_grad():
            logits.append(built(patch[:1]))
    assert torch.equal(*logits) != network.reads_embeddings


@pytest.mark.parametrize("name", [name for name, network in NETWORKS.items() if network.has_features])
def test_features_come_with_the_same_logits_when_they_are_asked_for(name, build, patch):
    network = build(name)
    with torch.no_grad():
        logits, features = network(patch[:1], with_features=True)
        assert torch.equal(logits, network(patch[:1]))
    assert features.shape == (1, network.feature_channels, *patch.shape[2:])


def test_every_parameter_gets_a_gradient(network_name, build, patch):
    """DistributedDataParallel waits for ever for one that does not."""
    network = build(network_name)
    network(patch).square().mean().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("key", "device", "expected"),
    [("auto", "cpu", "none"), ("auto", "cuda", "transformer"), ("none", "cuda", "none"), ("all", "cpu", "all")],
)
def test_what_is_recomputed_unless_the_key_says_it(key, device, expected):
    assert checkpointing(Execution(gradient_checkpointing=key), torch.device(device)) == expected


def test_gradient_checkpointing_changes_no_gradient(network_name, build, patch):
    gradients = []
    for kind in ("none", "transformer", "all"):
        network = build(network_name, gradient_checkpointing=kind)
        network(patch[:1]).square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in network.named_parameters()})
    for other in gradients[1:]:
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(other[name], gradient, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(
    ("device", "precision", "expected"),
    [
        ("cpu", "float32", {"swin_unetr": torch.channels_last_3d, "dodnet": torch.contiguous_format}),
        ("cpu", "bfloat16", {}),
        ("cuda", "auto", {}),
    ],
)
def test_the_memory_format_is_what_was_measured(network_name, build, device, precision, expected):
    network = build(network_name)
    found = memory_format(Execution(precision=precision), network, torch.device(device))
    assert found == expected.get(network_name, torch.contiguous_format)
    asked = Execution(precision=precision, memory_format="channels_last")
    assert memory_format(asked, network, torch.device(device)) == torch.channels_last_3d


def test_on_a_cpu_the_memory_format_rounds_gradients_no_worse(network_name, build, patch):
    def gradients(network, image):
        network(image).square().mean().backward()
        return torch.cat([parameter.grad.double().flatten() for parameter in network.parameters()])

    exact = gradients(build(network_name).double(), patch.double())
    plain = gradients(build(network_name), patch)
    network = build(network_name)
    form = memory_format(Execution(device="cpu", precision="float32"), network, torch.device("cpu"))
    chosen = gradients(network.to(memory_format=form), patch)
    assert (chosen - exact).norm() <= 3 * (plain - exact).norm() + 1e-6 * exact.norm()


def test_a_teacher_computes_what_its_student_would(network_name, build, patch):
    """Without gradients other kernels do the work, that of attention for one."""
    network = build(network_name)
    with torch.no_grad():
        taught = network(patch)
    torch.testing.assert_close(taught, network(patch), rtol=1e-4, atol=1e-4)


def test_gradient_checkpointing_keeps_less(network_name, build, patch):
    kept = []
    for kind in ("none", "transformer", "all"):
        storages = {}

        def keep(tensor, storages=storages):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        network = build(network_name, gradient_checkpointing=kind)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits = network(patch[:1])
        kept.append(sum(storages.values()))
        del logits
    nothing, transformer, everything = kept
    assert everything < nothing / 2
    if network_name == "swin_unetr":
        assert everything < transformer < 0.9 * nothing
    else:
        assert transformer == nothing


def test_a_sample_does_not_see_the_others(network_name, build, patch):
    network, patch = build(network_name).double(), patch.double()
    with torch.no_grad():
        together = network(patch)
        alone = torch.cat([network(patch[b : b + 1]) for b in range(2)])
    torch.testing.assert_close(together, alone)


def test_half_precision_gives_the_same_picture(network_name, build, patch):
    network = build(network_name)
    with torch.no_grad():
        wide = network(patch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            narrow = network(patch)
    assert narrow.isfinite().all()
    assert (narrow.float() - wide).square().mean().sqrt() < 0.1 * wide.std()


def test_no_norm_keeps_statistics(network_name, build):
    """So that the teacher's buffers are tables, and eval and train mode agree."""
    assert not [name for name, _ in build(network_name).named_buffers() if "running" in name]


def test_embeddings_are_saved_with_the_network(network_name, build):
    network = build(network_name)
    assert "embeddings" in network.state_dict()
    assert "embeddings" not in dict(network.named_parameters())


@pytest.mark.parametrize(("name", "millions"), [("swin_unetr", 62.2), ("swin_unetr_v2", 72.8), ("dodnet", 17.3)])
def test_published_sizes(name, millions):
    """The paper's networks have the published number of parameters (DoDNet reports 17.3 M)."""
    kind = name.removesuffix("_v2")
    settings = DodNet(kind="dodnet") if kind == "dodnet" else SwinUnetr(kind="swin_unetr", use_v2=name != kind)
    embeddings = torch.eye(7)[[0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6]] if kind == "dodnet" else torch.randn(11, 512)
    network = build_segmentation_network(settings, embeddings, MOTS)
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)
