"""The Dice table: means in the paper's manner, what is set in bold, and the paper's own numbers."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from pipeline_lib.config.runs import ENSEMBLE_SEED
from pipeline_lib.errors import UserError
from pipeline_lib.reporting.intervals import ONE_ENSEMBLE
from pipeline_lib.reporting.results import Results, read_results
from pipeline_lib.reporting.statistics import comparison_table, difference_table, summary_table
from pipeline_lib.reporting.tables import MOTS, best_cells, dice_table, main, text_table, text_tables

PAPER_ROIS = (
    "liver",
    "liver_tumor",
    "kidney",
    "kidney_tumor",
    "hepatic_vessel",
    "hepatic_vessel_tumor",
    "pancreas",
    "pancreas_tumor",
    "colon_cancer",
    "lung_tumor",
    "spleen",
)


def score_rows(run: str, roi: str, values, dataset="some", **more: object) -> list[dict[str, object]]:
    return [
        {"run": run, "dataset": dataset, "case": f"case_{number}", "roi": roi, "dice": value}
        | {"surface_dice": value, "hd95_mm": 1 / (value + 0.1), "volume_truth_ml": 1.0}
        | {"voxels_truth": 9, "voxels_prediction": 9}
        | {name: each[number] if isinstance(each, list) else each for name, each in more.items()}
        for number, value in enumerate(values)
    ]


def results_of(tmp_path, rows: list[dict[str, object]], runs, rois) -> Results:
    table = pd.DataFrame(rows)
    files = []
    for run, _, _ in runs:
        files.append(tmp_path / f"{run}.csv")
        lesions = ["lesions", "lesions_found", "lesions_predicted", "lesions_false"]
        columns = [*table.columns, *(name for name in lesions if name not in table)]
        table[table["run"] == run].reindex(columns=columns).to_csv(files[-1], index=False)
    return read_results(files, runs, rois)


def test_a_cell_is_the_mean_over_cases_then_seeds_and_the_average_is_that_of_the_rois(tmp_path):
    rows = (
        score_rows("m-seed0", "liver", [0.9, 0.8, 0.7])
        + score_rows("m-seed1", "liver", [0.5, np.nan, np.nan])
        + score_rows("m-seed0", "spleen", [0.2])
        + score_rows("m-seed1", "spleen", [0.4])
    )
    results = results_of(tmp_path, rows, (("m-seed0", "m", 0), ("m-seed1", "m", 1)), ("liver", "spleen"))
    table = dice_table(results, "nnunet", ["some"])
    assert table.to_dict("records") == [
        {
            "source": "measured",
            "method": "m",
            "convention": "nnunet",
            "liver": pytest.approx(100 * (0.8 + 0.5) / 2),
            "spleen": pytest.approx(30.0),
            "average": pytest.approx((65 + 30) / 2),
        }
    ]


def test_a_roi_without_any_score_is_left_out_of_the_average(tmp_path):
    results = results_of(tmp_path, score_rows("m", "liver", [0.5, 0.7]), (("m", "m", 0),), ("liver", "spleen"))
    row = dice_table(results, "nnunet", ["some"]).iloc[0]
    assert np.isnan(row["spleen"])
    assert row["average"] == pytest.approx(60)
    assert "–" in text_table(dice_table(results, "nnunet", ["some"]))


def paper_like(tmp_path, datasets) -> pd.DataFrame:
    rows = [row for roi in PAPER_ROIS for row in score_rows("m", roi, [0.5, 0.6])]
    return dice_table(results_of(tmp_path, rows, (("m", "m", 0),), PAPER_ROIS), "nnunet", datasets)


def test_the_papers_rows_stand_beside_its_own_experiment_and_agree_with_themselves(tmp_path):
    table = paper_like(tmp_path, [*MOTS, "totalsegmentator_v1"])
    paper = table[table["source"] == "paper"]
    assert list(paper["method"]) == ["baseline", "mean_teacher", "without_mse", "dodnet", "latent_class"]
    assert paper[list(PAPER_ROIS)].mean(axis=1).to_numpy() == pytest.approx(paper["average"].to_numpy(), abs=0.006)


def test_the_papers_rows_do_not_stand_beside_another_experiment(tmp_path):
    assert set(paper_like(tmp_path, ["phantom_liver"])["source"]) == {"measured"}
    assert set(paper_like(tmp_path, sorted(MOTS)[:-1])["source"]) == {"measured"}


def test_bold_are_the_best_two_of_the_paper_and_ties_with_them(tmp_path):
    table = paper_like(tmp_path, sorted(MOTS))
    bold = best_cells(table)
    paper = table["source"] == "paper"
    chosen = {column: set(table.loc[paper & bold[column], "method"]) for column in table.columns[3:]}
    assert chosen["liver"] == {"dodnet", "latent_class"}
    assert chosen["hepatic_vessel"] == {"mean_teacher", "latent_class"}
    assert chosen["average"] == {"dodnet", "latent_class"}
    assert not bold.loc[~paper].any(axis=None), "one measured method alone is not the best"


def test_numbers_no_better_than_the_worst_are_not_bold():
    columns = {"source": "measured", "method": list("abcd"), "convention": "nnunet"}
    bold = best_cells(pd.DataFrame({**columns, "zeros": 0.0, "one": [0, 3.0, 0, 0], "tie": [5.0, 5, 5, 1]}))
    assert bold[["zeros", "one", "tie"]].to_numpy().T.tolist() == [
        [False] * 4,
        [False, True, False, False],
        [True] * 3 + [False],
    ]


def test_the_text_has_one_aligned_line_per_method(tmp_path):
    lines = text_table(paper_like(tmp_path, sorted(MOTS))).splitlines()
    ruled = next(number for number, line in enumerate(lines) if set(line) == {"-"})
    body = lines[ruled + 1 : ruled + 7]
    assert len({line.rstrip("* ").rfind(".") for line in body}) == 1
    assert body[-1].split()[:3] == ["latent", "class", "[paper]"]
    assert "convention nnunet" in lines[-1]


def test_the_command_prints_a_reports_table(tmp_path, monkeypatch, capsys):
    table = paper_like(tmp_path, sorted(MOTS))
    table.to_csv(tmp_path / "table.csv", index=False)
    command = [sys.executable, "-m", "pipeline_lib.reporting.tables", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(text_table(pd.read_csv(tmp_path / "table.csv")))
    of_folds = table.assign(average=12.34)
    both = text_tables(table, of_folds)
    assert both.startswith("Out of fold: ")
    assert both.index(text_table(of_folds)) < both.index("Test cases, ") < both.index(text_table(table))
    (tmp_path / "table.csv").rename(tmp_path / "out_of_fold_table.csv")
    monkeypatch.setattr(sys, "argv", command[2:])
    main()
    said = capsys.readouterr().out
    assert said.startswith("Out of fold: ")
    assert "est cases" not in said
    missing = subprocess.run([*command[:-1], str(tmp_path / "none")], capture_output=True, text=True)
    assert missing.returncode != 0
    assert missing.stderr.startswith("error: ")
    assert missing.stderr.count("\n") == 1


def test_scores_of_a_run_that_is_not_compared_are_refused(tmp_path):
    pd.DataFrame(score_rows("stranger", "liver", [0.5])).to_csv(tmp_path / "m.csv", index=False)
    with pytest.raises(UserError, match="'stranger'"):
        read_results([tmp_path / "m.csv"], (("m", "m", 0),), ("liver",))


def test_the_summary_counts_lesions_over_cases_and_means_over_cases_with_a_score(tmp_path):
    rows = score_rows(
        "m",
        "liver_tumor",
        [0.2, np.nan, 0.4, 0.9],
        lesions=[2, 0, 1, 1],
        lesions_found=[1, 0, 1, 1],
        lesions_false=[3, 0, 0, 1],
    )
    row = summary_table(results_of(tmp_path, rows, (("m", "m", 0),), ("liver_tumor",))).iloc[0]
    assert (row["dice_cases"], row["dice_mean"], row["dice_median"]) == (3, pytest.approx(0.5), pytest.approx(0.4))
    assert (row["lesions"], row["lesion_sensitivity"], row["false_per_case"]) == (4, 0.75, 1.0)


def test_the_summary_has_an_interval_from_six_cases_on(tmp_path):
    rows = score_rows("m", "liver", [0.2, 0.3, 0.4, 0.5, 0.6, 0.7]) + score_rows(
        "m", "spleen", [0.2, 0.3, 0.4, 0.5, 0.6]
    )
    table = summary_table(results_of(tmp_path, rows, (("m", "m", 0),), ("liver", "spleen"))).set_index("roi")
    assert table.loc["liver", "dice_low"] < 0.45 < table.loc["liver", "dice_high"]
    assert np.isnan(table.loc["spleen", "dice_low"])
    assert (table["trainings"] == 1).all()


RUNS = tuple((f"{method}-seed{seed}", method, seed) for method in ("a", "b") for seed in range(3))


def test_differences_pair_cases_and_seeds_whatever_their_order_and_correct_over_the_rois(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for roi, gain in (("liver", 0.2), ("spleen", 0.0)):
        for seed in (2, 0, 1):
            values = rng.random(12) * 0.5
            rows += score_rows(f"a-seed{seed}", roi, values)
            rows += score_rows(f"b-seed{seed}", roi, values + gain + rng.normal(0, 0.01, 12))[::-1]
    table = difference_table(results_of(tmp_path, rows, RUNS[::-1], ("liver", "spleen")), "nnunet").set_index("roi")
    assert (table["first"] == "b").all()
    assert table.index[-1] == "average"
    assert table.loc["average", "difference"] == pytest.approx(table["difference"].iloc[:2].mean())
    assert np.isnan(table.loc["average", "p_holm"])
    assert table.loc["liver", "difference"] == pytest.approx(-0.2, abs=0.02)
    assert table.loc["liver", "high"] - table.loc["liver", "low"] < 0.05, "pairs share the case's difficulty"
    assert table.loc["liver", "p_holm"] == pytest.approx(2 * table.loc["liver", "p"])
    assert table.loc["liver", "p_holm"] < 0.01 < table.loc["spleen", "p_holm"]
    assert (table["trainings"] == 3).all()
    assert (table["note"] == "").all()


def test_single_trainings_and_few_cases_have_a_note_in_place_of_a_p(tmp_path):
    rng = np.random.default_rng(1)
    rows = []
    for run, gain in (("a", 0.0), ("b", 0.3)):
        rows += score_rows(run, "liver", gain + rng.random(9) / 10) + score_rows(
            run, "spleen", gain + rng.random(5) / 10
        )
    results = results_of(tmp_path, rows, (("a", "a", 0), ("b", "b", 0)), ("liver", "spleen"))
    differences = difference_table(results, "nnunet")
    assert differences["p"].isna().all()
    assert differences["p_holm"].isna().all()
    said = "one training each: differences between trainings are not in this interval"
    assert list(differences["note"]) == [said, "too few cases", said]
    comparison = comparison_table(dice_table(results, "nnunet", ["some"]), differences, results)
    assert list(comparison.loc[comparison["method"] == "b", "note"]) == [said, "too few cases", said]


def test_an_ensemble_is_compared_with_the_mean_over_seeds_and_never_tested(tmp_path):
    rng = np.random.default_rng(2)
    single, joint = rng.random((3, 8)) / 10, 0.3 + rng.random((2, 8)) / 10
    rows = [row for seed in range(3) for row in score_rows(f"a-seed{seed}", "liver", single[seed])]
    rows += score_rows("a-ensemble", "liver", joint[0]) + score_rows("b-ensemble", "liver", joint[1])
    runs = [*((f"a-seed{seed}", "a", seed) for seed in range(3))]
    runs += [(f"{method}-ensemble", f"{method} ensemble", ENSEMBLE_SEED) for method in ("a", "b")]
    results = results_of(tmp_path, rows, runs, ("liver",))
    assert (results.trainings, results.ensembles) == (3, {"a ensemble", "b ensemble"})
    differences = difference_table(results, "nnunet").set_index(["first", "second", "roi"])
    assert differences["p"].isna().all()
    assert set(differences["note"]) == {ONE_ENSEMBLE}
    assert differences.loc[("a", "a ensemble", "liver"), "difference"] == pytest.approx(joint[0].mean() - single.mean())
    between = differences.loc[("a ensemble", "b ensemble", "liver")]
    assert between["difference"] == pytest.approx(joint[1].mean() - joint[0].mean())
    assert between["low"] < between["difference"] < between["high"]


def test_the_folds_of_a_seed_are_one_training(tmp_path):
    """Two seeds of two folds each: what stands in the table is each seed's mean over all cases."""
    dice = {(seed, fold): [0.1 * (1 + seed + fold)] * (2 + fold) for seed in range(2) for fold in range(2)}
    rows = [
        {**row, "case": f"{fold}_{row['case']}"}
        for (seed, fold), values in dice.items()
        for row in score_rows(f"m-seed{seed}-fold{fold}", "liver", values)
    ]
    runs = [(f"m-seed{seed}-fold{fold}", "m", seed) for seed, fold in dice]
    results = results_of(tmp_path, rows, runs, ("liver",))
    of_seeds = [np.mean([*dice[seed, 0], *dice[seed, 1]]) for seed in range(2)]
    assert dice_table(results, "nnunet", ["some"])["liver"].item() == pytest.approx(100 * np.mean(of_seeds))
    assert (results.trainings, len(results.matrix("m", "liver"))) == (2, 5)


@pytest.mark.parametrize(
    ("convention", "cases", "difference"),
    [("nnunet", 6, (0.6 + 3.6 / 7) / 2 - 0.5), ("uniseg", 8, (6 * 0.1 - 0.5) / 8)],
)
def test_false_alarms_lower_the_difference_and_are_counted(tmp_path, convention, cases, difference):
    """Two of eight cases lack the tumour; b raises a false alarm in one of them in one of its two trainings."""
    absent = {"nnunet": np.nan, "uniseg": 1.0}[convention]
    truth = [9] * 6 + [0] * 2
    rows = []
    for seed in range(2):
        rows += score_rows(
            f"a-seed{seed}", "tumor", [0.5] * 6 + [absent] * 2, voxels_truth=truth, voxels_prediction=[9] * 6 + [0] * 2
        )
        alarm = seed == 1
        rows += score_rows(
            f"b-seed{seed}",
            "tumor",
            [0.6] * 6 + [0.0 if alarm else absent, absent],
            voxels_truth=truth,
            voxels_prediction=[9] * 6 + [4 * alarm, 0],
        )
    runs = tuple((f"{method}-seed{seed}", method, seed) for method in ("a", "b") for seed in range(2))
    results = results_of(tmp_path, rows, runs, ("tumor",))
    row = difference_table(results, convention).iloc[0]
    assert row["cases"] == cases
    assert row["difference"] == pytest.approx(difference)
    assert (row["cases_without"], row["false_alarms_first"], row["false_alarms_second"]) == (2, 0, 0.5)
    summary = summary_table(results).set_index("method")
    assert list(summary["false_alarms"]) == [0, 0.5]
    comparison = comparison_table(
        dice_table(results, convention, ["some"]), difference_table(results, convention), results
    )
    assert list(comparison["false_alarms"].dropna()) == [0, 0.5]


def test_a_comparison_has_every_roi_their_average_and_the_differences_to_the_first_method(tmp_path):
    rows = []
    for roi, gain in (("liver", 0.2), ("spleen", 0.1)):
        for seed in range(3):
            values = np.linspace(0.1, 0.3, 6)
            rows += score_rows(f"a-seed{seed}", roi, values) + score_rows(f"b-seed{seed}", roi, values + gain)
    results = results_of(tmp_path, rows, RUNS, ("liver", "spleen"))
    table = comparison_table(dice_table(results, "nnunet", ["some"]), difference_table(results, "nnunet"), results)
    found = table.set_index(["roi", "method"])
    assert list(found.index) == [(roi, method) for roi in ("liver", "spleen", "average") for method in ("a", "b")]
    assert found.loc[("average", "b"), "dice"] == pytest.approx(35)
    assert found.loc[("liver", "b"), "difference_to_a"] == pytest.approx(20)
    for bound in ("difference_to_a", "low_to_a", "high_to_a"):
        assert found.loc[("average", "b"), bound] == pytest.approx(15)
    assert np.isnan(found.loc[("liver", "a"), "difference_to_a"])


@pytest.mark.parametrize("seed", range(4))
def test_where_cases_label_different_rois_each_roi_has_its_own_cases(tmp_path, seed):
    random = np.random.default_rng(seed)
    rois, runs = ("liver", "spleen", "larynx"), tuple((f"{m}-seed{s}", m, s) for m in "ab" for s in (0, 1))
    labels = random.random((12, 3)) < 0.6
    labels[:7, :2] = True
    labels[:, 2] &= seed > 0
    dice = random.random((len(runs), 12, 3))
    rows = [
        row
        for place, (run, _, _) in enumerate(runs)
        for k, roi in enumerate(rois)
        for row, is_labelled in zip(score_rows(run, roi, dice[place, :, k].tolist()), labels[:, k], strict=True)
        if is_labelled
    ]
    results = results_of(tmp_path, rows, runs, rois)
    summary, differences = summary_table(results), difference_table(results, "dodnet")
    means = []
    for k, roi in enumerate(rois):
        cases = [case for case in range(12) if labels[case, k]]
        row = differences[differences["roi"] == roi].iloc[0]
        assert row["cases"] == len(cases)
        if cases:
            means.append([np.mean([dice[place, case, k] for case in cases]) for place in range(4)])
            a, b = np.mean(means[-1][:2]), np.mean(means[-1][2:])
            assert row["difference"] == pytest.approx(b - a)
            own = summary[summary["roi"] == roi].set_index("method")
            assert own["dice_mean"].to_dict() == pytest.approx({"a": a, "b": b})
            assert set(own["cases_known"]) == {len(cases)}
    average = differences[differences["roi"] == "average"].iloc[0]
    assert average["difference"] == pytest.approx(np.mean([np.mean(m[2:]) - np.mean(m[:2]) for m in means]))
