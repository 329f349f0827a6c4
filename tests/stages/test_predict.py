"""Predictions on the original grids, by student or teacher, and what becomes of an interrupted prediction."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline_lib.config.evaluation import Prediction, PredictionExecution
from pipeline_lib.errors import UserError
from pipeline_lib.geometry import Geometry
from pipeline_lib.label_bits import pack, read_roi_bits, roi_mask, roi_names
from pipeline_lib.methods.target_adaptive.settings import TargetAdaptive
from pipeline_lib.networks.model_file import load_segmentation_model
from pipeline_lib.networks.probabilities import probabilities
from pipeline_lib.nifti import Placement, read_placement
from pipeline_lib.prediction.windows import sliding_window
from pipeline_lib.stages.predict import run as inference
from pipeline_lib.stages.predict.settings import Settings as PredictSettings
from pipeline_lib.volumes.intensity import scaled
from pipeline_lib.volumes.names import IMAGE, RECORD
from pipeline_lib.volumes.record import CaseRecord, read_record, write_record
from pipeline_lib.volumes.resampling import masks_on_original_grid
from pipeline_lib.volumes.store import open_volume, write_image, write_volume
from tests.support.tiny_model import PATCHES, ROIS, WINDOW_HU, network, write_tiny_model

CASES = ("case_a", "case_b", "case_c")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes of three cases, one longer than a window, one smaller; and a model with student and teacher."""
    folder = tmp_path_factory.mktemp("inference")
    shapes = {"case_a": (40, 30, 60), "case_b": (20, 32, 64), "case_c": (24, 24, 30)}
    for seed, (case, shape) in enumerate(shapes.items()):
        rng = np.random.default_rng(seed)
        image = rng.integers(-200, 300, shape).astype(np.int16)
        grid = Geometry(size=shape[::-1], spacing_mm=(3.0, 3.0, 3.0), origin_mm=(0.0, 5.0, -7.0))
        turned = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
        original = Geometry(
            size=(shape[2], shape[1], shape[0] // 2),
            spacing_mm=(3.0, 3.0, 6.0),
            origin_mm=(3.0 * (shape[2] - 1), 5.0 + 3.0 * (shape[1] - 1), -5.5),
            direction=turned,
        )
        record = CaseRecord(
            dataset="some",
            case=case,
            targets=ROIS,
            labelled=(),
            shape=shape,
            spacing_mm=grid.spacing_mm,
            origin_mm=grid.origin_mm,
            original=original,
            window_hu=WINDOW_HU,
            voxels={},
            foreground={},
            body=((0, 0, 0), shape),
        )
        write_volume(folder / "volumes" / case, image, pack(np.zeros((len(ROIS), *shape), bool)), record)
    (folder / "volumes" / "cases.csv").write_text("case\n" + "\n".join(CASES) + "\n")
    write_tiny_model(folder / "model.safetensors")
    return folder


def predict(world: Path, out: Path, cases=CASES, models: tuple[Path, ...] = (), **options: object) -> Path:
    settings = PredictSettings(run="some", dataset="some", cases=cases, prediction=Prediction(**options))
    execution = PredictionExecution(device="cpu", precision="float32")
    inputs = inference.Inputs(world / "volumes" / "cases.csv", models or (world / "model.safetensors",))
    inference.run(settings, execution, inputs, inference.Outputs(out))
    return out


@pytest.fixture
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_in_tmp_path")
@pytest.mark.parametrize("seeds", [(1,), (1, 3)])
def test_a_case_of_one_window_is_the_networks_mean_output_on_the_original_grid(world, tmp_path, seeds):
    models = tuple(write_tiny_model(tmp_path / f"{seed}.safetensors", seed) for seed in seeds)
    folder = predict(world, tmp_path / "out", cases=("case_c",), models=models)
    bits, grid = read_roi_bits(folder / "case_c.nii.gz")
    volume = open_volume(world / "volumes" / "case_c")
    assert grid.shape == volume.record.original.shape
    assert np.allclose(grid.corners_mm(), volume.record.original.corners_mm(), atol=1e-3)
    assert roi_names(folder / "case_c.nii.gz") == ROIS
    image = torch.from_numpy(scaled(volume.read_image((-4, -4, -17), PATCHES.shape), WINDOW_HU))[None, None]
    with torch.no_grad():
        whole = np.mean([probabilities(network(seed)(image))[0].numpy() for seed in seeds], axis=0)
    as_bytes = np.rint(255 * whole[:, 4:28, 4:28, 17:47]).astype(np.uint8)
    expected = masks_on_original_grid(as_bytes, volume.record)
    for roi in range(len(ROIS)):
        found = roi_mask(bits, roi)
        assert 0 < found.mean() < 1
        # Blending divides by the weight again, which may round a byte the other way.
        assert (found != roi_mask(expected, roi)).mean() < 1e-3


@pytest.mark.usefixtures("_in_tmp_path")
def test_every_case_is_written_and_the_work_folder_is_gone(world, tmp_path):
    folder = predict(world, tmp_path / "out")
    assert sorted(path.name for path in folder.iterdir()) == [*(f"{case}.nii.gz" for case in CASES), "rois.json"]
    assert not any((tmp_path / "work" / "predict").iterdir())


@pytest.mark.usefixtures("_in_tmp_path")
def test_an_interrupted_inference_goes_on_with_the_cases_left(world, tmp_path, monkeypatch):
    whole = predict(world, tmp_path / "whole")
    predicted = []
    predict_case = inference.predict_case

    def stopping(network, volume, *others):
        if len(predicted) == 2:
            raise KeyboardInterrupt
        predicted.append(volume.record.case)
        predict_case(network, volume, *others)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(inference, "predict_case", stopping)
        predict(world, tmp_path / "out")
    assert predicted == ["case_a", "case_b"]
    assert not (tmp_path / "out").exists()
    predicted.clear()
    with monkeypatch.context() as patched:
        patched.setattr(inference, "predict_case", stopping)
        predict(world, tmp_path / "out")
    assert predicted == ["case_c"]
    for case in CASES:
        first, second = (read_roi_bits(folder / f"{case}.nii.gz")[0] for folder in (whole, tmp_path / "out"))
        assert np.array_equal(first, second)


@pytest.mark.usefixtures("_in_tmp_path")
@pytest.mark.parametrize("remade", ["image", "grid"])
def test_a_case_whose_volume_was_remade_meanwhile_is_predicted_again(world, tmp_path, monkeypatch, remade):
    copy = tmp_path / "world"
    shutil.copytree(world, copy)
    predicted, predict_case = [], inference.predict_case

    def stopping(network, volume, *others):
        if len(predicted) == 2:
            raise KeyboardInterrupt
        predicted.append(volume.record.case)
        predict_case(network, volume, *others)

    monkeypatch.setattr(inference, "predict_case", stopping)
    with pytest.raises(KeyboardInterrupt):
        predict(copy, tmp_path / "out", cases=("case_c", "case_b", "case_a"))
    volume = copy / "volumes" / "case_b"
    if remade == "image":
        image = open_volume(volume).read_image((0, 0, 0), open_volume(volume).shape)
        write_image(volume / IMAGE, image[::-1], WINDOW_HU)
    else:
        record = read_record(volume / RECORD)
        there = record.original.model_copy(update={"origin_mm": (0.0, 0.0, 0.0)})
        write_record(volume / RECORD, record.model_copy(update={"original": there}))
    predicted.clear()
    resumed = predict(copy, tmp_path / "out", cases=("case_c", "case_b", "case_a"))
    assert predicted == ["case_b", "case_a"]
    monkeypatch.setattr(inference, "predict_case", predict_case)
    whole = predict(copy, tmp_path / "whole")
    assert sorted(path.name for path in resumed.iterdir()) == sorted(path.name for path in whole.iterdir())
    for case in CASES:
        (first, here), (second, there) = (read_roi_bits(folder / f"{case}.nii.gz") for folder in (whole, resumed))
        assert np.array_equal(first, second)
        assert here == there


@pytest.mark.usefixtures("_in_tmp_path")
def test_other_settings_never_go_on_from_these_cases(world, tmp_path, monkeypatch):
    def nothing(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(inference, "predict_case", nothing)
    for overlap in (0.5, 0.25):
        with pytest.raises(KeyboardInterrupt):
            predict(world, tmp_path / "out", overlap=overlap)
    assert len(list((tmp_path / "work" / "predict").iterdir())) == 2


@pytest.mark.usefixtures("_in_tmp_path")
def test_the_teacher_predicts_where_it_is_asked_to(world, tmp_path):
    student, teacher = (
        read_roi_bits(predict(world, tmp_path / weights, ("case_c",), weights=weights) / "case_c.nii.gz")[0]
        for weights in ("student", "teacher")
    )
    assert not np.array_equal(student, teacher)


@pytest.mark.usefixtures("_in_tmp_path")
def test_a_missing_volume_is_one_line(world, tmp_path):
    with pytest.raises(UserError, match="case_x"):
        predict(world, tmp_path / "out", cases=("case_x",))
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("_in_tmp_path")
def test_only_the_rois_that_are_named_are_post_processed(world, tmp_path):
    plain = predict(world, tmp_path / "plain", cases=("case_c",))
    processed = predict(world, tmp_path / "processed", ("case_c",), post_processing={"spleen": "largest_part"})
    (before, _), (after, _) = (read_roi_bits(folder / "case_c.nii.gz") for folder in (plain, processed))
    for roi in (0, 1):
        assert np.array_equal(roi_mask(before, roi), roi_mask(after, roi))
    assert 0 < roi_mask(after, 2).sum() < roi_mask(before, 2).sum()
    assert not (roi_mask(after, 2) & ~roi_mask(before, 2)).any()


@pytest.mark.usefixtures("_in_tmp_path")
def test_a_prediction_repeats_the_header_of_a_ct_that_says_unusually_where_it_lies(world, tmp_path):
    record = read_record(world / "volumes" / "case_c" / "case.json")
    there = record.original
    placement = Placement(
        qform_code=2,
        sform_code=4,
        units=2,
        pixdim=(1.0, *there.spacing_mm),
        quaternion=(0.0, 0.0, 0.0, 1.0, 2.0, 3.0),
        sform=(3.0, 0, 0, -there.origin_mm[0], 0, 3.0, 0, -there.origin_mm[1], 0, 0, 6.0, there.origin_mm[2]),
    )
    copy = tmp_path / "world"
    shutil.copytree(world, copy)
    write_record(copy / "volumes" / "case_c" / "case.json", record.model_copy(update={"placement": placement}))
    folder = predict(copy, tmp_path / "out", cases=("case_c",))
    assert read_placement(folder / "case_c.nii.gz") == placement
    bits, grid = read_roi_bits(folder / "case_c.nii.gz")
    assert grid.difference(there) == ""
    plain, _ = read_roi_bits(predict(world, tmp_path / "plain", cases=("case_c",)) / "case_c.nii.gz")
    assert np.array_equal(bits, plain)


def test_mirrored_windows_exchange_the_rois_that_the_model_file_pairs(world):
    _, description = load_segmentation_model(world / "model.safetensors", "cpu")
    settings = Prediction(flip_tta=True), PredictionExecution(device="cpu", precision="float32")
    assert sliding_window(*settings, description, torch.device("cpu")).partners == ()
    description["mirrors"] = {"spleen": "liver", "liver": "spleen"}
    assert sliding_window(*settings, description, torch.device("cpu")).partners == (2, 1, 0)


def test_a_method_with_a_softmax_predicts_by_the_structures_in_the_model_file(world):
    _, description = load_segmentation_model(world / "model.safetensors", "cpu")
    description |= {
        "method": TargetAdaptive(kind="target_adaptive", network="small", encoder="some").model_dump(mode="json"),
        "structures": [["liver"], ["liver"], ["spleen"]],
    }
    settings = Prediction(), PredictionExecution(device="cpu", precision="float32")
    window = sliding_window(*settings, description, torch.device("cpu"))
    found = window.to_probabilities(torch.zeros(1, 3, 1, 1, 1)).flatten().tolist()
    # Background, liver, tumour, both, spleen: equally likely.
    assert found == pytest.approx([2 / 5, 2 / 5, 1 / 5])
    del description["structures"]
    with pytest.raises(UserError, match="does not say which of its ROIs exclude each other"):
        sliding_window(*settings, description, torch.device("cpu"))
