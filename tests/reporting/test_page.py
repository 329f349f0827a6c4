"""What the page says of differences, by the number of trainings and cases behind them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup

from pipeline_lib.reporting.gallery import SCORES, Shown
from pipeline_lib.reporting.page import PageContent, write_page
from pipeline_lib.reporting.results import Results
from pipeline_lib.reporting.statistics import difference_table, summary_table
from pipeline_lib.reporting.tables import dice_table

GAIN = 0.2


def page_of(folder: Path, trainings: int, cases: int = 8) -> str:
    """The page of two methods, of which `b` is better in every case and training."""
    rng = np.random.default_rng(0)
    rows = [
        {"run": f"{method}-seed{seed}", "method": method, "seed": seed, "dataset": "some", "case": str(case)}
        | {"roi": "liver", "dice": 0.4 + GAIN * (method == "b") + rng.normal(0, 0.01), "surface_dice": 0.5}
        | {"hd95_mm": 1.0, "voxels_truth": 9, "voxels_prediction": 9, "volume_truth_ml": 1.0}
        for method in ("a", "b")
        for seed in range(trainings)
        for case in range(cases)
    ]
    results = Results(pd.DataFrame(rows), ("liver",), ("a", "b"))
    figure = folder / SCORES / "dice.png"
    figure.parent.mkdir(parents=True)
    figure.write_bytes(bytes(24))
    content = PageContent(
        results=results,
        convention="nnunet",
        tolerance_mm=1,
        table=dice_table(results, "nnunet", ["some"]),
        summary=summary_table(results),
        differences=difference_table(results, "nnunet"),
        figures=(Shown("dice", SCORES, "Dice", "Dice"),),
        card=pd.DataFrame(),
        odd=pd.DataFrame(),
        viewer=Markup(),
        fingerprint="0",
        versions={},
        trained_on="",
        hardware="",
        costs=pd.DataFrame(),
        check=None,
    )
    write_page(content, folder, folder / "index.html")
    return (folder / "index.html").read_text()


def differences_in(text: str) -> str:
    return re.search(r'<div class="pairs">.*?</table>', text, re.DOTALL).group()


def test_several_trainings_are_tested_and_what_is_beyond_chance_is_bold(tmp_path):
    text = page_of(tmp_path, trainings=3)
    assert "<strong>" in differences_in(text)
    assert "a t test, both over cases and trainings" in differences_in(text)
    assert "better on liver" in text
    assert "in a t test over cases and trainings" in text


def test_single_trainings_are_named_and_nothing_is_bold_or_better(tmp_path):
    text = page_of(tmp_path, trainings=1)
    assert "one training each: differences between trainings are not in this interval" in differences_in(text)
    assert "<strong>" not in differences_in(text)
    assert "better on" not in text
    assert "t test" not in text
    assert "cases alone, since each method has one training" in text


def test_too_few_cases_are_named_in_place_of_an_interval(tmp_path):
    text = page_of(tmp_path, trainings=3, cases=5)
    assert "too few cases</td>" in differences_in(text)
    assert "<strong>" not in differences_in(text)
    assert "better on" not in text
