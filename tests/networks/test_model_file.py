"""A model file holds all that is needed to use the network again, and says so in one line where it does not."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pipeline_lib.config.roi_aware import RoiAware
from pipeline_lib.errors import UserError
from pipeline_lib.networks.build import build_roi_aware_network
from pipeline_lib.networks.model_file import load_roi_aware_model, load_segmentation_model, save_model
from tests.support.network_fixtures import described

CURVE = {"level": 0.1, "slope": 1.0, "look_below": 0.5, "masks": 9}


def test_a_segmentation_network_comes_back_as_it_was(network_name, build, patch, description, tmp_path):
    network = build(network_name)
    path = tmp_path / "model.safetensors"
    save_model(path, network, description)
    loaded, held = load_segmentation_model(path, "cpu")
    assert held == description
    assert not any(module.training for module in loaded.modules())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    with torch.no_grad():
        assert torch.equal(loaded(patch), network.eval()(patch))


ROI_AWARE = RoiAware(width=4, structures=("liver", "spleen"))
ROI_AWARE_DESCRIPTION = {
    "roi_aware": ROI_AWARE.model_dump(mode="json"),
    "structures": ["liver", "spleen"],
    "patches": {"size_voxels": [32, 64, 32]},
    "window_hu": [-325.0, 325.0],
}


def test_a_roi_aware_network_comes_back_with_its_statistics(patch, tmp_path):
    network = build_roi_aware_network(ROI_AWARE, 2)
    network(patch)
    path = tmp_path / "model.safetensors"
    save_model(path, network, ROI_AWARE_DESCRIPTION)
    loaded, held = load_roi_aware_model(path, "cpu")
    assert held["structures"] == ["liver", "spleen"]
    with torch.no_grad():
        assert torch.equal(loaded(patch), network.eval()(patch))
    assert not loaded.training


def test_the_description_is_readable_json(build, tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, build_roi_aware_network(ROI_AWARE, 2), ROI_AWARE_DESCRIPTION)
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["description"]) == ROI_AWARE_DESCRIPTION


def test_an_incomplete_description_is_a_bug(tmp_path):
    with pytest.raises(ValueError, match="rois"):
        save_model(tmp_path / "model.safetensors", torch.nn.Linear(1, 1), {"rois": []})
    assert list(tmp_path.iterdir()) == []


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError) as error:
        load_segmentation_model(tmp_path / "nothing.safetensors", "cpu")
    assert "nothing.safetensors" in one_line(error)


def test_a_torn_file_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, build_roi_aware_network(ROI_AWARE, 2), ROI_AWARE_DESCRIPTION)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError) as error:
        load_roi_aware_model(path, "cpu")
    assert "model.safetensors" in one_line(error)


def test_another_kind_of_model_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, build_roi_aware_network(ROI_AWARE, 2), ROI_AWARE_DESCRIPTION)
    with pytest.raises(UserError) as error:
        load_segmentation_model(path, "cpu")
    message = one_line(error)
    assert "is a ROI-aware network, and a segmentation model is expected here" in message
    assert "delete" not in message


def test_a_segmentation_model_is_no_roi_aware_network(network_name, build, description, tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, build(network_name), description)
    with pytest.raises(UserError) as error:
        load_roi_aware_model(path, "cpu")
    message = one_line(error)
    assert "is a segmentation model, and a ROI-aware network is expected here" in message
    assert "delete" not in message


def test_a_file_that_holds_something_else_is_refused(tmp_path):
    path = tmp_path / "embeddings.safetensors"
    save_file({"embeddings": torch.zeros(2, 3)}, path)
    with pytest.raises(UserError, match="holds no network, and a segmentation model is expected here"):
        load_segmentation_model(path, "cpu")


def test_a_model_file_of_version_0_1_is_refused(network_name, build, description, tmp_path):
    """It had the sizes of all networks under `networks`."""
    path = tmp_path / "model.safetensors"
    old = {key: value for key, value in description.items() if key != "network"} | {"networks": {"swin_unetr": {}}}
    save_file(build(network_name).state_dict(), path, metadata={"description": json.dumps(old)})
    with pytest.raises(UserError) as error:
        load_segmentation_model(path, "cpu")
    assert "comes from another version of Lacuna, whose networks differ; move it away" in one_line(error)


def test_weights_of_another_size_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    tensors = build_roi_aware_network(RoiAware(width=8), 2).state_dict()
    save_file(tensors, path, metadata={"description": json.dumps(ROI_AWARE_DESCRIPTION)})
    with pytest.raises(UserError) as error:
        load_roi_aware_model(path, "cpu")
    assert "comes from another version" in one_line(error)


def stranger(build, description, path, changes=None, tensors=None):
    """A file of a tiny network whose description and tensors somebody has changed."""
    held = {**build(description["network"]["kind"]).state_dict(), **(tensors or {})}
    described = {**description, **(changes or {})}
    save_file(
        {name: tensor.contiguous() for name, tensor in held.items()}, path, {"description": json.dumps(described)}
    )
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rois": ["../../liver", "liver_tumor", "spleen"]}, "unusable description"),
        ({"rois": ["liver", "liver", "spleen"]}, "names a ROI twice"),
        ({"rois": ["liver", "spleen"]}, "embeddings of shape"),
        ({"rois": "liver"}, "unusable description"),
        ({"spacing_mm": [1e-9, 1, 1]}, "spacing_mm"),
        ({"spacing_mm": [1, 1]}, "spacing_mm"),
        ({"window_hu": [300, -300]}, "window_hu"),
        ({"patches": {"size_voxels": [3200, 3200, 3200]}}, "3200×3200×3200"),
        ({"patches": {"size_voxels": [33, 32, 32]}}, "do not divide"),
        ({"mirrors": {"liver": "lung"}}, "`mirrors` names lung"),
        ({"structures": [["liver"], ["liver"]]}, "`structures` are not a list for each ROI"),
        ({"structures": ["liver", "liver", "spleen"]}, "`structures` are not a list for each ROI"),
        ({"structures": 3}, "structures"),
        ({"labelled": {"livers": ["lung"]}}, "`labelled` names other ROIs of livers"),
        (
            {"labelled": {"livers": ["liver", "liver"]}},
            "`labelled` names other ROIs of livers than its own, or one twice",
        ),
        ({"labelled": ["liver"]}, "labelled"),
        ({"prediction": {"post_processing": {"lung": "largest_part"}}}, "`post_processing` names lung"),
        ({"calibration": {"cases": "test", "rois": {"lung": CURVE}}}, "`calibration` is of other ROIs"),
        ({"calibration": {"cases": "test", "rois": {"lung": {**CURVE, "level": -1e9}}}}, "calibration.rois.lung.level"),
        ({"calibration": {"signal": "entropy", "cases": "test", "rois": {"lung": CURVE}}}, "calibration.signal"),
        ({"prediction": {"overlap": 2}}, "prediction.overlap"),
        ({"window_hu": ["-200", "300"]}, "window_hu"),
        ({"rois": None}, "`rois` is null"),
        ({"spacing_mm": None}, "`spacing_mm` is null"),
        ({"method": "mean_teacher"}, "method"),
        ({"method": ["mean_teacher"]}, "method"),
        ({"method": {"kind": "a\u001b[2Jb"}}, "method.kind"),
        ({"method": {}}, "method.kind"),
        ({"network": [1]}, "network"),
        ({"network": {"kind": "x" * 1000}}, "network.kind"),
        ({"run": "a](https://example.org)"}, "run"),
        ({"run": "# a\n# b"}, "run"),
        ({"seed": "\u001b[2J"}, "seed"),
        ({"labelled": {"\u001b[2J": []}}, "labelled"),
    ],
)
def test_an_implausible_description_is_one_line(build, tmp_path, changes, said):
    path = stranger(build, described("swin_unetr"), tmp_path / "model.safetensors", changes)
    with pytest.raises(UserError) as error:
        load_segmentation_model(path, "cpu")
    assert said in one_line(error)
    assert "\u001b" not in one_line(error)


@pytest.mark.parametrize(
    "size", [{"num_heads": [0, 0, 0, 0]}, {"depths": [-1, 1, 1, 1]}, {"depths": [0, 1, 1, 1]}, {"num_heads": [5] * 4}]
)
def test_a_network_that_cannot_be_built_is_one_line(build, tmp_path, size):
    network = {**described("swin_unetr")["network"], **size}
    path = stranger(build, described("swin_unetr"), tmp_path / "model.safetensors", {"network": network})
    with pytest.raises(UserError) as error:
        load_segmentation_model(path, "cpu")
    assert "whose networks differ" in one_line(error) or "cannot be built" in one_line(error)


@pytest.mark.parametrize(
    ("size", "said"),
    [({"feature_size": 1_200_000}, "instead of"), ({"depths": [1, 1, 1, 10**9]}, "a network of 1000000000 blocks")],
)
def test_a_description_of_a_giant_network_takes_neither_memory_nor_time(build, tmp_path, size, said):
    giant = {**described("swin_unetr")["network"], **size}
    path = stranger(build, described("swin_unetr"), tmp_path / "model.safetensors", {"network": giant})
    with pytest.raises(UserError) as error:
        load_segmentation_model(path, "cpu")
    assert said in one_line(error)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"secret": torch.zeros(1)}, "it also has secret"),
        ({"teacher.secret": torch.zeros(1)}, "it also has teacher.secret"),
        ({"\x1b[2J": torch.zeros(1)}, r"it also has \x1b[2J"),
        ({"embeddings": torch.full((3, 5), torch.nan)}, "NaN"),
        ({"head.controller.bias": torch.zeros(7)}, "its head.controller.bias is 7 instead of 153"),
    ],
)
def test_tensors_that_do_not_fit_are_named(build, tmp_path, tensors, said):
    path = stranger(build, described("swin_unetr"), tmp_path / "model.safetensors", tensors=tensors)
    with pytest.raises(UserError) as error:
        load_segmentation_model(path, "cpu")
    assert said in one_line(error)


def test_a_lacking_tensor_is_named(build, tmp_path):
    held = build("swin_unetr").state_dict()
    del held["head.controller.bias"]
    path = tmp_path / "model.safetensors"
    save_file(held, path, {"description": json.dumps(described("swin_unetr"))})
    with pytest.raises(UserError) as error:
        load_segmentation_model(path, "cpu")
    assert "it lacks head.controller.bias" in one_line(error)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_never_opened(tmp_path, zipped):
    """One that would leave a file behind if it were."""

    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    path = tmp_path / "model.safetensors"
    torch.save(Bomb(), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError) as error:
        load_segmentation_model(path, "cpu")
    assert "can run code" in one_line(error)
    assert not (tmp_path / "ran").exists()


def test_a_description_that_is_not_json_is_one_line(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(1)}, path, {"description": "{" * 100_000})
    with pytest.raises(UserError, match="not JSON"):
        load_segmentation_model(path, "cpu")
