"""Which number predicts the Dice of a predicted mask? Measured on labelled cases of a finished pipeline folder.

    python benchmarks/confidence.py measure FOLDER -o sums.csv --experiment NAME --runs baseline-seed0 --datasets A B
    python benchmarks/confidence.py agree FOLDER --runs baseline-seed0 --others baseline-seed1
    python benchmarks/confidence.py compare sums.csv --test B --figure docs/pictures/confidence.png

`measure` predicts volumes of FOLDER/results/volumes with FOLDER/results/models/RUN/model.safetensors, and adds to a
table, for each ROI that a case labels, what the candidates are computed from. It resumes: rows that are there stay.

`compare` ranks the masks of the test data sets by each candidate. The area under the ROC curve is the probability that
a mask of the worst tenth (the lowest Dice of a model's masks, of all or of one ROI) is less certain than another mask;
0.5 is chance. Intervals are the 2.5th and 97.5th percentile over resampled patients. Masks of other data sets than the
test's calibrate (pipeline_lib/prediction/calibration.py). `agree` does the same with the Dice between the masks of two
trainings, which the pipeline has predicted and scored.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy import ndimage, stats

from pipeline_lib.config.evaluation import Prediction, PredictionExecution
from pipeline_lib.label_bits import read_roi_bits, roi_mask, roi_names, unpack
from pipeline_lib.networks.model_file import load_segmentation_model
from pipeline_lib.prediction.calibration import Mask, calibration
from pipeline_lib.prediction.confidence import confidence
from pipeline_lib.prediction.windows import compressed_probabilities, sliding_window
from pipeline_lib.progress import Progress
from pipeline_lib.reporting.results import method_label, roi_label
from pipeline_lib.reporting.style import PALETTE, figure_style, roi_colours
from pipeline_lib.scoring.dice import dice, overlap
from pipeline_lib.volumes.resampling import FOREGROUND
from pipeline_lib.volumes.store import Volume, open_volume

KEY = ("experiment", "run", "dataset", "case", "roi")
SHARES = {"above_tenth": 0.1, "above_quarter": 0.25, "above_three_quarters": 0.75, "above_nine_tenths": 0.9}
COUNTS = ("true_positive", "truth", "predicted", *SHARES, "parts", "largest_part", "claimed_by_others")
SUMS = ("mass", "mass_in_mask", "entropy_bits")
_STEPS = np.arange(256) / 255
_RESAMPLED = 300
_WORST = 0.1
CHOSEN = "soft Dice of mask and probabilities"

CANDIDATES: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    CHOSEN: lambda of: 2 * of.mass_in_mask / (of.predicted + of.mass),
    "mean probability in the mask": lambda of: of.mass_in_mask / of.predicted,
    "Dice of the masks at 1/4 and 3/4": lambda of: _dice(of.above_three_quarters, of.above_quarter),
    "Dice of the masks at 1/10 and 9/10": lambda of: _dice(of.above_nine_tenths, of.above_tenth),
    "entropy per voxel of the mask": lambda of: -of.entropy_bits / of.predicted,
    "share of the largest part": lambda of: of.largest_part / of.predicted,
    "share that no other ROI claims": lambda of: 1 - of.claimed_by_others / of.predicted,
    "volume": lambda of: of.predicted,
}
"""Name → candidate of each mask; the higher, the more certain."""


def _dice(inner: pd.Series, outer: pd.Series) -> pd.Series:
    """Dice of two masks of which one lies in the other."""
    return 2 * inner / (inner + outer)


def measure(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    results = options.folder / "results"
    done = set()
    if options.out.exists():
        with options.out.open(newline="") as file:
            done = {tuple(row[name] for name in KEY[:-1]) for row in csv.DictReader(file)}
    else:
        options.out.write_text(",".join((*KEY, *COUNTS, *SUMS)) + "\n")
    for run in options.runs:
        cases = [
            (options.experiment, run, dataset, case)
            for dataset in options.datasets
            for case in cases_of(results / "volumes" / dataset / "cases.csv", options.split)[: options.most]
        ]
        todo = [case for case in cases if case not in done]
        predict = predictor(results / "models" / run / "model.safetensors", options.overlap)
        progress = Progress(run, len(todo), "cases")
        for key in todo:
            volume = open_volume(results / "volumes" / key[2] / key[3])
            rows = sums_of_case(predict(volume), volume)
            with options.out.open("a", newline="") as file:
                csv.writer(file).writerows((*key, *row) for row in rows)
            progress.advance(note=f"{key[2]}/{key[3]}")


def cases_of(path: Path, split: str | None) -> list[str]:
    """The cases of a data set, or those of one part of its split."""
    table = pd.read_csv(path)
    return sorted(table["case"] if split is None else table.loc[table["split"] == split, "case"])


def predictor(path: Path, overlap: float) -> Callable[[Volume], np.ndarray]:
    """What gives the probabilities (uint8 K D H W) of a volume by the model in `path`."""
    cpu = torch.device("cpu")
    network, description = load_segmentation_model(path, cpu)
    window = sliding_window(Prediction(overlap=overlap), PredictionExecution(device="cpu"), description, cpu)
    predicting, count = network.for_prediction(cpu, window.precision), len(description["rois"])
    return lambda volume: compressed_probabilities(predicting, volume.read_image, volume.shape, count, window)[:]


def sums_of_case(found: np.ndarray, volume: Volume) -> list[tuple[str | float, ...]]:
    """ROI, COUNTS and SUMS of each ROI that the case labels. Probabilities: uint8 K D H W."""
    codes = volume.read_codes((0, 0, 0), volume.shape)
    has_roi = unpack(volume.combinations, len(found), axis=1).astype(bool)
    inner = _STEPS[1:-1]
    entropy = -inner * np.log2(inner) - (1 - inner) * np.log2(1 - inner)
    rows: list[tuple[str | float, ...]] = []
    for index, roi in enumerate(volume.record.targets):
        if roi not in volume.record.labelled:
            continue
        mask, truth = found[index] >= FOREGROUND, has_roi[:, index][codes]
        counts = np.bincount(found[index].ravel(), minlength=len(_STEPS))
        parts, number = ndimage.label(mask, np.ones((3, 3, 3)))
        claimed = (np.delete(found, index, axis=0).max(axis=0) >= FOREGROUND) & mask
        counted = (
            *((mask & truth).sum(), truth.sum(), mask.sum()),
            *(counts[share <= _STEPS].sum() for share in SHARES.values()),
            *(number, np.bincount(parts.ravel())[1:].max(initial=0), claimed.sum()),
        )
        summed = counts @ _STEPS, counts[FOREGROUND:] @ _STEPS[FOREGROUND:], counts[1:-1] @ entropy
        rows.append((roi, *map(int, counted), *(round(float(each), 3) for each in summed)))
    return rows


def area(certain: np.ndarray, worst: np.ndarray) -> float:
    """Area under the ROC curve: how probably one of the `worst` (bool) is less certain than one of the others."""
    count = int(worst.sum())
    if count in (0, len(worst)):
        return np.nan
    ranks = stats.rankdata(certain)[worst].sum() - count * (count + 1) / 2
    return float(1 - ranks / (count * (len(worst) - count)))


def worst_tenth(dice: pd.Series) -> pd.Series:
    """The tenth of the masks with the lowest Dice, one at the least."""
    return dice.rank(method="first") <= max(1, round(_WORST * len(dice)))


def areas(masks: pd.DataFrame, name: str) -> tuple[float, float]:
    """Areas of candidate `name` (a column): over all masks, and averaged over the ROIs, each by itself."""
    by_roi = [area(of[name].to_numpy(), of["worst_of_roi"].to_numpy()) for _, of in masks.groupby("roi")]
    return area(masks[name].to_numpy(), masks["worst"].to_numpy()), float(np.nanmean(by_roi))


def spearman(masks: pd.DataFrame, name: str) -> float:
    """Spearman's correlation of a column with Dice, averaged over the ROIs, each by itself."""
    by_roi = [of[name].corr(of["dice"], "spearman") for _, of in masks.groupby("roi") if of[name].nunique() > 1]
    return float(np.mean(by_roi)) if by_roi else np.nan


def interval(masks: pd.DataFrame, found: Callable[[pd.DataFrame], Sequence[float]]) -> np.ndarray:
    """2 × numbers: 2.5th and 97.5th percentile of what is found in resampled patients."""
    random = np.random.default_rng(0)
    cases = [of for _, of in masks.groupby("case")]
    drawn = [
        found(pd.concat([cases[number] for number in random.integers(len(cases), size=len(cases))]))
        for _ in range(_RESAMPLED)
    ]
    return np.nanpercentile(drawn, (2.5, 97.5), axis=0)


def read_masks(path: Path, test: Sequence[str]) -> tuple[pd.DataFrame, int]:
    """Test masks with their Dice, candidates, expected Dice and whether they stand out; the number of empty ones."""
    table = pd.read_csv(path)
    empty = int((table["predicted"] == 0).sum())
    table = table[table["predicted"] > 0].copy()
    table["dice"] = 2 * table["true_positive"] / (table["predicted"] + table["truth"])
    for name, candidate in CANDIDATES.items():
        table[name] = candidate(table)
    parts = []
    for _, run in table.groupby(["experiment", "run"], sort=False):
        is_test = run["dataset"].isin(test)
        learned = [Mask(*row) for row in run[~is_test][["roi", CHOSEN, "dice"]].itertuples(index=False)]
        masks = run[is_test].copy()
        masks["worst"] = worst_tenth(masks["dice"])
        masks["worst_of_roi"] = masks.groupby("roi")["dice"].transform(worst_tenth).astype(bool)
        parts.append(masks)
        if not learned:
            continue
        fitted = calibration(learned, run["roi"].unique(), "held-out")
        said = [confidence(roi, value, fitted) for roi, value in zip(masks["roi"], masks[CHOSEN], strict=True)]
        masks["expected"], masks["look_at"] = [one.expected_dice for one in said], [one.look_at for one in said]
        masks["mean_of_roi"] = masks["roi"].map(run[~is_test].groupby("roi")["dice"].mean())
    return pd.concat(parts), empty


def compare(options: argparse.Namespace) -> None:
    masks, empty = read_masks(options.sums, options.test)
    print(f"{len(masks)} masks of test cases; {empty} masks of all cases are empty and left out\n")
    runs = dict(iter(masks.groupby(["experiment", "run"], sort=False)))
    labels = {key: f"{key[0]}, {method_label(key[1])}" for key in runs}
    rows = []
    for name in (*CANDIDATES, "expected", "mean_of_roi"):
        for key, of in runs.items():
            if of[name].notna().all():
                rows.append((name, labels[key], *areas(of, name), spearman(of, name)))
    table = pd.DataFrame(rows, columns=["candidate", "model", "area: all masks", "area: by ROI", "Spearman by ROI"])
    for column in table.columns[2:]:
        wide = table.pivot_table(index="candidate", columns="model", values=column, sort=False)
        wide["mean"] = wide.mean(axis=1)
        print(f"{column}\n{wide.to_string(float_format='{:.2f}'.format)}\n")
    runs = {key: of for key, of in runs.items() if of["expected"].notna().all()}
    print(
        "Expected Dice: area, all masks [interval]; by ROI [interval]; mean error; that of the ROI's mean Dice; bias;"
    )
    print("masks that stand out; share of the worst tenth among them; mean Dice of those and of the others, points")
    for key, of in runs.items():
        label = labels[key]
        (low, low_of_roi), (high, high_of_roi) = interval(of, lambda drawn: areas(drawn, "expected"))
        pooled, single = areas(of, "expected")
        error = (of["expected"] - of["dice"]).abs().mean(), (of["mean_of_roi"] - of["dice"]).abs().mean()
        looked = of["look_at"].astype(bool)
        dice = 100 * of["dice"]
        print(
            f"{label}: {pooled:.2f} [{low:.2f}, {high:.2f}]; {single:.2f} [{low_of_roi:.2f}, {high_of_roi:.2f}]; "
            f"{100 * error[0]:.1f}; {100 * error[1]:.1f}; {100 * (of['expected'] - of['dice']).mean():+.1f}; "
            f"{looked.mean():.0%}; {looked[of['worst']].mean():.0%}; "
            f"{dice[looked].mean():.0f}, {dice[~looked].mean():.0f}"
        )
    rows = []
    for roi in masks["roi"].unique():
        of_runs = [of[of["roi"] == roi] for of in runs.values()]
        rows.append(
            (
                roi,
                np.mean([area(of["expected"].to_numpy(), of["worst_of_roi"].to_numpy()) for of in of_runs]),
                np.mean([spearman(of, "expected") for of in of_runs]),
                np.mean([100 * (of["expected"] - of["dice"]).abs().mean() for of in of_runs]),
                np.mean([100 * of["dice"].mean() for of in of_runs]),
            )
        )
    print("\nExpected Dice by ROI, mean over the models: area, Spearman, mean error and mean Dice in points")
    print(pd.DataFrame(rows).to_string(index=False, header=False, float_format="{:.2f}".format))
    if options.figure:
        with figure_style():
            drawn(runs, [labels[key] for key in runs]).savefig(options.figure, dpi=160, metadata={"Software": None})


def agree(options: argparse.Namespace) -> None:
    results = options.folder / "results"
    print("Dice with the masks of another training: area, all masks; by ROI; Spearman by ROI")
    for run, other in zip(options.runs, options.others, strict=True):
        scores = pd.read_csv(results / "scores" / f"{run}.csv")
        masks = scores[(scores["voxels_prediction"] > 0) & scores["dice"].notna()].copy()
        folders = [results / "predictions" / each for each in (run, other)]
        masks["agreement"] = [
            value
            for (dataset, case), of in masks.groupby(["dataset", "case"], sort=False)
            for value in agreements(*(folder / dataset / f"{case}.nii.gz" for folder in folders), of["roi"])
        ]
        masks["worst"] = worst_tenth(masks["dice"])
        masks["worst_of_roi"] = masks.groupby("roi")["dice"].transform(worst_tenth).astype(bool)
        pooled, single = areas(masks, "agreement")
        print(f"{run} and {other}: {pooled:.2f}; {single:.2f}; {spearman(masks, 'agreement'):.2f}")


def agreements(path: Path, other: Path, rois: Sequence[str]) -> list[float]:
    """Dice between the masks of two predictions (files of ROI bits), for each of `rois`."""
    names = roi_names(path)
    one, two = (read_roi_bits(each)[0] for each in (path, other))
    return [dice(overlap(roi_mask(one, bit), roi_mask(two, bit)), "nnunet") for bit in map(names.index, rois)]


def drawn(runs: dict[tuple[str, str], pd.DataFrame], labels: Sequence[str]) -> Figure:
    """Expected and true Dice of the first model's masks; what looking at the least certain finds of each model."""
    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    first = next(iter(runs.values()))
    rois = list(first["roi"].unique())
    for roi, colour in zip(rois, roi_colours(rois), strict=True):
        of = first[first["roi"] == roi]
        share = [part / 255 for part in colour]
        left.scatter(100 * of["expected"], 100 * of["dice"], s=16, color=share, label=roi_label(roi), linewidths=0)
    ends = (0, 100)
    left.plot(ends, ends, color="0.6", linewidth=1, zorder=0)
    left.set(xlim=ends, ylim=ends, xlabel="expected Dice (%)", ylabel="Dice (%)", title=labels[0])
    left.legend(fontsize=8, loc="upper left", handletextpad=0.2, borderpad=0.3)
    for label, of, colour in zip(labels, runs.values(), PALETTE, strict=False):
        order = np.argsort(of["expected"].to_numpy(), kind="stable")
        found = np.cumsum(of["worst"].to_numpy()[order]) / of["worst"].sum()
        looked = np.arange(len(of) + 1) / len(of)
        value = areas(of, "expected")[0]
        right.plot(100 * looked, 100 * np.concatenate([[0], found]), label=f"{label}: AUC {value:.2f}", color=colour)
    right.plot(ends, ends, color="0.6", linewidth=1, zorder=0, linestyle="--", label="chance")
    right.set(xlim=ends, ylim=ends, title="The least certain masks first")
    right.set(xlabel="masks looked at (%)", ylabel="worst tenth found (%)")
    right.legend(fontsize=8, loc="lower right")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(required=True)
    step = steps.add_parser("measure", help="predict, and add to a table")
    step.add_argument("folder", type=Path, help="where a pipeline ran")
    step.add_argument("-o", "--out", type=Path, required=True, help="the table, a csv")
    step.add_argument("--experiment", required=True, help="name of the pipeline folder in the table")
    step.add_argument("--runs", nargs="+", required=True)
    step.add_argument("--datasets", nargs="+", required=True)
    step.add_argument("--split", choices=("train", "test"), help="only these cases of each data set")
    step.add_argument("--most", type=int, help="cases of each data set at most")
    step.add_argument("--overlap", type=float, default=0.25, help="overlap of neighbouring windows")
    step.add_argument("--threads", type=int, default=1)
    step.set_defaults(do=measure)
    step = steps.add_parser("compare", help="compare candidates")
    step.add_argument("sums", type=Path, help="a table of `measure`")
    step.add_argument("--test", nargs="+", required=True, help="data sets to compare on; the others calibrate")
    step.add_argument("--figure", type=Path)
    step.set_defaults(do=compare)
    step = steps.add_parser("agree", help="compare the agreement of two trainings, by their predictions and scores")
    step.add_argument("folder", type=Path, help="where a pipeline ran")
    step.add_argument("--runs", nargs="+", required=True)
    step.add_argument("--others", nargs="+", required=True, help="another training for each of the runs")
    step.set_defaults(do=agree)
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    main()
