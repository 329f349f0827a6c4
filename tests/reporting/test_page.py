"""What the page says of scores and differences, by the cases and trainings behind them."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup

from pipeline_lib.config.evaluation import Scores
from pipeline_lib.reporting.evidence import Data, Evaluation, Evidence, Existence, Mistakes, Slices, Trainings
from pipeline_lib.reporting.figure_kind import SCORES
from pipeline_lib.reporting.gallery import Shown
from pipeline_lib.reporting.page import write_page
from pipeline_lib.reporting.provenance import Origin
from pipeline_lib.reporting.results import Results
from pipeline_lib.reporting.statistics import summary_table
from pipeline_lib.scoring.scores import SCORES as SCORE_TABLE
from pipeline_lib.scoring.scores import Score

GAIN = 0.2


def score_rows(trainings: int, cases: int) -> list[dict[str, object]]:
    """Scores of two methods, of which `b` is better in every case and training."""
    rng = np.random.default_rng(0)
    return [
        {"run": f"{method}-seed{seed}", "method": method, "seed": seed, "dataset": "some", "case": str(case)}
        | {"roi": "liver", "dice": 0.4 + GAIN * (method == "b") + rng.normal(0, 0.01), "surface_dice": 0.5}
        | {"hd95_mm": 1.0, "voxels_truth": 9, "voxels_prediction": 9}
        | {"volume_truth_ml": 1.0, "volume_prediction_ml": 2.0 + seed}
        for method in ("a", "b")
        for seed in range(trainings)
        for case in range(cases)
    ]


def page_of(
    folder: Path,
    rows: list[dict[str, object]],
    convention: str = "nnunet",
    out_of_fold: list[dict[str, object]] | None = None,
) -> str:
    def evaluated(rows: list[dict[str, object]], of_folds: bool = False) -> Evaluation:
        results = Results(pd.DataFrame(rows), ("liver",), ("a", "b"), of_folds)
        return Evaluation.from_results(results, Scores(convention=convention), ())

    figure = folder / SCORES / "dice.png"
    figure.parent.mkdir(parents=True)
    figure.write_bytes(bytes(24))
    evidence = Evidence(
        evaluation=evaluated(rows),
        out_of_fold=None if out_of_fold is None else evaluated(out_of_fold, of_folds=True),
        mistakes=Mistakes(pd.DataFrame(), pd.DataFrame()),
        slices=Slices({}, {}),
        trainings=Trainings({}, {}, {}),
        existence=Existence(scores=None, check=None, metrics=None, structures=()),
        data=Data((), {}),
    )
    origin = Origin(
        facts=[("config", "some.yaml")],
        notice="",
        fingerprint="0",
        versions={},
        trained_on="",
        hardware="",
        costs=pd.DataFrame(),
    )
    write_page(evidence, origin, [Shown("dice", SCORES, "Dice", "Dice")], Markup(), folder, folder / "index.html")
    return (folder / "index.html").read_text()


def words_of(text: str) -> str:
    """The page's text without tags, its white space folded."""
    return " ".join(re.sub(r"<[^>]+>", " ", text.partition("<main>")[2]).split())


def differences_in(text: str) -> str:
    return re.search(r'<div class="pairs">.*?</table>', text, re.DOTALL).group()


def test_several_trainings_are_tested_and_what_is_beyond_chance_is_bold(tmp_path):
    text = page_of(tmp_path, score_rows(trainings=3, cases=8))
    assert "<strong>" in differences_in(text)
    assert "a t test, both over cases and trainings" in differences_in(text)
    assert "better on liver" in text
    assert "in a t test over cases and trainings" in text


def test_single_trainings_are_named_and_nothing_is_bold_or_better(tmp_path):
    text = page_of(tmp_path, score_rows(trainings=1, cases=8))
    assert "one training each: differences between trainings are not in this interval" in differences_in(text)
    assert "<strong>" not in differences_in(text)
    assert "better on" not in text
    assert "t test" not in text
    assert "cases alone, since each method has one training" in text


def test_scores_out_of_fold_stand_in_a_section_of_their_own(tmp_path):
    of_tests, of_folds = score_rows(trainings=3, cases=7), score_rows(trainings=3, cases=9)
    for row in of_folds:
        row["dice"] -= 0.3
    text = page_of(tmp_path / "both", of_tests, out_of_fold=of_folds)
    summary, section = (
        re.search(f'<section id="{name}">.*?</section>', text, re.DOTALL) for name in ("summary", "out-of-fold")
    )
    assert "9 training cases, each predicted by the networks of its fold" in words_of(f"<main>{section.group()}")
    means = [np.mean([row["dice"] for row in rows if row["method"] == "b"]) for rows in (of_tests, of_folds)]
    for part, mean in zip((summary, section), means, strict=True):
        assert f"b has the highest average Dice: {100 * mean:.1f} %" in part.group()
        assert f"{100 * mean:.2f}" in part.group()
    alone = page_of(tmp_path / "alone", of_tests)
    assert "out-of-fold" not in alone


def test_too_few_cases_are_named_in_place_of_an_interval(tmp_path):
    text = page_of(tmp_path, score_rows(trainings=3, cases=5))
    assert "too few cases</td>" in differences_in(text)
    assert "<strong>" not in differences_in(text)
    assert "better on" not in text


def test_the_table_says_how_many_cases_contain_a_roi_and_the_mean_where_it_is_present(tmp_path):
    """Two of eight cases contain the ROI; in the others both methods predict it, which counts 0."""
    rows = score_rows(trainings=1, cases=8)
    for row in rows:
        present = row["case"] in ("0", "1")
        row |= {"dice": 0.8 if present else 0.0, "voxels_truth": 9 if present else 0}
    text = page_of(tmp_path, rows)
    assert "liver 2 of 8 cases" in words_of(text)
    assert "20.00 (80.00)" in words_of(text)
    assert "the mean over the cases that contain the ROI, where others count too" in words_of(text)


def test_where_every_case_contains_the_roi_there_is_one_mean(tmp_path):
    text = words_of(page_of(tmp_path, score_rows(trainings=1, cases=8)))
    assert "liver 8 of 8 cases" in text
    assert "where others count too" not in text


def test_every_case_has_its_true_volume_and_the_mean_predicted_one(tmp_path):
    text = page_of(tmp_path, score_rows(trainings=3, cases=2))
    first = re.search(r'id="case-table">.*?<tbody>\s*<tr>(.*?)</tr>', text, re.DOTALL).group(1)
    _, _, _, truth, _, of_a, _, of_b = re.findall(r"<td[^>]*>([^<]*)</td>", first)
    assert (truth, of_a, of_b) == ("1.0", "3.0", "3.0")


def test_a_new_row_of_the_table_of_scores_is_in_summary_and_page(tmp_path, monkeypatch):
    """Average surface distance, as an example: the score file has it, and nothing but the table knows of it."""
    distance = Score(
        name="asd_mm",
        title="ASD",
        unit="mm",
        digits=2,
        better="lower",
        largest=math.inf,
        meaning="average distance between the surfaces",
        function=lambda compared: math.nan,
    )
    monkeypatch.setitem(SCORE_TABLE, distance.name, distance)
    rows = [row | {"asd_mm": 1.25 if row["method"] == "a" else 3.5} for row in score_rows(trainings=1, cases=8)]
    summary = summary_table(Results(pd.DataFrame(rows), ("liver",), ("a", "b")))
    assert list(summary["asd_mm_mean"]) == [1.25, 3.5]
    text = words_of(page_of(tmp_path, rows))
    assert "ASD: average distance between the surfaces; lower is better." in text
    assert "HD95 (mm) ASD (mm)" in text
    assert re.search(r"liver 8 of 8 cases a [^ab]* 1\.25 ", text)


def test_a_roi_that_no_case_contains_has_a_mean_but_none_where_it_is_present():
    rows = [row | {"voxels_truth": 0} for row in score_rows(trainings=1, cases=8)]
    summary = summary_table(Results(pd.DataFrame(rows), ("liver", "spleen"), ("a", "b"))).set_index(["method", "roi"])
    assert tuple(summary.loc[("a", "liver"), ["cases_with", "cases_known"]]) == (0, 8)
    assert summary.loc[("a", "liver"), "dice_mean"] > 0
    assert math.isnan(summary.loc[("a", "liver"), "dice_mean_present"])
    assert tuple(summary.loc[("a", "spleen"), ["cases_with", "cases_known"]]) == (0, 0)
