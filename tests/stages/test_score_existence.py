"""Stage score_existence: the table of pooled patches and their scores."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline_lib.data.pool import pool_positions
from pipeline_lib.data.training_cases import scored_by as read_scored_by
from pipeline_lib.networks.model_file import load_roi_aware_model
from pipeline_lib.stages.score_existence import run as existence
from pipeline_lib.volumes.store import open_volume
from tests.support.training_world import CASES, EXECUTION, ROI_STRUCTURES, ROIS, STRUCTURES, existence_settings


def test_each_case_has_its_whole_pool(world, scored_pools):
    for dataset, path in scored_pools.items():
        table, settings = pd.read_parquet(path), existence_settings(dataset)
        assert list(table.columns) == ["dataset", "case", "patch", "z", "y", "x", *(f"score_{roi}" for roi in ROIS)]
        assert set(table["dataset"]) == {dataset}
        assert list(dict.fromkeys(table["case"])) == list(CASES[dataset])
        assert set(table.dtypes[-len(ROIS) :]) == {np.dtype(np.float32)}
        for case, rows in table.groupby("case"):
            record = open_volume(world.cases(dataset).parent / case).record
            assert rows["patch"].tolist() == list(range(settings.patches.pool_size))
            assert np.array_equal(rows[["z", "y", "x"]], pool_positions(record, settings.patches, settings.seed))


def test_scores_are_the_frozen_networks_on_the_patch_as_it_is(world, scored_pools):
    network, _ = load_roi_aware_model(world.roi_aware / "model.safetensors", "cpu")
    shape = existence_settings("livers").patches.shape
    for row in pd.read_parquet(scored_pools["livers"]).itertuples():
        volume = open_volume(world.cases("livers").parent / row.case)
        image = volume.read_image((row.z, row.y, row.x), shape).astype(np.float32) / 325
        scores = torch.sigmoid(network(torch.from_numpy(image)[None, None]))[0].numpy()
        for roi, structures in zip(ROIS, ROI_STRUCTURES, strict=True):
            expected = max(scores[STRUCTURES.index(name)] for name in structures)
            assert getattr(row, f"score_{roi}") == pytest.approx(expected, abs=1e-5)


def test_again_is_the_same_to_the_byte(world, scored_pools, tmp_path):
    inputs, _ = world.existence_paths("spleens")
    again = existence.Outputs(tmp_path / "again.parquet")
    existence.run(existence_settings("spleens"), EXECUTION, inputs, again)
    assert again.scores.read_bytes() == scored_pools["spleens"].read_bytes()


def test_the_table_says_what_the_scores_were_computed_from(world, scored_pools, tmp_path):
    inputs, _ = world.existence_paths("spleens")
    outputs = existence.Outputs(tmp_path / "other.parquet")

    def scored_by(settings, inputs) -> str:
        existence.run(settings, EXECUTION, inputs, outputs)
        return read_scored_by(pd.read_parquet(outputs.scores), ROIS)

    first = read_scored_by(pd.read_parquet(scored_pools["spleens"]), ROIS)
    settings = existence_settings("spleens")
    assert scored_by(settings.model_copy(update={"cases": settings.cases[:1]}), inputs) == first
    assert scored_by(settings, replace(inputs, model=None)) != first
    others = settings.model_copy(update={"structures": (("spleen",), ("liver",), ("spleen",))})
    assert scored_by(others, inputs) != first


def test_without_a_network_nothing_is_known(world, tmp_path):
    inputs = replace(world.existence_paths("spleens")[0], model=None)
    outputs = existence.Outputs(tmp_path / "unknown.parquet")
    existence.run(existence_settings("spleens"), EXECUTION, inputs, outputs)
    table = pd.read_parquet(outputs.scores)
    assert table[[f"score_{roi}" for roi in ROIS]].isna().all(axis=None)
    assert len(table) == 2 * existence_settings("spleens").patches.pool_size
