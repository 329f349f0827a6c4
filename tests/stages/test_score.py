"""The score table: every number recomputed from the files, and files that do not fit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from pipeline_lib.config.datasets import Dataset
from pipeline_lib.config.evaluation import Scores
from pipeline_lib.errors import UserError
from pipeline_lib.geometry import Geometry
from pipeline_lib.label_bits import write_roi_bits
from pipeline_lib.stages.score.run import Inputs, Outputs, run
from pipeline_lib.stages.score.settings import Settings as ScoreSettings

ROIS = ("liver", "liver_tumor", "spleen")
GRID = Geometry(
    size=(9, 8, 7),
    spacing_mm=(1.5, 2.0, 5.0),
    origin_mm=(10.0, -20.0, 30.0),
    direction=(0.0, 0.0, 1.0, -1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
)


def dataset(count: int = 6) -> Dataset:
    return Dataset.model_validate(
        {
            "name": "livers",
            "layout": "msd",
            "source": {"kind": "phantom", "cases": count, "spacing_mm": (1.5, 2.0, 5.0)},
            "labels": {"liver": (1, 2), "liver_tumor": (2,)},
            "licence": "CC0-1.0",
        }
    )


TESTED = dataset().split_cases("test")


def some_bits(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2 ** len(ROIS), GRID.shape).astype(np.uint8)


def settings(truth: str = "full", **scores: object) -> ScoreSettings:
    chosen = dataset()
    return ScoreSettings(
        run="some-seed3",
        rois=ROIS,
        datasets=(chosen,),
        cases={chosen.name: chosen.split_cases("test")},
        scores=Scores(truth=truth, **scores),
    )


def write_cases(folder: Path, seed: int, grid: Geometry = GRID) -> Path:
    for place, case in enumerate(TESTED):
        write_roi_bits(folder / f"{case}.nii.gz", some_bits(seed + place), grid, ROIS)
    return folder


def scored(tmp_path: Path, truth: Path, given: ScoreSettings) -> pd.DataFrame:
    predictions = write_cases(tmp_path / "predictions" / "some-seed3" / "livers", 10)
    run(given, Inputs((predictions,), (truth,)), Outputs(tmp_path / "scores.csv", tmp_path / "confusion.csv"))
    return pd.read_csv(tmp_path / "scores.csv")


def test_full_truth_gives_a_row_per_case_and_roi_with_numbers_that_can_be_recomputed(tmp_path):
    table = scored(tmp_path, write_cases(tmp_path / "livers", 20), settings())
    assert list(zip(table["case"], table["roi"], strict=True)) == [(case, roi) for case in TESTED for roi in ROIS]
    assert set(table["run"]) == {"some-seed3"}
    assert set(table["dataset"]) == {"livers"}
    for row in table.itertuples():
        place, bit = TESTED.index(row.case), ROIS.index(row.roi)
        prediction, truth = ((some_bits(seed + place) >> bit) & 1 == 1 for seed in (10, 20))
        counts = (truth.sum(), prediction.sum(), (truth & prediction).sum())
        assert (row.voxels_truth, row.voxels_prediction, row.voxels_both) == counts
        plain = 2 * counts[2] / (counts[0] + counts[1])
        plus_one = 2 * counts[2] / (counts[0] + counts[1] + 1)
        assert (row.dice, row.dice_nnunet, row.dice_uniseg) == pytest.approx([plain] * 3, rel=1e-5)
        assert (row.dice_dodnet, row.dice_universal_model) == pytest.approx([plus_one] * 2, rel=1e-5)
        assert row.volume_truth_ml == pytest.approx(counts[0] * 1.5 * 2 * 5 / 1000, rel=1e-5)
        assert row.volume_prediction_ml == pytest.approx(counts[1] * 1.5 * 2 * 5 / 1000, rel=1e-5)
        assert (row.lesions > 0) == (row.roi == "liver_tumor")


def test_dice_is_the_column_of_the_chosen_convention(tmp_path):
    truth = write_cases(tmp_path / "livers", 20)
    for convention in ("dodnet", "uniseg"):
        table = scored(tmp_path, truth, settings(convention=convention))
        assert table["dice"].equals(table[f"dice_{convention}"])


def test_an_absent_roi_scores_as_its_convention_says(tmp_path):
    truth = tmp_path / "livers"
    predictions = tmp_path / "some-seed3" / "livers"
    for case in TESTED:
        for folder in (truth, predictions):
            write_roi_bits(folder / f"{case}.nii.gz", np.zeros(GRID.shape, np.uint8), GRID, ROIS)
    run(settings(), Inputs((predictions,), (truth,)), Outputs(tmp_path / "scores.csv", tmp_path / "confusion.csv"))
    table = pd.read_csv(tmp_path / "scores.csv")
    assert len(table) == len(TESTED) * len(ROIS)
    assert table[["dice", "dice_nnunet", "dice_universal_model", "surface_dice", "hd95_mm"]].isna().all(axis=None)
    assert (table["dice_dodnet"] == 0).all()
    assert (table["dice_uniseg"] == 1).all()


def test_published_labels_give_rows_for_the_labelled_rois_only(tmp_path):
    raw = tmp_path / "raw" / "livers"
    for place, case in enumerate(TESTED):
        bits = some_bits(20 + place)
        label_map = np.where(bits & 2, 2, bits & 1).astype(np.uint8)
        for name, array in (("imagesTr", np.zeros(GRID.shape, np.int16)), ("labelsTr", label_map)):
            (raw / name).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(GRID.image(array), str(raw / name / f"{case}.nii.gz"))
    table = scored(tmp_path, raw / "manifest.json", settings("labelled"))
    assert list(table["roi"]) == ["liver", "liver_tumor"] * len(TESTED)
    first = table.iloc[0]
    truth, prediction = (some_bits(20) & 3) > 0, (some_bits(10) & 1) > 0
    assert first["voxels_both"] == (truth & prediction).sum()


@pytest.mark.parametrize("seed", range(5))
def test_a_case_counts_for_a_roi_only_where_its_truth_is_known(tmp_path, seed):
    """Random label maps, tables of what cases label and open values, against counts of single voxels."""
    random = np.random.default_rng(seed)
    raw = tmp_path / "raw" / "livers"
    labelled = {case: tuple(roi for roi in ROIS[:2] if random.random() < 0.6) for case in dataset().all_cases}
    unknown = {7: "all", 8: ("liver",)}
    label_maps = {case: random.choice([0, 1, 2, 7, 8], GRID.shape).astype(np.uint8) for case in TESTED}
    label_maps[TESTED[0]][:] = 7
    for case, label_map in label_maps.items():
        (raw / "labelsTr").mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(GRID.image(label_map), str(raw / "labelsTr" / f"{case}.nii.gz"))
    chosen = Dataset.model_validate(dataset().model_dump() | {"labelled": labelled, "unknown_labels": unknown})
    table = scored(tmp_path, raw / "manifest.json", settings("labelled").model_copy(update={"datasets": (chosen,)}))
    expected = []
    for place, (case, label_map) in enumerate(label_maps.items()):
        for roi, values, open_values in (("liver", (1, 2), (7, 8)), ("liver_tumor", (2,), (7,))):
            pairs = [
                (true in values, predicted >> ROIS.index(roi) & 1 == 1)
                for true, predicted in zip(label_map.flat, some_bits(10 + place).flat, strict=True)
                if true not in open_values
            ]
            if roi in labelled[case] and pairs:
                counts = [sum(truth for truth, _ in pairs), sum(found for _, found in pairs)]
                expected.append((case, roi, *counts, sum(truth and found for truth, found in pairs)))
    assert list(table[["case", "roi", "voxels_truth", "voxels_prediction", "voxels_both"]].itertuples(index=False)) == (
        expected
    )


def test_masks_are_a_truth_too_and_a_missing_one_is_unknown(tmp_path):
    raw = tmp_path / "raw" / "livers"
    layout = {"image": "{case}/ct.nii.gz", "labels": "{case}/{structure}.nii.gz"}
    for place, case in enumerate(TESTED):
        (raw / case).mkdir(parents=True)
        for bit, name in ((0, "Liver"), (1, "liver-tumor")) if place else ((0, "LIVER"),):
            mask = (some_bits(20 + place) >> bit & 1).astype(np.uint8)
            sitk.WriteImage(GRID.image(mask), str(raw / case / f"{name}.nii.gz"))
    source = {"kind": "local", "path": "somewhere"}
    labels = {"liver": (), "liver_tumor": ("tumour",)}
    content = dataset().model_dump() | {"layout": layout, "labels": labels, "labelled": "present", "source": source}
    chosen = Dataset.model_validate(content | {"cases": dataset().all_cases})
    table = scored(tmp_path, raw / "manifest.json", settings("labelled").model_copy(update={"datasets": (chosen,)}))
    rows = [(TESTED[0], "liver"), *((case, roi) for case in TESTED[1:] for roi in ROIS[:2])]
    assert list(table[["case", "roi"]].itertuples(index=False, name=None)) == rows
    last = table.iloc[-1]
    place = len(TESTED) - 1
    assert last["voxels_both"] == ((some_bits(20 + place) >> 1 & 1) & (some_bits(10 + place) >> 1 & 1)).sum()


def test_a_prediction_on_another_grid_is_refused_in_one_line(tmp_path):
    elsewhere = GRID.model_copy(update={"origin_mm": (10.0, -20.0, 35.0)})
    truth = write_cases(tmp_path / "livers", 20, elsewhere)
    with pytest.raises(UserError, match="another grid") as error:
        scored(tmp_path, truth, settings())
    assert "\n" not in str(error.value)
    assert not (tmp_path / "scores.csv").exists()


def test_predictions_of_other_rois_are_refused(tmp_path):
    truth = write_cases(tmp_path / "livers", 20)
    given = settings().model_copy(update={"rois": ("spleen", "liver_tumor", "liver")})
    with pytest.raises(UserError, match="has the ROIs liver, liver_tumor, spleen"):
        scored(tmp_path, truth, given)


def test_the_command_line_writes_the_same_table(tmp_path):
    truth = write_cases(tmp_path / "livers", 20)
    expected = scored(tmp_path, truth, settings())
    (tmp_path / "settings.json").write_text(json.dumps(settings().model_dump(mode="json")))
    command = [sys.executable, "-m", "pipeline_lib.stages.score.run", "--settings", str(tmp_path / "settings.json")]
    predictions = tmp_path / "predictions" / "some-seed3" / "livers"
    command += ["--predictions", str(predictions), "--truth", str(truth), "--scores", str(tmp_path / "again.csv")]
    command += ["--confusion", str(tmp_path / "confusion_again.csv")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "score some-seed3  cases 2/2  100 %" in done.stderr
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "again.csv"), expected)
    assert (tmp_path / "confusion_again.csv").read_text() == (tmp_path / "confusion.csv").read_text()


def test_confusion_counts_the_voxels_of_labelled_rois_that_are_predicted_as_others(tmp_path):
    """Published labels: the spleen, which they do not label, is compared with the liver and its tumour."""
    raw, label_maps = tmp_path / "raw" / "livers", {}
    for place, case in enumerate(TESTED):
        label_maps[case] = np.random.default_rng(place).integers(0, 3, GRID.shape).astype(np.uint8)
        (raw / "labelsTr").mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(GRID.image(label_maps[case]), str(raw / "labelsTr" / f"{case}.nii.gz"))
    given = settings("labelled").model_copy(update={"organs": {"liver_tumor": "liver"}})
    scores = scored(tmp_path, raw / "manifest.json", given)
    table = pd.read_csv(tmp_path / "confusion.csv").set_index(["case", "roi", "true_roi"])
    assert set(table["run"]) == {"some-seed3"}
    for place, case in enumerate(TESTED):
        spleen = some_bits(10 + place) >> 2 & 1 == 1
        for true_roi, values in (("liver", (1, 2)), ("liver_tumor", (2,))):
            truth = np.isin(label_maps[case], values)
            counts = table.loc[(case, "spleen", true_roi), ["voxels_true", "voxels_predicted"]]
            assert list(counts) == [truth.sum(), (truth & spleen).sum()]
        assert (case, "liver", "liver_tumor") not in table.index
        tumour = some_bits(10 + place) >> 1 & 1 == 1
        healthy = label_maps[case] == 1
        counts = table.loc[(case, "liver_tumor", "liver"), ["voxels_true", "voxels_predicted"]]
        assert list(counts) == [healthy.sum(), (healthy & tumour).sum()]
    # The liver's tumour is no other organ, and the spleen is not labelled.
    assert (scores["volume_false_in_other_ml"] == 0).all()
