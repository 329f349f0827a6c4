"""Parts of a network that each data set has of its own: which samples they see, and what they say together."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pipeline_lib.errors import UserError
from pipeline_lib.networks.build import build_segmentation_network
from pipeline_lib.networks.dodnet.settings import DodNet
from pipeline_lib.networks.model_file import load_segmentation_model, save_model
from pipeline_lib.networks.per_data_set import PerDataSet, head_per_data_set, output_per_roi
from pipeline_lib.networks.probabilities import probabilities
from tests.networks.test_build import MOTS
from tests.support.network_fixtures import NETWORKS, ROIS

LABELLED = (("liver", "liver_tumor"), ("spleen",))
MOTS_LABELLED = tuple(MOTS[first:end] for first, end in ((0, 2), (2, 4), (4, 6), (6, 8), (8, 9), (9, 10), (10, 11)))
PARTS = [
    *(("swin_unetr", "outputs"), ("swin_unetr", "head"), ("swin_unetr", "prompt"), ("swin_unetr", "network")),
    ("dodnet", "network"),
    ("uniseg_unet", "prompt"),
]


class Constant(nn.Module):
    """The same logits at every voxel."""

    def __init__(self, *logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float64))

    def forward(self, image):
        return self.logits[:, None, None, None].expand(len(image), -1, *image.shape[2:])


def test_a_worked_example():
    """The first data set labels liver and spleen, the second spleen and pancreas, none the colon.

    Of the spleen they say 1/2 and 3/4, together 5/8: its logit is ln 5/3.
    """
    parts = PerDataSet([Constant(2.0, 0.0), Constant(math.log(3), -1.0)], [[0, 1], [1, 2]], 4)
    image = torch.zeros(3, 1, 1, 1, 1)
    own = parts(image, torch.tensor([1, 0, 1])).flatten(1)
    second = [0, math.log(3), -1, 0]
    torch.testing.assert_close(own, torch.tensor([second, [2, 0, 0, 0], second], dtype=torch.float64))
    joined = parts(image)[0].flatten()
    torch.testing.assert_close(joined[:3], torch.tensor([2, math.log(5 / 3), -1], dtype=torch.float64))
    assert probabilities(joined[3]) < 1e-9
    own[1].sum().backward()
    # A data set without samples learns nothing; not even that its gradient is zero.
    assert parts.branches[0].logits.grad.tolist() == [1, 1]
    parts.zero_grad()
    parts(image, torch.tensor([0, 0, 0])).sum().backward()
    assert parts.branches[1].logits.grad is None


def test_the_mean_of_probabilities_is_exact_where_logits_are_large():
    parts = PerDataSet([Constant(200.0), Constant(300.0)], [[0], [0]], 1)
    # 1 − P is e^−200 / 2, to the last bit.
    assert parts(torch.zeros(1, 1, 1, 1, 1)).item() == pytest.approx(200 + math.log(2))


def tiny(kind, part, patch=(32, 64, 32)):
    torch.manual_seed(1)
    settings = NETWORKS[kind].model_copy(update={"per_data_set": part})
    embeddings = torch.eye(2)[[0, 0, 1]] if kind == "dodnet" else torch.randn(3, 5)
    return build_segmentation_network(settings, embeddings, ROIS, labelled=LABELLED, patch=patch)


@pytest.mark.parametrize(("kind", "part"), PARTS)
def test_own_and_joined_answers_agree_where_every_roi_is_labelled_once(kind, part, patch):
    network = tiny(kind, part)
    assert network.answers_per_data_set
    with torch.no_grad():
        joined, own = network(patch), network(patch, torch.tensor([1, 0]))
    assert joined.shape == own.shape == (2, 3, 32, 64, 32)
    torch.testing.assert_close(own[0, 2], joined[0, 2], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(own[1, :2], joined[1, :2], rtol=1e-4, atol=1e-4)
    assert not own[0, :2].any()


@pytest.mark.parametrize(("kind", "part"), [("swin_unetr", "network"), ("dodnet", "network")])
def test_one_network_per_data_set_is_that(kind, part, patch):
    network = tiny(kind, part)
    with torch.no_grad():
        joined = network(patch)
        for part, rois in zip(network.branches, ([0, 1], [2]), strict=True):
            assert torch.equal(joined[:, rois], part(patch))
    network(patch, torch.tensor([0, 0])).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.branches[0].parameters())
    assert all(parameter.grad is None for parameter in network.branches[1].parameters())


def described(kind, part):
    """What the file of `tiny(kind, part)` says of itself."""
    return {
        "method": {"kind": "labels_alone", "network": "some", "encoder": "any"},
        "network": NETWORKS[kind].model_copy(update={"per_data_set": part}).model_dump(mode="json"),
        "rois": list(ROIS),
        "labelled": {"livers": LABELLED[0], "spleens": LABELLED[1]},
        "patches": {"size_voxels": [32, 64, 32]},
        "spacing_mm": [1, 1, 1],
        "window_hu": [-325, 325],
    }


@pytest.mark.parametrize(("kind", "part"), PARTS)
def test_its_model_file_brings_it_back(kind, part, patch, tmp_path):
    network, path = tiny(kind, part), tmp_path / "model.safetensors"
    save_model(path, network, described(kind, part))
    loaded, _ = load_segmentation_model(path, "cpu")
    with torch.no_grad():
        fast = loaded.for_prediction(torch.device("cpu"), torch.float32)
        assert torch.equal(fast(patch), network.eval()(patch))


@pytest.mark.parametrize(("kind", "part"), PARTS)
@pytest.mark.parametrize(
    ("labelled", "said"),
    [
        (None, "does not say which ROIs each labels"),
        ({}, "does not say which ROIs each labels"),
        ({"livers": ["liver"], "spleens": []}, "does not say which ROIs each labels"),
        ({"livers": ["liver"]}, "comes from another version of Lacuna"),
        ({f"set_{number}": ["liver"] for number in range(10_000)}, "a network of 10000 blocks"),
    ],
)
def test_a_file_that_does_not_say_what_its_parts_label_is_one_line(kind, part, labelled, said, tmp_path):
    path, description = tmp_path / "model.safetensors", described(kind, part)
    del description["labelled"]
    save_model(path, tiny(kind, part), description if labelled is None else description | {"labelled": labelled})
    with pytest.raises(UserError, match=said) as error:
        load_segmentation_model(path, "cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("kind", "shape"), [("swin_unetr", (64, 64, 64)), ("uniseg_unet", (32, 64, 64))])
def test_a_prompt_is_learned_by_all_data_sets_and_changes_what_a_map_means(kind, shape):
    # Eight voxels in the bottleneck: normalised, two are ±1 whatever the prompt.
    network = tiny(kind, "prompt", shape)
    image = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(2)) * 2 - 1
    # Map 0 is the liver of the first data set and the spleen of the second.
    liver, spleen = (network(image, torch.tensor([place])) for place in (0, 1))
    assert not torch.allclose(liver[0, 0], spleen[0, 2], atol=1e-3)
    spleen[0, 2].square().mean().backward()
    gradients = network.prompt.universal.grad.abs().amax((0, 2, 3, 4))
    assert (gradients > 0).all()
    assert not network.head.weight.grad[1].any()
    assert network.head.weight.grad[0].any()


def count(*modules):
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def test_the_numbers_of_parameters_in_mots():
    """A 1×1×1 convolution 48→11 in all, or seven heads GN 48, 48→8 3×3×3, GN 8, 8→K_t."""
    assert count(*(output_per_roi(48, len(rois)) for rois in MOTS_LABELLED)) == 48 * 11 + 11
    heads = [head_per_data_set(48, len(rois)) for rois in MOTS_LABELLED]
    assert count(*heads) == 7 * (2 * 48 + 48 * 8 * 27 + 8 + 2 * 8) + 11 * 8 + 11


def test_other_parts_take_the_place_of_the_text_head_and_networks_that_of_all():
    """The tiny network: 12 channels, 192 in the bottleneck, embeddings of 5 numbers, three ROIs in two data sets.

    UniSeg's prompt is 1×2×1 voxels large. It and two channels for the data sets join 192, so that 194 // 4 = 48; one
    more channel enters the first decoder's transposed convolution, 2×2×2 to 96; two maps serve all ROIs.
    """
    sizes = {part: count(tiny("swin_unetr", part)) for part in (None, "outputs", "head", "prompt", "network")}
    text = 2 * 192 + 192 * 256 + 256 + 5 * 256 + 256 + 2 * 12 + 12 * 8 + 8 + 512 * 153 + 153
    outputs = 12 * 3 + 3
    heads = 2 * (2 * 12 + 12 * 8 * 27 + 8 + 2 * 8) + 3 * 8 + 3
    fusion = 194 * 48 * 27 + 48 * 3 + 48 * 48 * 27 + 48 * 3 + 48 * 2 * 27 + 2 * 3
    prompt = 2 * 1 * 2 * 1 + fusion + 96 * 8 + 12 * 2 + 2
    trunk = sizes[None] - text
    assert sizes["outputs"] - outputs == sizes["head"] - heads == sizes["prompt"] - prompt == trunk
    assert sizes["network"] == 2 * sizes[None]


def test_dodnets_own_outputs_are_refused():
    with pytest.raises(ValueError, match="per_data_set"):
        DodNet(kind="dodnet", per_data_set="outputs")
