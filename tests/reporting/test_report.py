"""The report of a small finished pipeline: its files, its page in a real browser, and reports where something lacks."""

from __future__ import annotations

import dataclasses
import re
import shutil
from itertools import product
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from pipeline_lib.errors import UserError
from pipeline_lib.geometry import Geometry
from pipeline_lib.label_bits import read_roi_bits
from pipeline_lib.reporting import gallery, viewer
from pipeline_lib.reporting.figure_kind import SCORES
from pipeline_lib.reporting.figures import FIGURES
from pipeline_lib.reporting.overview import busiest_slice
from pipeline_lib.reporting.panels import choose_cases
from pipeline_lib.reporting.results import read_results
from pipeline_lib.reporting.scans import Layer
from pipeline_lib.stages.write_report import run as report
from pipeline_lib.stages.write_report.settings import Settings
from tests.reporting.browser import chromium, page
from tests.reporting.stand_in import METHODS, ROIS

SHARES = (
    *("recall", "positive_precision", "positive_organ_precision"),
    *("specificity", "negative_precision", "negative_organ_precision"),
)


@pytest.fixture(scope="module")
def made(workspace) -> Path:
    folder = workspace.folder / "results/report"
    report.run(workspace.settings, workspace.inputs, report.Outputs(folder))
    return folder


needs_browser = pytest.mark.skipif(chromium() is None, reason="Chromium is not installed")
needs_niivue = pytest.mark.skipif(not viewer.NIIVUE.is_file(), reason=f"NiiVue is not installed ({viewer.INSTALL})")


def test_every_figure_comes_as_png_and_svg_and_is_not_blank(made):
    names = {str(path.relative_to(made / "figures").with_suffix("")) for path in (made / "figures").glob("*/*")}
    assert names == {
        "scores/dice",
        "scores/confusion",
        "scores/false_voxels",
        "scores/labelled_cases_set_spleen",
        "slices/slices",
        "slices/slices_liver",
        "slices/slices_liver_tumor",
        "slices/slices_kidney",
        "slices/slices_spleen",
        "training/losses",
        "training/validation",
        "training/decisions_latent_class",
        "training/pseudo_labels",
        "existence/existence",
        "existence/existence_check",
        "data/labels",
    }
    for name in names:
        pixels = matplotlib.image.imread(made / "figures" / f"{name}.png")
        assert pixels[..., :3].std() > 0.05, name
        assert "<svg" in (made / "figures" / f"{name}.svg").read_text()[:2000]


def test_equal_inputs_give_equal_figures_and_tables(made, workspace, tmp_path):
    report.run(workspace.settings, workspace.inputs, report.Outputs(tmp_path / "again"))
    files = [path.relative_to(made) for path in made.rglob("*.*") if path.suffix in (".png", ".svg", ".csv")]
    assert len(files) > 20
    for file in files:
        assert (made / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file


def test_the_table_holds_the_means_of_the_score_files(made, workspace):
    table = pd.read_csv(made / "table.csv").set_index("method")
    for file in workspace.inputs.scores:
        means = pd.read_csv(file).groupby("roi")["dice"].mean() * 100
        for roi, mean in means.items():
            assert table.loc[file.stem, roi] == pytest.approx(mean, rel=1e-4)
        assert table.loc[file.stem, "average"] == pytest.approx(means.mean(), rel=1e-4)


def dealt_to_folds(workspace, folder: Path) -> tuple[Settings, report.Inputs]:
    """The stand-in's cases as training cases, each of which one of two folds has predicted."""
    made, runs = {"scores": [], "confusion": []}, []
    for method, fold in product(METHODS, range(2)):
        run = f"{method}-seed0-fold{fold}"
        runs.append((run, method, 0))
        for kind, files in made.items():
            rows = pd.read_csv(workspace.folder / "results" / kind / f"{method}.csv")
            files.append(folder / kind / f"{run}.csv")
            files[-1].parent.mkdir(exist_ok=True)
            cases = sorted(rows["case"].unique())[fold::2]
            rows[rows["case"].isin(cases)].assign(run=run).to_csv(files[-1], index=False)
        shutil.copytree(workspace.folder / "results/predictions" / method, folder / "predictions" / run)
    predictions = tuple((folder / "predictions").glob("*/*"))
    files = {"scores": (), "out_of_fold": tuple(made["scores"]), "confusion": tuple(made["confusion"])}
    settings = workspace.settings.model_copy(update={"runs": (), "out_of_fold": tuple(runs)})
    return settings, dataclasses.replace(workspace.inputs, **files, predictions=predictions)


def test_without_test_cases_the_report_shows_what_is_out_of_fold(made, workspace, tmp_path, monkeypatch, capfd):
    settings, inputs = dealt_to_folds(workspace, tmp_path)
    drawn = tuple(kind for kind in FIGURES if kind.section == SCORES)
    monkeypatch.setattr(gallery, "FIGURES", drawn)
    report.run(settings, inputs, report.Outputs(tmp_path / "report"))
    for name in ("table", "summary", "differences", "comparison", "confusion", "false_voxels"):
        # The same cases, whichever fold predicted each.
        paths = (tmp_path / f"report/out_of_fold_{name}.csv", made / f"{name}.csv")
        of_folds, of_tests = (pd.read_csv(path, index_col=[0, 1, 2]).sort_index() for path in paths)
        pd.testing.assert_frame_equal(of_folds, of_tests, rtol=1e-4)
        assert not (tmp_path / f"report/{name}.csv").exists()
    said = "".join(capfd.readouterr())
    assert "Out of fold: training cases, each predicted" in said
    assert "Test cases, " not in said
    text = " ".join(re.sub(r"<[^>]+>", " ", (tmp_path / "report/index.html").read_text()).split())
    assert "4 training cases, each predicted by the networks of its fold" in text
    assert "set_liver (5 training, scored out of fold)" in text
    assert text.count("test case") == text.count("There are no test cases.") == 1


def test_a_case_out_of_fold_is_shown_as_its_own_fold_predicted_it(workspace, tmp_path):
    settings, inputs = dealt_to_folds(workspace, tmp_path)
    slices = report.read_evidence(settings, inputs).slices
    assert slices.runs == {method: f"{method}-seed0" for method in METHODS}
    scores = pd.concat([pd.read_csv(file) for file in inputs.out_of_fold])
    for (dataset, case), rows in scores.groupby(["dataset", "case"]):
        predictions = slices.scans[dataset, case].files.predictions
        assert {path.parts[-3] for path in predictions.values()} == set(rows["run"])
        assert set(predictions) == set(slices.runs.values())
        assert all(path.is_file() for path in predictions.values())


def test_the_summary_states_the_difference_of_the_averages_beside_it(made):
    table = pd.read_csv(made / "table.csv")
    averages = table[table["source"] == table["source"].iloc[0]]["average"].to_list()
    text = (made / "index.html").read_text()
    said = [float(gain) for gain in re.findall(r"([+-][\d.]+) percentage points on average; too few cases", text)]
    assert said == [pytest.approx(average - averages[0], abs=0.051) for average in averages[1:]]


def test_the_dice_beside_a_slice_is_that_of_the_run_shown_and_not_the_mean_over_trainings(workspace, tmp_path):
    """The runs of the stand-in taken for two trainings of one method."""
    runs = tuple((run, "method", seed) for seed, (run, _, _) in enumerate(workspace.settings.runs))
    results = read_results(workspace.inputs.scores, runs, workspace.settings.rois)
    shown = runs[0][0]
    for choice in choose_cases(results, "spleen", {"method": shown}):
        rows = pd.read_csv(workspace.inputs.scores[0])
        row = rows[(rows["case"] == choice.case) & (rows["roi"] == "spleen")].iloc[0]
        assert choice.dice == {"method": pytest.approx(row["dice"])}


def test_chosen_cases_are_the_median_and_the_worst_by_score(workspace):
    results = read_results(workspace.inputs.scores, workspace.settings.runs, workspace.settings.rois)
    scores = pd.concat([pd.read_csv(file) for file in workspace.inputs.scores])
    runs = {method: run for run, method, _ in workspace.settings.runs}
    for roi in workspace.settings.rois:
        rows = scores[(scores["roi"] == roi) & (scores["voxels_truth"] > 0)]
        ordered = rows.groupby(["dataset", "case"])["dice"].mean().sort_values(ascending=False)
        chosen = {choice.rank: (choice.dataset, choice.case) for choice in choose_cases(results, roi, runs)}
        assert chosen.get("worst", chosen["median"]) == ordered.index[-1]
        assert chosen["median"] == ordered.index[len(ordered) // 2]


def test_the_page_names_what_was_left_out_and_what_made_it(made, workspace):
    text = re.sub(r"<[^>]+>", " ", (made / "index.html").read_text())
    assert "half the file is missing" in text
    assert "the spleen's outline is doubted" in text.replace("&#39;", "'")
    assert "201.5" not in text
    assert "torsos.yaml" in text
    assert "20 epochs, 200 steps, batches of 4 patches of 96 × 96 × 64 voxels at 9 × 9 × 9 mm" in text
    assert "some_network: width 8" in text
    assert "set_liver (5 training, 2 test)" in text
    assert "Embedded phantoms, 200 steps: a demonstration, not a result." in text
    assert workspace.settings.fingerprint in text
    assert "2 × some GPU" in text
    assert re.search(r"train\s+1\s+3\.4\s+3\.4\s+1\.37", " ".join(text.split()))


def test_the_page_tells_which_decisions_about_existence_are_right(made, workspace):
    text = " ".join(re.sub(r"<[^>]+>", " ", (made / "index.html").read_text()).split())
    decisions = pd.read_csv(workspace.inputs.existence_check[1])
    for way in ("cached", "online"):
        row = decisions[(decisions["roi"] == "liver_tumor") & (decisions["scores"] == way)].iloc[0]
        cells = " ".join(f"{100 * row[share]:.1f}" for share in SHARES)
        assert f"liver tumor {way} {row['patches']} {row['present']} {cells}" in text
    assert re.search(r"kidney cached \d+ \d+ [\d.]+ [\d.]+ – [\d.]+ [\d.]+ –", text)


def test_a_damaged_history_is_one_line_with_the_file(workspace, tmp_path):
    history = tmp_path / "baseline" / "history.jsonl"
    history.parent.mkdir()
    history.write_bytes(b'{"step": 1}\n' + bytes(40) + b"\n")
    inputs = dataclasses.replace(workspace.inputs, histories=(history,))
    with pytest.raises(UserError, match=r"baseline/history\.jsonl: is damaged in line 2") as error:
        report.read_evidence(workspace.settings, inputs)
    assert "\n" not in str(error.value)
    assert "\0" not in str(error.value)


def test_the_data_card_is_there_as_tables(made, workspace):
    card = pd.read_csv(made / "data_card.csv").set_index("dataset")
    rois = pd.read_csv(made / "data_card_rois.csv").set_index(["dataset", "roi"])
    odd = pd.read_csv(made / "data_card_odd_cases.csv")
    assert {(row.case, row.kept) for row in odd.itertuples()} == {
        (entry.case, kept)
        for dataset in workspace.settings.datasets
        for kept, entries in (("left out", dataset.skip), ("kept, doubted", dataset.doubted))
        for entry in entries
    }
    for file in workspace.inputs.cases:
        cases = pd.read_csv(file)
        name = cases["dataset"][0]
        assert card.loc[name, "training"] + card.loc[name, "test"] == len(cases)
        if name == "set_plain":
            assert card.loc[name, "labels"] == "no labels"
            assert "set_plain (3 cases, no labels)" in (made / "index.html").read_text(encoding="utf-8")
            assert name not in rois.index
            continue
        labelled = set(cases["labelled"][0].split())
        assert set(rois.loc[name].index) == labelled
        for roi in labelled:
            voxels = cases[f"voxels_{roi}"]
            assert rois.loc[(name, roi), "voxels_in_all"] == voxels.sum()
            assert rois.loc[(name, roi), "cases_with_it"] == (voxels > 0).sum()


def test_the_overview_shows_the_middle_where_no_roi_is():
    grid = Geometry(size=(4, 6, 8), spacing_mm=(1, 2, 3), origin_mm=(10, 20, 30))
    bits = np.zeros(grid.shape, np.uint8)
    assert busiest_slice(Layer(bits, grid), [0, 1], "axial") == 30 + 3 * 4
    bits[6, 2, 1] = 2
    assert busiest_slice(Layer(bits, grid), [0, 1], "axial") == 30 + 3 * 6


def test_a_report_of_scores_and_labels_alone_comes_out_and_says_what_lacks(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(viewer, "NIIVUE", tmp_path / "nothing.js")
    labelled = {dataset.name: set(dataset.labels) for dataset in workspace.settings.datasets}
    files = []
    for file in workspace.inputs.scores:
        rows = pd.read_csv(file)
        rows = rows[[row.roi in labelled[row.dataset] for row in rows.itertuples()]]
        files.append(tmp_path / file.name)
        # A tumour of a voxel or two may be lost on the volume's grid: slices must bear that.
        rows.assign(voxels_truth=rows["voxels_truth"].clip(lower=1)).to_csv(files[-1], index=False)
    inputs = dataclasses.replace(
        workspace.inputs,
        scores=tuple(files),
        histories=(),
        existence=(),
        existence_check=(),
        pseudo_labels=(),
        roi_aware_metrics=None,
        benchmarks=None,
    )
    scores = workspace.settings.scores.model_copy(update={"truth": "labelled"})
    settings = workspace.settings.model_copy(update={"scores": scores})
    report.run(settings, inputs, report.Outputs(tmp_path / "report"))
    assert {path.stem for path in (tmp_path / "report/figures").glob("*/*")} >= {"dice", "slices", "labels"}
    text = (tmp_path / "report/index.html").read_text()
    assert "No benchmark files were found" in text
    assert viewer.INSTALL in text
    assert "viewer-canvas" not in text.partition("<body>")[2]
    assert 'id="case-table"' in text


def test_the_viewer_offers_the_windows_that_the_volumes_contain(workspace, tmp_path, monkeypatch):
    (tmp_path / "niivue.js").write_text("")
    monkeypatch.setattr(viewer, "NIIVUE", tmp_path / "niivue.js")
    slices = report.read_evidence(workspace.settings, workspace.inputs).slices
    results = read_results(workspace.inputs.scores, workspace.settings.runs, workspace.settings.rois)
    text = str(viewer.viewer_markup(results, slices.scans, slices.runs))
    assert re.findall(r'<option value="([^"]*)">(soft tissue|liver|lung|whole)<', text) == [
        ("-160,240", "soft tissue"),
        ("0,200", "liver"),
        ("-325,325", "whole"),
    ]
    assert "-325 to 325 HU, so there is no lung window" in " ".join(text.split())


@needs_browser
def test_the_page_opens_from_disk_without_errors_or_requests(made, tmp_path):
    with page() as tab:
        tab.open((made / "index.html").as_uri())
        assert tab.run("[...document.images].length") >= 10
        tab.run("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })")
        tab.wait_for("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
        tab.screenshot(tmp_path / "page.png")
        assert [url for url in tab.requests if not url.startswith(("file:", "data:"))] == []
        assert tab.problems == []
        for width in (1280, 1024, 700):
            tab.resize(width, 900)
            assert tab.run("document.documentElement.scrollWidth") <= width


@needs_browser
def test_tables_sort_both_ways_and_cases_can_be_searched(made):
    with page() as tab:
        tab.open((made / "index.html").as_uri())
        # The average comes first, since the last columns are out of sight on a narrow screen.
        assert tab.run("document.querySelector('#dice-table thead th:nth-child(2)').textContent") == "average"
        column = "[...document.querySelectorAll('#dice-table tbody td:nth-child(2)')].map((cell) => +cell.textContent)"
        button = "document.querySelector('#dice-table thead th:nth-child(2) button')"
        for order in (1, -1):
            tab.run(f"{button}.focus(), {button}.click()")
            values = tab.run(column)
            assert values == sorted(values, reverse=order < 0)
        tab.run(
            "document.getElementById('case-filter').value = 'spleen_000 kidney',"
            "document.getElementById('case-filter').dispatchEvent(new Event('input'))"
        )
        shown = "[...document.querySelectorAll('#case-table tbody tr')].filter((row) => !row.hidden).length"
        assert tab.run(shown) == 1
        assert tab.run("document.getElementById('case-count').textContent") == "1 of 16 rows"


def pixels(path: Path) -> np.ndarray:
    return matplotlib.image.imread(path)[..., :3]


@needs_browser
@needs_niivue
def test_the_viewer_draws_slices_and_switching_a_method_changes_the_overlay(made, tmp_path):
    ready = "document.getElementById('slice-viewer').dataset.ready"
    shown = "document.getElementById('slice-viewer').dataset.predictionVoxels"
    choose = "(({0}) => {{ const box = document.getElementById('viewer-{0}'); box.value = '{1}';"
    choose += " box.dispatchEvent(new Event('change')); }})()"
    with page() as tab:
        tab.open((made / "index.html").as_uri() + "#viewer?roi=0&method=latent_class")
        tab.wait_for(ready)
        tab.screenshot(tmp_path / "first.png", "#viewer-canvas")
        first, voxels = pixels(tmp_path / "first.png"), tab.run(shown)
        assert first.std() > 0.1
        orange = (first[..., 0] > 0.6) & (first[..., 2] < 0.3)
        assert orange.mean() > 0.002, "the outline in the method's colour"
        tab.run(choose.format("method", "baseline"))
        tab.wait_for(f"{shown} !== '{voxels}'")
        tab.screenshot(tmp_path / "second.png", "#viewer-canvas")
        second = pixels(tmp_path / "second.png")
        blue = (second[..., 2] > 0.5) & (second[..., 0] < 0.3)
        assert blue.mean() > 0.002
        assert np.abs(first - second).max() > 0.3
        place = tab.run("document.getElementById('viewer-status').textContent")
        tab.run("document.getElementById('viewer-canvas').focus()")
        tab.press("ArrowUp")
        tab.wait_for(f"document.getElementById('viewer-status').textContent !== {place!r}")
        grey = pixels(tmp_path / "second.png").mean()
        tab.press("w")
        tab.screenshot(tmp_path / "third.png", "#viewer-canvas")
        assert abs(pixels(tmp_path / "third.png").mean() - grey) > 0.01, "another grey window"
        tab.press("t")
        tab.wait_for("document.getElementById('slice-viewer').dataset.truthVoxels === '0'")
        assert tab.problems == []


@needs_browser
@needs_niivue
def test_the_viewer_shows_the_truth_where_it_lies(made, workspace, tmp_path):
    """The crosshair of a chosen ROI is in it, by the orientation that NiiVue reads from the file."""
    prediction = workspace.inputs.truth[0] / "set_liver_000.nii.gz"
    bits, grid = read_roi_bits(prediction)
    _, y, x = np.argwhere(bits >> ROIS.index("spleen") & 1).T
    to_left, to_posterior = (
        grid.origin_mm[axis] + step * grid.spacing_mm[axis] * sign
        for axis, step, sign in ((0, x.mean(), -1), (1, y.mean(), -1))
    )
    with page() as tab:
        tab.open((made / "index.html").as_uri() + "#viewer?case=0&roi=3&method=")
        tab.wait_for("document.getElementById('slice-viewer').dataset.ready")
        text = tab.run("document.getElementById('viewer-status').textContent")
    side, x_mm, depth, y_mm, hu = re.fullmatch(r"(\w) (\d+), (\w) (\d+), \w \d+ mm: (-?\d+) HU", text).groups()
    assert int(x_mm) * (1 if side == "L" else -1) == pytest.approx(to_left, abs=8)
    assert int(y_mm) * (1 if depth == "P" else -1) == pytest.approx(to_posterior, abs=8)
    assert int(hu) == pytest.approx(130, abs=40)
