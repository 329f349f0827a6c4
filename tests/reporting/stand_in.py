"""A small finished pipeline: two data sets of simple torsos, volumes, predictions of two methods and their scores."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from scipy import ndimage

from pipeline_lib.config.datasets import Dataset
from pipeline_lib.config.evaluation import Scores
from pipeline_lib.config.training_setup import TrainingSetup
from pipeline_lib.config.volumes import Volumes
from pipeline_lib.existence.agreement import Decided, Presence, agreement, correctness
from pipeline_lib.geometry import Geometry
from pipeline_lib.label_bits import write_roi_bits
from pipeline_lib.methods.latent_class.settings import LatentClass
from pipeline_lib.stages.list_cases import run as case_list
from pipeline_lib.stages.list_cases.settings import Settings as ListCasesSettings
from pipeline_lib.stages.resample.case import resample_case
from pipeline_lib.stages.resample.settings import CaseSettings
from pipeline_lib.stages.score import run as scores
from pipeline_lib.stages.score.settings import Settings as ScoreSettings
from pipeline_lib.stages.write_report.run import Inputs
from pipeline_lib.stages.write_report.settings import Settings as WriteReportSettings

ROIS = ("liver", "liver_tumor", "kidney", "spleen")
ORGANS = {"liver_tumor": "liver"}
METHODS = ("baseline", "latent_class")
WINDOW_HU = (-325.0, 325.0)
SIZE, SPACING_MM = (56, 48, 30), (7.0, 7.0, 8.0)
DIRECTION = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Workspace:
    """Where the finished pipeline lies and what the report stage gets."""

    folder: Path
    settings: WriteReportSettings
    inputs: Inputs


def make_dataset(name: str, labels: dict[str, tuple[int, ...]], count: int) -> Dataset:
    return Dataset.model_validate(
        {
            "name": name,
            "layout": "msd",
            "source": {"kind": "phantom", "cases": count, "spacing_mm": SPACING_MM},
            "labels": labels,
            "doubted": [{"case": f"{name}_001", "reason": "the spleen's outline is doubted"}],
            "skip": [{"case": f"{name}_002", "reason": "half the file is missing"}],
            "licence": "CC0-1.0",
        }
    )


def torso(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """CT in HU and ROI bits (D H W) of one simple torso, in RAS-like voxel order."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in reversed(SIZE)), indexing="ij")

    def ball(centre, radii):
        centre = np.array(centre) + rng.normal(0, 0.03, 3)
        return sum(((axis - c) / r) ** 2 for axis, c, r in zip((z, y, x), centre, radii, strict=True)) < 1

    image = np.full(z.shape, -1000.0)
    image[(x / 0.85) ** 2 + (y / 0.75) ** 2 < 1] = -80
    image[(x / 0.78) ** 2 + (y / 0.68) ** 2 < 1] = 40
    liver = ball((0.2, 0.1, -0.35), (0.5, 0.4, 0.38))
    tumour = liver & ball((0.2, 0.15, -0.4), (0.2, 0.12, 0.11)) if seed % 3 else np.zeros_like(liver)
    kidney = ball((-0.4, -0.35, -0.4), (0.25, 0.13, 0.12)) | ball((-0.4, -0.35, 0.4), (0.25, 0.13, 0.12))
    spleen = ball((0.2, -0.1, 0.5), (0.3, 0.2, 0.15))
    spine = ball((0, -0.5, 0), (3, 0.12, 0.1))
    for mask, hu in ((liver, 110), (tumour, 60), (kidney, 190), (spleen, 130), (spine, 400)):
        image[mask] = hu
    image = ndimage.gaussian_filter(image, 0.6) + rng.normal(0, 12, image.shape)
    bits = sum(mask.astype(np.uint8) << k for k, mask in enumerate((liver, tumour, kidney, spleen)))
    return image.astype(np.int16), bits


def predicted_bits(bits: np.ndarray, blur: float, seed: int) -> np.ndarray:
    """The truth with a wavering outline: worse for a larger `blur`."""
    rng = np.random.default_rng(seed)
    out = np.zeros_like(bits)
    for roi in range(len(ROIS)):
        mask = (bits >> roi & 1).astype(float)
        wave = ndimage.gaussian_filter(rng.normal(0, 1, bits.shape), 2) * 4 * blur
        out |= ((ndimage.gaussian_filter(mask, 0.5 + blur / 2) + 0.15 * wave) > 0.5).astype(np.uint8) << roi
    return out


def build(folder: Path) -> Workspace:
    """Write the data sets and run the stages that the report follows."""
    datasets = (
        make_dataset("set_liver", {"liver": (1, 2), "liver_tumor": (2,)}, 8),
        make_dataset("set_spleen", {"spleen": (1,)}, 8),
    )
    plain = make_dataset("set_plain", {}, 4).model_copy(update={"split": "all_training"}).without_labels()
    cases, truth, predictions = [_volumes_of(folder, plain, 900)], [], []
    for place, dataset in enumerate(datasets):
        cases.append(_volumes_of(folder, dataset, 100 * place))
        truth.append(folder / "resources/truth" / dataset.name)
    runs = tuple((method, method, 0) for method in METHODS)
    for method in METHODS:
        predictions += [_predict(folder, method, dataset, 100 * place) for place, dataset in enumerate(datasets)]
    score_files = []
    for method in METHODS:
        score_files.append(folder / "results/scores" / f"{method}.csv")
        scores.run(
            ScoreSettings(
                run=method,
                rois=ROIS,
                organs=ORGANS,
                datasets=datasets,
                cases={dataset.name: dataset.split_cases("test") for dataset in datasets},
                scores=Scores(truth="full"),
            ),
            scores.Inputs(tuple(path for path in predictions if path.parent.name == method), tuple(truth)),
            scores.Outputs(score_files[-1], folder / "results/confusion" / f"{method}.csv"),
        )
    return Workspace(
        folder=folder,
        settings=WriteReportSettings(
            rois=ROIS,
            runs=runs,
            methods={
                name: LatentClass(
                    kind="latent_class",
                    network="some",
                    encoder="words",
                    labelled_cases={"set_spleen": 3} if name == METHODS[0] else {},
                )
                for name in METHODS
            },
            datasets=(*datasets, plain),
            scores=Scores(truth="full"),
            structures=(("liver",), ("liver",), ("kidney_right", "kidney_left"), ("spleen",)),
            setup=TrainingSetup(
                batch_size=4,
                patch_voxels=(96, 96, 64),
                spacing_mm=(9, 9, 9),
                networks={"some_network": "width 8"},
                labelled={dataset.name: len(dataset.split_cases("train")) for dataset in datasets},
            ),
            fingerprint="0123456789ab",
        ),
        inputs=Inputs(
            scores=tuple(score_files),
            confusion=tuple(folder / "results/confusion" / f"{method}.csv" for method in METHODS),
            histories=tuple(_history(folder, method) for method in METHODS),
            roi_aware_metrics=None,
            existence=tuple(_existence(folder, dataset) for dataset in (*datasets, plain)),
            existence_check=_existence_check(folder),
            pseudo_labels=(_pseudo_labels(folder),),
            cases=tuple(cases),
            predictions=tuple(predictions),
            truth=tuple(truth),
            benchmarks=_benchmarks(folder),
            config=(Path("some/folder/torsos.yaml"),),
        ),
    )


def _volumes_of(folder: Path, dataset: Dataset, seed: int) -> Path:
    raw = folder / "resources/raw" / dataset.name
    for number, case in enumerate(dataset.all_cases):
        if case not in dataset.used_cases:
            continue
        image, bits = torso(seed + number)
        grid = Geometry(size=SIZE, spacing_mm=SPACING_MM, origin_mm=(150.0, 120.0, -90.0), direction=DIRECTION)
        label_map = np.zeros_like(bits)
        for roi, values in dataset.labels.items():
            label_map[(bits >> ROIS.index(roi) & 1) == 1] = values[-1 if roi == "liver_tumor" else 0]
        for name, array in (("imagesTr", image), ("labelsTr", label_map))[: 1 + bool(dataset.labels)]:
            (raw / name).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(grid.image(array), str(raw / name / f"{case}.nii.gz"))
        write_roi_bits(folder / "resources/truth" / dataset.name / f"{case}.nii.gz", bits, grid, ROIS)
        out = folder / "results/volumes" / dataset.name / case
        resample_case(
            CaseSettings(
                dataset=dataset.name,
                layout="msd",
                root=".",
                labels=dataset.labels,
                ignored_labels=(),
                case=case,
                targets=ROIS,
                volumes=Volumes(spacing_mm=(9.0, 9.0, 9.0)),
                labelled=dataset.labelling(case).labelled,
            ),
            raw,
            out,
        )
    path = folder / "results/volumes" / dataset.name / "cases.csv"
    split = {part: dataset.split_cases(part) for part in ("train", "test")}
    case_list.run(
        ListCasesSettings(**split, targets=ROIS, volumes=Volumes(spacing_mm=(9.0, 9.0, 9.0))),
        case_list.Inputs(path.parent),
        case_list.Outputs(path),
    )
    return path


def _predict(folder: Path, method: str, dataset: Dataset, seed: int) -> Path:
    out = folder / "results/predictions" / method / dataset.name
    grid = Geometry(size=SIZE, spacing_mm=SPACING_MM, origin_mm=(150.0, 120.0, -90.0), direction=DIRECTION)
    for case in dataset.split_cases("test"):
        number = dataset.all_cases.index(case)
        bits = predicted_bits(torso(seed + number)[1], {"baseline": 2.0}.get(method, 1.0), seed + number)
        write_roi_bits(out / f"{case}.nii.gz", bits, grid, ROIS)
    return out


def _history(folder: Path, method: str) -> Path:
    path = folder / "results/models" / method / "history.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    with path.open("w") as file:
        for step in range(1, 201):
            t = step / 200
            terms = {"supervised": 1.2 * np.exp(-3 * t) + 0.2}
            if method != "baseline":
                terms |= {"latent": 0.4 * np.exp(-2 * t), "consistency": 0.02 + 0.02 * t}
            noisy = {name: value + rng.normal(0, 0.02) for name, value in terms.items()}
            row = {"step": step, "epoch": step / 10, "loss": {"total": sum(noisy.values()), **noisy}}
            row["hardware"] = "2 × some GPU"
            row["labelled"] = dict.fromkeys(ROIS, 0.5)
            if method != "baseline":
                row |= {"positive": dict.fromkeys(ROIS, 0.3 * t), "negative": dict.fromkeys(ROIS, 0.1)}
                row["ambiguous"] = dict.fromkeys(ROIS, 0.4 - 0.3 * t)
            if step % 40 == 0:
                row |= {"validation_dice": dict.fromkeys(ROIS, 0.8 * t), "validation_dice_mean": 0.8 * t}
            file.write(json.dumps(row) + "\n")
    return path


def _existence(folder: Path, dataset: Dataset) -> Path:
    path = folder / "results/existence" / f"{dataset.name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(6)
    rows = [
        {"dataset": dataset.name, "case": case, "patch": patch, "z": 0, "y": 0, "x": 0}
        | {f"score_{roi}": np.float32(rng.beta(0.4, 0.4)) for roi in ROIS}
        for case in dataset.split_cases("train")
        for patch in range(8)
    ]
    pd.DataFrame(rows).to_parquet(path)
    return path


def _existence_check(folder: Path) -> tuple[Path, Path]:
    """Both tables as the stage writes them, of random decisions."""
    rng = np.random.default_rng(7)
    decided = [Decided(*(rng.random((2, 200, len(ROIS))) < [[[0.5]], [[0.2]]])) for _ in range(2)]
    decided = [Decided(each.positive, each.negative & ~each.positive) for each in decided]
    truth = Presence(rng.random((200, len(ROIS))) < 0.5, np.ones((200, len(ROIS)), bool))
    everywhere = np.ones(200, bool)
    agreements, decisions = [], []
    for place, roi in enumerate(ROIS):
        agreements.append({"methods": "latent_class", "roi": roi, **agreement(*decided, place, everywhere)})
        for mode, each in zip(("cached", "online"), decided, strict=True):
            way = {"patches_of": "pool", "scores": mode}
            row = correctness(each, truth, place, 0 if roi == "liver_tumor" else None, everywhere)
            decisions.append({"methods": "latent_class", **way, "roi": roi, "role": "unlabelled", **row})
    paths = tuple(folder / "results/existence_check" / f"{name}.csv" for name in ("agreement", "decisions"))
    paths[0].parent.mkdir(parents=True)
    for path, rows in zip(paths, (agreements, decisions), strict=True):
        pd.DataFrame(rows).to_csv(path, index=False)
    return paths


def _pseudo_labels(folder: Path) -> Path:
    """The table as the stage writes it, of a teacher that learns and takes the kidney for the spleen."""
    rng, rows = np.random.default_rng(8), []
    for share in (0.25, 0.5, 1):
        for decision, crops in (("positive", 50), ("negative", 10)):
            for roi in ROIS:
                true = int(rng.integers(900, 1000)) if decision == "positive" else 40
                right = int(share * true * rng.uniform(0.8, 0.9)) if decision == "positive" else 0
                taught = right + int(300 * (1 - share)) if decision == "positive" else 0
                counts = {"crops": crops, "crops_with_roi": crops - 5, "voxels_predicted": taught, "voxels_true": true}
                counts |= {"voxels_true_positive": right, "voxels_in_rivals": (taught - right) // 2}
                inside = {f"inside_{other}": (taught - right) // 4 for other in ROIS}
                who = {"run": "latent_class", "dataset": "set_liver", "roi": roi, "decision": decision}
                rows.append(who | {"snapshot": share, "step": int(200 * share), "weight": 1} | counts | inside)
    path = folder / "results/pseudo_labels/latent_class.csv"
    path.parent.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def _benchmarks(folder: Path) -> Path:
    path = folder / "results/benchmarks"
    for name, seconds, memory in (("train/baseline-seed0", 201.5, 1400.2), ("write_report", 9.1, 300.0)):
        file = path / f"{name}.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        header = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time"
        file.write_text(f"{header}\n{seconds}\t0:03:21\t{memory}\t2000\t1300\t1300\t10\t10\t98.0\t190.0\n")
    return path
