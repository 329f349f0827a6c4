"""A model file and a CT in, masks on the CT's own grid out: the same as the pipeline's, whatever the grid."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import lacuna
from pipeline_lib.config.evaluation import Prediction, PredictionExecution
from pipeline_lib.geometry import Geometry, from_canonical
from pipeline_lib.label_bits import pack, read_roi_bits, roi_mask
from pipeline_lib.methods.target_adaptive.settings import TargetAdaptive
from pipeline_lib.prediction.ct import ct_from_image
from pipeline_lib.prediction.segmentation import Segmentation
from pipeline_lib.stages.predict import run as stage
from pipeline_lib.stages.predict.settings import Settings
from pipeline_lib.volumes.record import CaseRecord
from pipeline_lib.volumes.resampling import image_volume
from pipeline_lib.volumes.store import write_volume
from tests.support.grid_fixtures import ORIENTATIONS
from tests.support.small_cts import GRID, hounsfield, write_ct
from tests.support.tiny_model import ROIS, WINDOW_HU, write_tiny_model

CPU = {"device": "cpu", "precision": "float32"}
SPACING = (3.0, 3.0, 3.0)
# Not imported here: that would load what reports over the network.
needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="needs the package openvino (its own extra)")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Two model files, and a CT."""
    folder = tmp_path_factory.mktemp("files")
    write_tiny_model(folder / "one.safetensors", seed=9)
    write_tiny_model(folder / "two.safetensors", seed=7)
    write_ct(folder / "ct.nii.gz")
    return folder


@pytest.fixture(scope="module")
def model(files):
    return lacuna.load(files / "one.safetensors", **CPU)


@pytest.fixture(scope="module")
def masks(model, files):
    return model.predict(files / "ct.nii.gz")


def test_three_lines_give_masks_by_name(masks):
    assert tuple(masks) == ROIS
    for roi in ROIS:
        assert masks[roi].dtype == bool
        assert masks[roi].shape == GRID.shape
        assert 0 < masks[roi].mean() < 1
        assert Geometry.from_image(masks.image(roi)).difference(GRID) == ""
        assert np.array_equal(sitk.GetArrayFromImage(masks.image(roi)) == 1, masks[roi])
    with pytest.raises(KeyError, match="liver, liver_tumor, spleen"):
        masks["lung"]


def test_masks_are_those_of_the_pipeline(masks, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = sitk.ReadImage(str(files / "ct.nii.gz"))
    original = Geometry.from_image(image)
    grid = original.canonical().at_spacing(SPACING)
    record = CaseRecord(
        dataset="some", case="ct", targets=ROIS, labelled=(), shape=grid.shape, spacing_mm=SPACING,
        origin_mm=grid.origin_mm, original=original, window_hu=WINDOW_HU, voxels={}, foreground={},
        body=((0, 0, 0), grid.shape),
    )  # fmt: skip
    empty = pack(np.zeros((len(ROIS), *grid.shape), bool))
    write_volume(tmp_path / "volumes" / "ct", image_volume(image, grid, WINDOW_HU), empty, record)
    (tmp_path / "volumes" / "cases.csv").write_text("case\nct\n")
    stage.run(
        Settings(run="some", dataset="some", cases=("ct",), prediction=Prediction()),
        PredictionExecution(**CPU),
        stage.Inputs(tmp_path / "volumes" / "cases.csv", (files / "one.safetensors",)),
        stage.Outputs(tmp_path / "out"),
    )
    bits, _ = read_roi_bits(tmp_path / "out" / "ct.nii.gz")
    for index, roi in enumerate(ROIS):
        assert np.array_equal(roi_mask(bits, index), masks[roi])


@pytest.mark.parametrize("direction", [ORIENTATIONS[place] for place in (7, 22, 41)])
def test_a_turned_or_flipped_ct_has_the_same_masks_turned_and_flipped(model, masks, direction):
    """The same voxels in another axis order and sense, in the same place."""
    upright = hounsfield(GRID.shape)
    order = [int(np.flatnonzero(row)[0]) for row in np.reshape(direction, (3, 3))]
    size, spacing = [0] * 3, [0.0] * 3
    for axis, source in enumerate(order):
        size[source], spacing[source] = GRID.size[axis], GRID.spacing_mm[axis]
    turned = Geometry(size=size, spacing_mm=spacing, origin_mm=(0, 0, 0), direction=direction)
    low = GRID.corners_mm().min(axis=0) - turned.corners_mm().min(axis=0)
    turned = turned.model_copy(update={"origin_mm": tuple(map(float, low))})
    found = model.predict(turned.image(np.ascontiguousarray(from_canonical(upright, turned))))
    for roi in ROIS:
        assert found[roi].shape == turned.shape
        assert Geometry.from_image(found.image(roi)) == turned
        # The CT on disk has its places in float32.
        assert (found[roi] != from_canonical(masks[roi], turned)).mean() < 1e-3


def test_masks_of_an_oblique_ct_lie_on_its_own_grid(model, oblique):
    found = model.predict(oblique.image(hounsfield(oblique.shape)))
    for roi in ROIS:
        assert Geometry.from_image(found.image(roi)) == oblique
        assert 0 < found[roi].mean() < 1
        assert np.array_equal(found[roi], found.probability(roi) >= 128 / 255)


def test_a_file_of_any_format_and_an_image_in_memory_give_the_same(model, masks, tmp_path):
    for name in ("ct.mha", "ct.nrrd"):
        found = model.predict(write_ct(tmp_path / name))
        assert all(np.array_equal(found[roi], masks[roi]) for roi in ROIS)


def test_several_models_are_averaged(files, masks, model):
    other = lacuna.load(files / "two.safetensors", **CPU).predict(files / "ct.nii.gz")
    both = lacuna.load(files / "one.safetensors", files / "two.safetensors", **CPU).predict(files / "ct.nii.gz")
    for roi in ROIS:
        mean = (masks.probability(roi) + other.probability(roi)) / 2
        # Bytes of each on the volume's grid, and of the mean, are rounded.
        assert np.abs(both.probability(roi) - mean).max() <= 3 / 255
        assert np.abs(masks.probability(roi) - mean).max() > 0.05


def test_several_models_say_how_far_they_agree(files, tmp_path, masks):
    """Three models against their masks alone, pair by pair, of the second CT that they see.

    Windows lie side by side over the whole CT, which has tissue in two opposite corners: each voxel counts once.
    """
    paths = [files / "one.safetensors", files / "two.safetensors"]
    paths.append(write_tiny_model(tmp_path / "three.safetensors", seed=3))
    grid = Geometry(size=(64, 64, 64), spacing_mm=SPACING, origin_mm=(0, 0, 0))
    hu = hounsfield(grid.shape)
    hu[0, 0, 0] = hu[-1, -1, -1] = 40
    ct = grid.image(hu)
    joint = lacuna.load(*paths, **CPU, fast=True)
    joint.predict(files / "ct.nii.gz")
    found = joint.predict(ct)
    alone = [lacuna.load(path, **CPU, fast=True).predict(ct) for path in paths]
    for roi in ROIS:
        pairs = list(itertools.combinations([each[roi] for each in alone], 2))
        both = sum(np.count_nonzero(one & other) for one, other in pairs)
        sizes = sum(np.count_nonzero(one) + np.count_nonzero(other) for one, other in pairs)
        assert 0 < both < sizes / 2
        assert found.confidence(roi).agreement == pytest.approx(2 * both / sizes, abs=2e-3)
    assert masks.confidence("liver").agreement is None


def test_each_of_several_models_predicts_as_its_own_method_does(files, tmp_path, masks):
    """The same network twice, once under a softmax in which liver and tumour exclude the spleen: less of all three."""
    method = TargetAdaptive(kind="target_adaptive", network="small", encoder="some").model_dump(mode="json")
    softmax = write_tiny_model(
        tmp_path / "softmax.safetensors", seed=9, method=method, structures=[["liver"], ["liver"], ["spleen"]]
    )
    alone = lacuna.load(softmax, **CPU).predict(files / "ct.nii.gz")
    both = lacuna.load(files / "one.safetensors", softmax, **CPU).predict(files / "ct.nii.gz")
    swapped = lacuna.load(softmax, files / "one.safetensors", **CPU).predict(files / "ct.nii.gz")
    for roi in ROIS:
        assert np.abs(masks.probability(roi) - alone.probability(roi)).max() > 0.05
        mean = (masks.probability(roi) + alone.probability(roi)) / 2
        assert np.abs(both.probability(roi) - mean).max() <= 3 / 255
        assert np.abs(swapped.probability(roi) - mean).max() <= 3 / 255


def test_models_that_pair_other_rois_are_not_averaged_over_flips(files, tmp_path):
    other = write_tiny_model(tmp_path / "other.safetensors", seed=9, mirrors={"liver": "spleen", "spleen": "liver"})
    lacuna.load(files / "one.safetensors", other, **CPU)
    with pytest.raises(lacuna.UserError, match="pairs left and right unlike"):
        lacuna.load(files / "one.safetensors", other, flip_tta=True, **CPU)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"rois": ("liver", "spleen", "liver_tumor")}, "has ROIs of liver, spleen"),
        ({"spacing_mm": (2.0, 2.0, 2.0)}, "a voxel spacing of 2.0"),
        ({"window_hu": (-100.0, 300.0)}, "an intensity window"),
        ({"patches": {"size_voxels": (32, 32, 32)}}, "patches of 32, 32, 32"),
    ],
)
def test_models_that_see_or_name_something_else_are_not_averaged(files, tmp_path, more, said):
    other = write_tiny_model(tmp_path / "other.safetensors", seed=9, **more)
    with pytest.raises(lacuna.UserError, match=said):
        lacuna.load(files / "one.safetensors", other, **CPU)


def test_only_the_largest_part_of_a_roi_is_kept_where_that_is_asked_for():
    volume_grid = GRID.canonical().at_spacing(SPACING)
    probabilities = np.zeros((2, *volume_grid.shape), np.uint8)
    probabilities[:, 4:16, 4:16, 4:16] = probabilities[:, 20:24, 20:24, 20:24] = 255
    ct = ct_from_image(GRID.image(hounsfield(GRID.shape)))
    found = Segmentation(ct, ("liver", "spleen"), volume_grid, {"liver": "largest_part"}, {}, probabilities)
    assert [row.parts for row in found.statistics()] == [1, 2]
    assert found.statistics()[0].volume_ml == pytest.approx(36**3 / 1000, rel=0.1)
    assert not found["liver"][9:].any()
    assert found["spleen"][9:].any()


def test_the_file_decides_how_it_predicts_and_the_caller_above_it(files, masks, model, tmp_path):
    assert "does not say how to predict" in model.notes[0]
    prediction = Prediction(weights="teacher", overlap=0.25, post_processing={"spleen": "largest_part"})
    said = write_tiny_model(tmp_path / "said.safetensors", seed=9, prediction=prediction.model_dump(mode="json"))
    loaded = lacuna.load(said, **CPU)
    assert loaded.notes == ()
    assert loaded.window.overlap == 0.25
    assert loaded.made_by["weights"] == "teacher"
    assert loaded.post_processing == {"spleen": "largest_part"}
    asked = lacuna.load(said, **CPU, overlap=0.5, weights="student", largest_part=("liver",))
    assert asked.window.overlap == 0.5
    assert asked.post_processing == {"spleen": "largest_part", "liver": "largest_part"}
    assert np.array_equal(asked.predict(files / "ct.nii.gz")["liver_tumor"], masks["liver_tumor"])
    with pytest.raises(lacuna.UserError, match="lung is not a ROI"):
        lacuna.load(said, **CPU, largest_part=("lung",))


def test_a_teacher_that_is_not_there_is_one_line(files, tmp_path):
    from pipeline_lib.networks.model_file import save_model
    from tests.support.tiny_model import describe, network

    path = tmp_path / "alone.safetensors"
    save_model(path, network(1), describe())
    with pytest.raises(lacuna.UserError, match="holds no teacher"):
        lacuna.load(path, **CPU, weights="teacher")


def test_fast_puts_windows_side_by_side(files):
    model = lacuna.load(files / "one.safetensors", **CPU, fast=True)
    assert (model.window.overlap, model.window.flip_tta) == (0, False)
    assert model.made_by["fast"]


def test_progress_counts_every_window(model, files):
    seen = []
    model.predict(files / "ct.nii.gz", on_windows=lambda count, total: seen.append((count, total)))
    assert {total for _, total in seen} == {sum(count for count, _ in seen)}


def test_too_little_memory_is_said_before_the_start(model, files, monkeypatch):
    monkeypatch.setattr("pipeline_lib.prediction.memory.available_memory", lambda: 1000)
    with pytest.raises(lacuna.UserError, match=r"needs at least .* GB of memory for 3 ROIs at 30×26×28 voxels"):
        model.predict(files / "ct.nii.gz")


def test_the_memory_that_is_asked_for_grows_with_rois_and_voxels(model, files):
    from pipeline_lib.prediction.ct import read_ct
    from pipeline_lib.prediction.memory import least_memory
    from pipeline_lib.prediction.volume import volume_of

    volume = volume_of(read_ct(files / "ct.nii.gz"), model.spacing_mm, model.window.window_hu)
    volume.hu[:] = 40
    least = least_memory(volume, 3, model.window)
    # At least the sums of a slab: 28 slices here, fewer than a window's 32.
    assert least >= 28 * 26 * 30 * 3 * 4
    assert least_memory(volume, 6, model.window) > 1.7 * least
    assert least_memory(volume, 3, replace(model.window, shape=(8, 32, 64))) < least
    volume.hu[..., :15] = -1024
    assert least_memory(volume, 3, model.window) < 0.7 * least


@needs_openvino
def test_another_runtime_gives_the_same_masks_but_for_rounding(files, masks):
    model = lacuna.load(files / "one.safetensors", **CPU, runtime="openvino")
    assert model.made_by["runtime"] == "openvino"
    found = model.predict(files / "ct.nii.gz")
    for roi in ROIS:
        expected = masks.probability(roi)
        assert np.abs(found.probability(roi) - expected).max() <= 3 / 255
        assert np.abs(expected[found[roi] != masks[roi]] - 0.5).max(initial=0) <= 3 / 255
    assert "openvino_telemetry" not in sys.modules


def test_a_runtime_that_cannot_be_used_is_one_line(files, monkeypatch):
    monkeypatch.setattr("pipeline_lib.prediction.openvino_runtime.find_spec", lambda package: None)
    with pytest.raises(lacuna.UserError, match="needs the package openvino, which is not installed"):
        lacuna.load(files / "one.safetensors", **CPU, runtime="openvino")
    monkeypatch.setattr("pipeline_lib.prediction.openvino_runtime.find_spec", lambda package: package)
    with pytest.raises(lacuna.UserError, match=r"does not compute in torch\.float16"):
        lacuna.load(files / "one.safetensors", device="cpu", precision="float16", runtime="openvino")


@needs_openvino
def test_a_runtime_whose_probabilities_are_others_is_refused(files, monkeypatch):
    monkeypatch.setattr("pipeline_lib.prediction.openvino_runtime._AGREES_WITHIN", 1e-12)
    with pytest.raises(lacuna.UserError, match="openvino gives probabilities here that are off PyTorch's by"):
        lacuna.load(files / "one.safetensors", **CPU, runtime="openvino")
