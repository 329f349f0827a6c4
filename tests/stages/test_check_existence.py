"""Stage check_existence: what it says of decisions, counted again from the tables and volumes that it was given."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline_lib.config.augmentation import WeakView
from pipeline_lib.config.existence import DecisionRule, Existence
from pipeline_lib.data.crops import CropPlan
from pipeline_lib.errors import UserError
from pipeline_lib.label_bits import write_roi_bits
from pipeline_lib.stages.check_existence import run as existence_check
from pipeline_lib.stages.check_existence.settings import Settings as CheckExistenceSettings
from pipeline_lib.volumes.store import open_volume
from tests.support.synthetic import PATCHES, WINDOW
from tests.support.training_world import (
    CASES,
    EXECUTION,
    LABELLED,
    ROI_STRUCTURES,
    ROIS,
    true_masks,
    write_truth,
)

KNOWN = ("livers",)
STILL = WeakView(flip_probability=(0, 0, 0), zoom_probability=0, noise_probability=0)


def check_settings(medians, **changes) -> CheckExistenceSettings:
    """Thresholds that sort the tiny network's scores into all three kinds."""
    rule = DecisionRule(positive_above=medians[1], negative_below=medians[0])
    return CheckExistenceSettings(
        seed=0,
        weak=STILL,
        patches=PATCHES,
        existence=Existence(batch_size=3),
        least_voxels=1,
        rules={"latent_class": rule},
        rois=ROIS,
        organs=(None, "liver", None),
        structures=ROI_STRUCTURES,
        labelled=LABELLED,
        cases=CASES,
        window_hu=WINDOW,
        mirrors={},
    ).model_copy(update=changes)


@pytest.fixture(scope="module")
def checked(world, scored_pools, tmp_path_factory):
    """Runs the check on few crops and reads its two tables."""
    folder = tmp_path_factory.mktemp("check")
    truth = [write_truth(world, dataset, folder / "truth" / dataset) for dataset in KNOWN]
    inputs = existence_check.Inputs(
        tuple(map(world.cases, CASES)),
        tuple(map(world.existence, CASES)),
        world.roi_aware / "model.safetensors",
        tuple(truth),
    )
    pools = pd.concat([pd.read_parquet(path) for path in scored_pools.values()])
    medians = np.quantile(pools[[f"score_{roi}" for roi in ROIS]], (0.4, 0.7)).tolist()

    def run(number, **changes):
        outputs = existence_check.Outputs(folder / f"agreement_{number}.csv", folder / f"decisions_{number}.csv")
        given = {"inputs": inputs} | {name: changes.pop(name) for name in ("inputs",) if name in changes}
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(existence_check, "_CROPS", 20)
            existence_check.run(check_settings(medians, **changes), EXECUTION, given["inputs"], outputs)
        return pd.read_csv(outputs.agreement), pd.read_csv(outputs.decisions)

    run.inputs, run.pools, run.medians = inputs, pools, medians
    return run


@pytest.fixture(scope="module")
def tables(checked):
    return checked("plain")


def truth_of_patch(world, folder, row):
    """bool K: which ROIs lie in a pooled patch, from the file of full truth on the same grid as the volume."""
    masks = true_masks(world, row.dataset, row.case)
    z, y, x = row.z, row.y, row.x
    D, H, W = PATCHES.shape
    # A patch may begin before the volume and end behind it.
    box = (slice(max(z, 0), z + D), slice(max(y, 0), y + H), slice(max(x, 0), x + W))
    return masks[(slice(None), *box)].any((1, 2, 3))


def test_pooled_patches_are_held_against_the_full_truth(world, checked, tables):
    _, decisions = tables
    pool = decisions[decisions["patches_of"] == "pool"]
    patches = checked.pools[checked.pools["dataset"] == "livers"]
    truth = np.stack([truth_of_patch(world, None, row) for row in patches.itertuples()])
    low, high = checked.medians
    row = pool[(pool["roi"] == "spleen") & (pool["role"] == "unlabelled")].iloc[0]
    scores = patches["score_spleen"].to_numpy()
    assert (row["patches"], row["present"]) == (len(patches), truth[:, 2].sum())
    assert (row["positive"], row["positive_correct"]) == ((scores > high).sum(), ((scores > high) & truth[:, 2]).sum())
    assert (row["negative"], row["negative_correct"]) == ((scores < low).sum(), ((scores < low) & ~truth[:, 2]).sum())
    # The liver and its tumour are labelled here: decided as if they were not, and kept apart.
    tumour = pool[pool["roi"] == "liver_tumor"].set_index("role")
    assert tumour.loc["unlabelled", "patches"] == 0
    assert tumour.loc["labelled", "present"] == truth[:, 1].sum()
    scores = patches["score_liver_tumor"].to_numpy()
    for decision, taken, holds in (("positive", scores > high, truth[:, 0]), ("negative", scores < low, ~truth[:, 0])):
        expected = holds[taken].mean() if taken.any() else np.nan
        found = tumour.loc["labelled", f"{decision}_organ_precision"]
        assert found == pytest.approx(expected, abs=1e-5, nan_ok=True)


def test_every_way_to_score_is_there_once(tables):
    _, decisions = tables
    keys = ["patches_of", "scores", "roi", "role"]
    assert not decisions.duplicated(keys).any()
    counts = decisions.groupby(["patches_of", "scores"]).size().to_dict()
    rows = 2 * len(ROIS)
    assert counts == {
        ("pool", "cached"): rows,
        ("training crops", "cached"): rows,
        ("training crops", "online"): rows,
    }


def test_without_augmentation_cached_and_online_decide_alike(tables):
    agreement, _ = tables
    assert list(agreement["roi"]) == list(ROIS)
    assert (agreement["agree"] == 1).all()
    plan = CropPlan(5, PATCHES.pool_size, epochs=1, batch_size=1, seed=0)
    of_livers = sum(plan.crop(sample).case < len(CASES["livers"]) for sample in range(20))
    assert agreement.set_index("roi")["patches"].to_dict() == {
        "liver": 20 - of_livers,
        "liver_tumor": 20 - of_livers,
        "spleen": of_livers,
    }
    mixed = agreement[["positive_positive", "negative_negative", "ambiguous_ambiguous"]].sum()
    assert (mixed > 0).all()


def test_flips_along_x_exchange_what_is_labelled_and_scored(checked, tables):
    """As if liver and spleen were left and right: what is said of livers is said of spleens in mirrored crops."""
    agreement, _ = checked(
        "mirrored",
        weak=STILL.model_copy(update={"flip_probability": (1, 0, 0)}),
        mirrors={"liver": "spleen", "spleen": "liver"},
    )
    counts, plain = (table.set_index("roi")["patches"].to_dict() for table in (agreement, tables[0]))
    assert counts == {"liver": plain["spleen"], "liver_tumor": plain["liver_tumor"], "spleen": plain["liver"]}
    assert plain["spleen"] != plain["liver"]


def test_training_crops_of_unknown_truth_are_judged_by_their_labels_alone(tables):
    _, decisions = tables
    crops = decisions[(decisions["patches_of"] == "training crops") & (decisions["scores"] == "online")]
    of = crops.set_index(["roi", "role"])["patches"]
    # Spleens have no full truth: what they do not label is not judged.
    assert of["liver", "unlabelled"] == 0
    assert of["liver", "labelled"] > 0
    assert of["spleen", "labelled"] > 0
    assert of["spleen", "unlabelled"] > 0


def test_augmentation_changes_the_crop_that_is_scored_online(checked):
    agreement, _ = checked("zoomed", weak=WeakView(zoom_probability=1, zoom_range=(1.6, 2.0), noise_probability=0))
    assert (agreement["agree"] < 1).any()


def test_without_any_full_truth_there_is_no_pool(checked):
    _, decisions = checked("unknown", inputs=replace(checked.inputs, truth=()))
    assert set(decisions["patches_of"]) == {"training crops"}
    assert (decisions[decisions["role"] == "unlabelled"]["patches"] == 0).all()


def test_truth_of_other_rois_is_refused(checked, world, tmp_path):
    record = open_volume(world.cases("livers").parent / "liver_1").record
    for case in CASES["livers"]:
        write_roi_bits(
            tmp_path / "livers" / f"{case}.nii.gz", np.zeros(record.shape, np.uint8), record.original, ROIS[::-1]
        )
    with pytest.raises(
        UserError, match="has the ROIs spleen, liver_tumor, liver; expected: liver, liver_tumor, spleen"
    ):
        checked("other", inputs=replace(checked.inputs, truth=(tmp_path / "livers",)))
