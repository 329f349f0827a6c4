"""A training begins with what a file holds: the same outputs as the old model's, or a refusal in one line."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from monai.networks.nets import SwinUNETR
from monai.networks.nets.swin_unetr import SwinTransformer, filter_swinunetr

from pipeline_lib.errors import UserError
from pipeline_lib.networks.build import build_segmentation_network
from pipeline_lib.networks.conemos.settings import ConemosUnet
from pipeline_lib.networks.dodnet.settings import DodNet
from pipeline_lib.networks.hermes.settings import HermesUnet
from pipeline_lib.networks.model_file import save_model
from pipeline_lib.networks.start import Wanted, read_start
from pipeline_lib.networks.swin_unetr.settings import SwinUnetr
from pipeline_lib.networks.uniseg_unet.settings import UnisegUnet

TINY = SwinUnetr(kind="swin_unetr", feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=2)
DODNET = DodNet(kind="dodnet", width=8)
CONEMOS, HERMES = ConemosUnet(kind="conemos", width=4), HermesUnet(kind="hermes", width=8)
OLD = ("liver", "liver_tumor", "spleen")
VECTORS = dict(zip((*OLD, "kidney"), torch.randn(4, 5, generator=torch.Generator().manual_seed(3)) + 2.0, strict=True))


def wanted(rois, network=TINY, embeddings=None):
    embeddings = torch.stack([VECTORS[roi] for roi in rois]) if embeddings is None else embeddings
    return Wanted(network, embeddings, rois, (0.8, 0.8, 1.5), (-325.0, 325.0))


def fresh(target, seed=1):
    torch.manual_seed(seed)
    return build_segmentation_network(target.network, target.embeddings, target.rois).eval()


def write_model(path, target, network=None):
    """A model file with the weights of seed 0; the network in it."""
    network = fresh(target, seed=0) if network is None else network
    description = {
        "method": {"kind": "labels_alone"},
        "network": target.network.model_dump(mode="json"),
        "rois": list(target.rois),
        "patches": {"size_voxels": [32, 64, 32]},
        "spacing_mm": list(target.spacing_mm),
        "window_hu": list(target.window_hu),
    }
    save_model(path, network, description)
    return network


def started(path, target):
    """A network with other random weights that starts from the file, and what was taken."""
    network, start = fresh(target), read_start(path, target)
    start.load_into(network)
    return network, start


def logits(network, patch):
    with torch.no_grad():
        return network(patch[:1])


@pytest.mark.parametrize(
    ("rois", "says"),
    [
        pytest.param(OLD, "knows 3 of 3 ROIs", id="the same"),
        pytest.param((*OLD, "kidney"), "knows 3 of 4 ROIs; new: kidney", id="one appended"),
        pytest.param(
            ("kidney", "spleen", "liver", "liver_tumor"), "knows 3 of 4 ROIs; new: kidney", id="another order"
        ),
        pytest.param(
            ("spleen", "kidney"), "knows 1 of 2 ROIs; new: kidney; left out: liver, liver_tumor", id="two left out"
        ),
    ],
)
def test_the_old_rois_logits_are_unchanged_before_the_first_step(rois, says, patch, tmp_path):
    path = tmp_path / "old.safetensors"
    old = logits(write_model(path, wanted(OLD)), patch)
    network, start = started(path, wanted(rois))
    new = logits(network, patch)
    for roi in set(rois) & set(OLD):
        torch.testing.assert_close(new[:, rois.index(roi)], old[:, OLD.index(roi)])
    assert start.taken == f"{path}, which {says}"
    # A network of this list alone would see the ROIs otherwise, but for the very same list.
    if rois != OLD:
        standing_alone = fresh(wanted(rois))
        state = {name: value for name, value in network.state_dict().items() if "embedding_" not in name}
        standing_alone.load_state_dict(state)
        assert not torch.allclose(logits(standing_alone, patch), new, atol=1e-3)


def test_a_model_that_grew_twice_still_has_its_first_statistics(patch, tmp_path):
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    old = logits(write_model(first, wanted(("liver", "spleen"))), patch)
    grown, _ = started(first, wanted(OLD))
    write_model(second, wanted(OLD), grown)
    again, _ = started(second, wanted(("kidney", *OLD)))
    torch.testing.assert_close(logits(again, patch)[:, [1, 3]], old)


def test_a_model_of_a_single_roi_grows(patch, tmp_path):
    """One ROI has no spread to be standardised by."""
    path = tmp_path / "old.safetensors"
    old = logits(write_model(path, wanted(("liver",))), patch)
    network, _ = started(path, wanted(("spleen", "liver")))
    new = logits(network, patch)
    torch.testing.assert_close(new[:, 1], old[:, 0])
    assert 0.01 < (new[:, 0] - new[:, 1]).std() < 10


def test_dodnet_starts_with_the_same_rois_and_no_other(patch, tmp_path):
    path, codes = tmp_path / "old.safetensors", torch.eye(2)[[0, 0, 1]]
    same = wanted(OLD, DODNET, codes)
    old = logits(write_model(path, same), patch)
    assert torch.equal(logits(started(path, same)[0], patch), old)
    reordered = wanted(OLD[::-1], DODNET, codes.flip(0))
    for other in (wanted(OLD, DODNET, codes.flip(1)), wanted(OLD[:2], DODNET, codes[:2]), reordered):
        with pytest.raises(UserError, match="knows liver, liver_tumor, spleen by their places and data sets"):
            read_start(path, other)


@pytest.mark.parametrize("network", [CONEMOS, HERMES], ids=lambda network: network.kind)
def test_a_network_that_ignores_embeddings_starts_with_the_same_rois_whatever_their_embeddings(
    network, patch, tmp_path
):
    path, known = tmp_path / "old.safetensors", wanted(OLD, network)
    old = logits(write_model(path, known), patch)
    other = wanted(OLD, network, known.embeddings[:, :4] + 1)
    assert torch.equal(logits(started(path, other)[0], patch), old)
    for rois in (OLD[::-1], OLD[:2], (*OLD, "kidney")):
        with pytest.raises(UserError, match="knows liver, liver_tumor, spleen by their places"):
            read_start(path, wanted(rois, network))


def refusal(path, target):
    with pytest.raises(UserError) as caught:
        read_start(path, target)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize(
    "network", [TINY.model_copy(update={"per_data_set": "prompt"}), UnisegUnet(kind="uniseg_unet")]
)
def test_a_network_with_parts_of_data_sets_starts_from_nothing(network, tmp_path):
    said = refusal(tmp_path / "old.safetensors", wanted(OLD, network))
    assert "has parts for each data set; leave out `start_from`, or name a network without `per_data_set`" in said


def test_a_model_that_does_not_fit_is_refused(tmp_path):
    path, fits = tmp_path / "old.safetensors", wanted(OLD)
    write_model(path, fits)
    larger = TINY.model_copy(update={"feature_size": 24, "window_size": 4})
    assert "holds another network (feature_size 12, window_size 2)" in refusal(path, replace(fits, network=larger))
    dodnet = wanted(OLD, DODNET, torch.eye(2)[[0, 0, 1]])
    assert "holds another network (kind swin_unetr)" in refusal(path, dodnet)
    coarse = replace(fits, spacing_mm=(2.0, 2.0, 2.0))
    assert "spacing_mm [0.8, 0.8, 1.5]; set `volumes.spacing_mm` to that" in refusal(path, coarse)
    wide = replace(fits, window_hu=(-1000.0, 1000.0))
    assert "window_hu [-325.0, 325.0]; set `volumes.window_hu` to that" in refusal(path, wide)
    narrow = replace(fits, embeddings=fits.embeddings[:, :4])
    assert "was trained with embeddings of 5 numbers, not 4" in refusal(path, narrow)
    swapped = replace(fits, embeddings=fits.embeddings[[0, 2, 1]])
    assert "was trained with another embedding of liver_tumor; use the text encoder" in refusal(path, swapped)
    rounded = replace(fits, embeddings=fits.embeddings * (1 + 1e-5))
    assert read_start(path, rounded).rois == OLD
    path.write_bytes(path.read_bytes()[:1000])
    refusal(path, fits)


HEADS = {"norm.weight": (96,), "rotation_head.weight": (4, 96), "contrastive_head.bias": (512,)}


@pytest.fixture
def transformer():
    """MONAI's transformer of the same sizes, with weights that no network starts with."""
    torch.manual_seed(7)
    return SwinTransformer(1, 12, (2, 2, 2), (2, 2, 2), (1, 1, 1, 1), (1, 1, 2, 2)).eval()


def published(transformer):
    """Its weights as MONAI's self-supervised training wrote them."""
    names = {
        name: f"module.{name}".replace("mlp.linear1", "mlp.fc1").replace("mlp.linear2", "mlp.fc2")
        for name in transformer.state_dict()
    }
    tensors = {names[name]: value for name, value in transformer.state_dict().items()}
    return {"epoch": 3, "state_dict": tensors | {f"module.{name}": torch.ones(shape) for name, shape in HEADS.items()}}


def test_the_transformer_starts_from_self_supervised_weights(transformer, patch, tmp_path):
    path = tmp_path / "model_swinvit.pt"
    torch.save(published(transformer), path)
    # MONAI reads the stand-in as it reads its own file.
    sizes = {"feature_size": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 2}
    SwinUNETR(1, 1, **sizes).load_from(torch.load(path, weights_only=True))
    network, start = started(path, wanted(OLD))
    count = len(transformer.state_dict())
    assert start.taken == (
        f"{path}: {count} tensors of the transformer; all else starts with random weights; "
        "left in the file: contrastive_head, norm, rotation_head"
    )
    assert (start.rois, start.model) == ((), None)
    with torch.no_grad():
        for mine, theirs in zip(network.trunk.swinViT(patch), transformer(patch), strict=True):
            torch.testing.assert_close(mine, theirs)
    for name, value in fresh(wanted(OLD)).state_dict().items():
        assert name.startswith("trunk.swinViT.") or torch.equal(value, network.state_dict()[name]), name


def renamed(change):
    """A layout in which `change` names the tensors."""
    return lambda tensors: {change(name): value for name, value in tensors.items()}


LAYOUTS = {
    "as trained on one GPU": lambda tensors: {"state_dict": renamed(lambda name: f"swin_vit.{name}")(tensors)},
    "as trained on several": lambda tensors: {"state_dict": renamed(lambda name: f"module.swinViT.{name}")(tensors)},
    "without a container": renamed(lambda name: f"module.swin_vit.{name}"),
    "disruptive autoencoder": lambda tensors: {
        "epoch": 3,
        "model": renamed(lambda name: "encoder." + re.sub(r"^(layers\d\.0\.)", r"\g<1>0.", name))(tensors)
        | {"encoder.mask_token": torch.ones(1), "decoder.0.weight": torch.ones(2)},
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_self_supervised_weights_give_the_same_tensors_in_each_known_layout(layout, transformer, tmp_path):
    path, content = tmp_path / "weights.pth", LAYOUTS[layout](transformer.state_dict())
    torch.save(content, path)
    _, start = started(path, wanted(OLD))
    expected = {f"trunk.swinViT.{name}": value for name, value in transformer.state_dict().items()}
    assert start.tensors.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in start.tensors.items())
    if "model" in content:
        # MONAI's own filter names this layout's tensors alike.
        found = dict(filter(None, (filter_swinunetr(name, value) for name, value in content["model"].items())))
        assert {f"trunk.{name}" for name in found} == expected.keys()


def test_version_2_keeps_random_weights_in_its_own_blocks(transformer, tmp_path):
    path = tmp_path / "model_swinvit.pt"
    torch.save(published(transformer), path)
    target = wanted(OLD, TINY.model_copy(update={"use_v2": True}))
    network, _ = started(path, target)
    own = [name for name in network.state_dict() if "layers1c." in name]
    assert own
    assert all(torch.equal(network.state_dict()[name], fresh(target).state_dict()[name]) for name in own)


def test_self_supervised_weights_that_do_not_fit_are_refused(transformer, tmp_path):
    path, content = tmp_path / "model_swinvit.pt", published(transformer)
    torch.save(content, path)
    larger = TINY.model_copy(update={"feature_size": 24})
    message = refusal(path, wanted(OLD, larger))
    assert "patch_embed.proj.weight is 12×1×2×2×2 there and 24×1×2×2×2 in the network" in message
    deeper = TINY.model_copy(update={"depths": (1, 1, 2, 1)})
    assert "layers3.0.blocks.1.norm1.weight is missing there and 48 in the network" in refusal(
        path, wanted(OLD, deeper)
    )
    dodnet = wanted(OLD, DODNET, torch.eye(2)[[0, 0, 1]])
    assert "SwinUNETR's transformer, and this network has none" in refusal(path, dodnet)
    content["state_dict"]["module.layers1.0.blocks.1.norm1.weight"] = torch.ones(12)
    torch.save(content, path)
    assert "layers1.0.blocks.1.norm1.weight is 12 there and missing in the network" in refusal(path, wanted(OLD))


class Code:
    """What a file of torch.save could run when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.mkdir, (self.path,)


def test_a_pickled_file_runs_no_code(tmp_path):
    path, made = tmp_path / "model_swinvit.pt", tmp_path / "made"
    for content in ({"state_dict": Code(made)}, "no weights", {"state_dict": {"epoch": 3}}):
        torch.save(content, path)
        refusal(path, wanted(OLD))
    for written in (pickle.dumps(Code(made), protocol=2), b"PK\x03\x04 half a file"):
        path.write_bytes(written)
        assert "is damaged, or holds more than weights" in refusal(path, wanted(OLD))
    assert not made.exists()
    path.unlink()
    assert "cannot be read" in refusal(path, wanted(OLD))
