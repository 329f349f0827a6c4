"""Stage check_pseudo_labels: what it says of a teacher's pseudo labels, counted again a voxel at a time."""

from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline_lib.config.augmentation import WeakView
from pipeline_lib.config.existence import DecisionRule
from pipeline_lib.config.loading import load_config
from pipeline_lib.config.optimisation import Optimisation
from pipeline_lib.errors import UserError
from pipeline_lib.methods.hermes.settings import Hermes
from pipeline_lib.methods.labels_alone.settings import LabelsAlone
from pipeline_lib.methods.lacuna.settings import Lacuna
from pipeline_lib.networks.model_file import load_segmentation_model, save_model
from pipeline_lib.stages.check_pseudo_labels import run as pseudo_labels
from pipeline_lib.stages.check_pseudo_labels.settings import Settings as CheckSettings
from pipeline_lib.stages.check_pseudo_labels.settings import checked_trainings, why_none_is_checked
from pipeline_lib.stages.train import run as training
from pipeline_lib.stages.train.saving import teacher_files
from tests.support.synthetic import PATCHES
from tests.support.training_world import (
    EXECUTION,
    ROIS,
    segmentation_settings,
    true_masks,
    write_truth,
)

BASE = Path(__file__).parents[2]
SNAPSHOTS = (0.3, 1.0)
KEEPING = EXECUTION.model_copy(update={"snapshots": SNAPSHOTS})
COUNTS = ("crops", "crops_with_roi", "voxels_predicted", "voxels_true", "voxels_true_positive", "voxels_in_rivals")


@pytest.fixture(scope="module")
def trained(world, scored_pools, tmp_path_factory):
    """Settings, inputs and outputs of a training of three steps whose teacher was kept twice, and a folder.

    The thresholds sort the tiny network's scores into all three decisions.
    """
    folder = tmp_path_factory.mktemp("pseudo_labels")
    low, high = np.quantile(pd.read_parquet(scored_pools["livers"])["score_spleen"], (0.35, 0.65)).tolist()
    settings = segmentation_settings(
        "lacuna",
        Lacuna(
            kind="lacuna",
            network="swin_unetr",
            encoder="vectors",
            decision=DecisionRule(positive_above=high, negative_below=low),
            warmup_fraction=0.5,
        ),
        optimisation=Optimisation(epochs=1, batch_size=2, learning_rate=1e-3),
    )
    still = WeakView(flip_probability=(0, 0, 0), zoom_probability=0, noise_probability=0)
    settings = settings.model_copy(update={"augmentation": settings.augmentation.model_copy(update={"weak": still})})
    inputs, _ = world.segmentation_paths("lacuna")
    outputs = training.Outputs(folder / "model.safetensors", folder / "history.jsonl")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        training.run(settings, KEEPING, inputs, outputs)
    return settings, inputs, outputs, folder


@pytest.fixture(scope="module")
def checked(world, trained):
    """The table of the check, with the settings and teachers that it was given; of livers alone the truth is known.

    The first teacher's weights are disturbed, so that it sees something; the other one sees nothing yet.
    """
    settings, inputs, outputs, folder = trained
    settings = settings.model_copy(update={"optimisation": settings.optimisation.model_copy(update={"epochs": 2})})
    teachers = {}
    for share in SNAPSHOTS:
        teachers[share], description = load_segmentation_model(outputs.teachers / "1.safetensors", "cpu")
        random = torch.Generator().manual_seed(0)
        for parameter in teachers[share].parameters() if share == SNAPSHOTS[0] else ():
            parameter += 0.1 * torch.randn(parameter.shape, generator=random)
        save_model(folder / "disturbed" / f"{share:g}.safetensors", teachers[share], description)
    truth = write_truth(world, "livers", folder / "truth" / "livers")
    given = pseudo_labels.Inputs(**vars(inputs), teachers=folder / "disturbed", truth=(truth,))
    table = pseudo_labels.Outputs(folder / "lacuna.csv")
    pseudo_labels.run(CheckSettings(training=settings, snapshots=SNAPSHOTS), EXECUTION, given, table)
    return SimpleNamespace(table=pd.read_csv(table.table), settings=settings, teacher=teachers[SNAPSHOTS[0]])


def test_the_teacher_is_kept_as_it_was_and_restored_with_the_model(trained, monkeypatch):
    settings, inputs, outputs, folder = trained
    kept = {path.name: path.read_bytes() for path in outputs.teachers.iterdir()}
    assert set(kept) == {"0.3.safetensors", "1.safetensors"}
    last = load_segmentation_model(outputs.teachers / "1.safetensors", "cpu")[0].state_dict()
    of_model = load_segmentation_model(outputs.model, "cpu", "teacher")[0].state_dict()
    early = load_segmentation_model(outputs.teachers / "0.3.safetensors", "cpu")[0].state_dict()
    assert all(torch.equal(value, of_model[name]) for name, value in last.items())
    assert not all(torch.equal(value, early[name]) for name, value in last.items())
    again = training.Outputs(*(folder / "again" / path.name for path in vars(outputs).values()))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(training, "train", None)
    training.run(settings, KEEPING, inputs, again)
    assert {path.name: path.read_bytes() for path in again.teachers.iterdir()} == kept


def crop_of(mask, start):
    """The patch of `mask` (D H W) that begins at `start`; what lies outside is false."""
    padded = np.pad(mask, [(side, side) for side in PATCHES.shape])
    return padded[
        tuple(slice(first + side, first + 2 * side) for first, side in zip(start, PATCHES.shape, strict=True))
    ]


def naive_sums(world, inputs, settings, scored_pools, teacher):
    """Decision → the sums of its row of the spleen, the only ROI that livers do not label."""
    cases = training.training_cases(settings, inputs)
    with training.init_distributed(EXECUTION) as distributed:
        data = training.training_data(settings, cases, distributed)
    pools = pd.read_parquet(scored_pools["livers"]).set_index(["case", "patch"])
    rule, found = settings.method.decision, {}
    samples = [sample for sample in range(10) if cases[data.plan.crop(sample).case].dataset == "livers"]
    size, seen = settings.optimisation.batch_size, []
    # As the check computes them: in other batches, or with gradients, a logit near 0 can round to its other side.
    with torch.no_grad():
        for first in range(0, len(samples), size):
            regions = [data.reader.read(sample) for sample in samples[first : first + size]]
            seen.extend(teacher(data.view_maker.batch(regions).weak)[:, 2].numpy())
    for sample, logits in zip(samples, seen, strict=True):
        crop = data.plan.crop(sample)
        case = cases[crop.case]
        liver, tumour, spleen = (
            crop_of(mask, case.pool[crop.position]) for mask in true_masks(world, "livers", case.name)
        )
        score = pools.loc[(case.name, crop.position), "score_spleen"]
        decision = (
            "positive" if score > rule.positive_above else "negative" if score < rule.negative_below else "ambiguous"
        )
        # Liver and tumour are labelled and rivals of the spleen.
        taught = (logits >= 0) & ~liver & ~tumour
        wrong = taught & ~spleen
        row = [1, spleen.any(), taught.sum(), spleen.sum(), (taught & spleen).sum(), (wrong & (liver | tumour)).sum()]
        found[decision] = found.get(decision, 0) + np.array(
            [*row, *((wrong & mask).sum() for mask in (liver, tumour, spleen))]
        )
    return found


def rows_of(checked, share):
    table = checked.table
    return table[(table["snapshot"] == share) & (table["roi"] == "spleen")].set_index("decision")


def test_pseudo_labels_are_compared_with_the_full_truth(world, trained, scored_pools, checked):
    expected = naive_sums(world, trained[1], checked.settings, scored_pools, checked.teacher)
    assert set(expected) == {"positive", "negative", "ambiguous"}
    rows = rows_of(checked, 0.3)
    assert set(rows.index) == set(expected)
    for decision, sums in expected.items():
        row = rows.loc[decision]
        assert row[[*COUNTS, *(f"inside_{roi}" for roi in ROIS)]].tolist() == sums.tolist(), decision
        _, _, taught, true, right, in_rivals, *_ = sums
        for name, part, whole in (
            ("precision", right, taught),
            ("recall", right, true),
            ("in_rivals", in_rivals, taught),
        ):
            assert row[name] == pytest.approx(part / whole if whole else np.nan, abs=1e-5, nan_ok=True)
    assert (rows["voxels_predicted"] > 0).all()


def test_every_snapshot_sees_the_same_crops(checked):
    early, late = (rows_of(checked, share) for share in SNAPSHOTS)
    assert late[["crops", "crops_with_roi", "voxels_true"]].equals(early[["crops", "crops_with_roi", "voxels_true"]])
    assert (late["voxels_predicted"] == 0).all()
    assert late["precision"].isna().all()
    assert (set(early["step"]), set(late["step"])) == ({2}, {5})
    assert (set(early["weight"]), set(late["weight"])) == ({0}, {1}), "in the warm-up the teacher teaches nothing"


def test_only_what_labels_leave_open_in_data_sets_of_known_truth_has_a_row(checked):
    assert set(checked.table["dataset"]) == {"livers"}
    assert set(checked.table["roi"]) == {"spleen"}
    assert not checked.table.duplicated(["dataset", "roi", "decision", "snapshot"]).any()


@pytest.mark.parametrize("kind", [LabelsAlone, Hermes])
def test_a_training_in_which_no_teacher_teaches_keeps_none_and_has_no_pseudo_labels(kind, trained, tmp_path):
    settings, inputs, outputs, _ = trained
    (name,) = get_args(kind.model_fields["kind"].annotation)
    method = kind(kind=name, network="swin_unetr", encoder="vectors")
    settings = CheckSettings(training=settings.model_copy(update={"method": method}), snapshots=SNAPSHOTS)
    assert teacher_files(settings.training, KEEPING, outputs) == []
    given = pseudo_labels.Inputs(**vars(inputs), teachers=outputs.teachers, truth=())
    with pytest.raises(UserError, match="lacuna: is a training in which no teacher teaches"):
        pseudo_labels.run(settings, EXECUTION, given, pseudo_labels.Outputs(tmp_path / "nothing.csv"))


def test_the_trainings_of_a_config_with_hermes_are_those_whose_teachers_teach():
    config = load_config(BASE / "config" / "ablation_cpu.yaml", BASE)
    assert checked_trainings(config) == ()
    assert str(why_none_is_checked(config)).startswith("pseudo_labels.snapshots: is empty")
    keeping = config.pseudo_labels.model_copy(update={"snapshots": (1.0,)})
    config = config.model_copy(update={"pseudo_labels": keeping, "compare": ("baseline", "hermes", "latent_class")})
    checked = {config.run(run).method for run in checked_trainings(config)}
    assert checked == {"latent_class"}
    untaught = config.model_copy(update={"compare": ("baseline", "hermes")})
    assert str(why_none_is_checked(untaught)).startswith("compare: names no method in which a teacher teaches")
    real = config.datasets.model_copy(update={"partially_labelled": ()})
    assert "has no phantom" in str(why_none_is_checked(config.model_copy(update={"datasets": real})))


def test_a_share_that_was_added_after_the_training_is_named(trained, tmp_path):
    settings, inputs, outputs, _ = trained
    given = pseudo_labels.Inputs(**vars(inputs), teachers=outputs.teachers, truth=())
    more = CheckSettings(training=settings, snapshots=(0.1, *SNAPSHOTS))
    with pytest.raises(UserError, match=r"snapshots: lacuna has not kept its teacher after 0\.1 .*--forcerun train"):
        pseudo_labels.run(more, EXECUTION, given, pseudo_labels.Outputs(tmp_path / "nothing.csv"))


def test_crops_of_which_no_truth_is_known_end_in_a_line(trained, tmp_path):
    settings, inputs, outputs, _ = trained
    given = pseudo_labels.Inputs(**vars(inputs), teachers=outputs.teachers, truth=())
    with pytest.raises(UserError, match="lacuna: the first 6 crops of the training leave no ROI open"):
        pseudo_labels.run(
            CheckSettings(training=settings, snapshots=SNAPSHOTS),
            EXECUTION,
            given,
            pseudo_labels.Outputs(tmp_path / "nothing.csv"),
        )
    assert not (tmp_path / "nothing.csv").exists()
