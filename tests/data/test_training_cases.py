"""Cases with their pools and scores, and what is wrong with tables that do not fit."""

import numpy as np
import pandas as pd
import pytest

from pipeline_lib.data.pool import pool_positions
from pipeline_lib.data.training_cases import fully_labelled_cases, scored_cases, sign_scores
from pipeline_lib.errors import UserError
from tests.support.synthetic import PATCHES, write_case

ROIS = ("liver", "spleen")


@pytest.fixture
def table(tmp_path):
    """Two cases with two patches each; rows in disorder."""
    rows = pd.DataFrame(
        {
            "dataset": "livers",
            "case": ["b", "a", "a", "b"],
            "patch": [1, 1, 0, 0],
            "z": [10, 11, 12, 13],
            "y": [-2, 0, 1, 2],
            "x": [5, 6, 7, 8],
            "score_spleen": np.array([0.1, 0.2, 0.3, 0.4], np.float32),
            "score_liver": np.array([0.5, 0.6, 0.7, 0.8], np.float32),
        }
    )
    rows.to_parquet(tmp_path / "livers.parquet")
    for case, labelled in (("a", ("liver",)), ("b", ("liver", "spleen"))):
        write_case(tmp_path, "livers", case, ROIS, labelled)
    return tmp_path / "livers.parquet"


def test_patches_are_in_order_and_scores_in_the_order_of_the_rois(table, tmp_path):
    a, b = scored_cases({"livers": ("a", "b")}, {"livers": ROIS}, ROIS, [tmp_path], [table])
    assert (a.name, b.name) == ("a", "b")
    assert a.folder == tmp_path / "a"
    assert a.pool.tolist() == [[12, 1, 7], [11, 0, 6]]
    assert a.scores.tolist() == pytest.approx(np.array([[0.7, 0.3], [0.6, 0.2]]))
    assert b.pool.tolist() == [[13, 2, 8], [10, -2, 5]]


def test_each_case_labels_what_its_volume_says(table, tmp_path):
    a, b, again = scored_cases({"livers": ("a", "b", "a")}, {"livers": ROIS}, ROIS, [tmp_path], [table])
    assert a.labelled.tolist() == again.labelled.tolist() == [True, False]
    assert b.labelled.tolist() == [True, True]


def test_a_volume_that_labels_more_than_its_data_set_is_named(table, tmp_path):
    with pytest.raises(
        UserError, match="b: labels spleen, which the config's data set does not; delete its folder and run `snake"
    ):
        scored_cases({"livers": ("a", "b")}, {"livers": ("liver",)}, ROIS, [tmp_path], [table])


def test_cases_know_what_their_scores_were_computed_from(table, tmp_path):
    arguments = ({"livers": ("a",)}, {"livers": ("liver",)}, ROIS, [tmp_path], [table])
    assert scored_cases(*arguments)[0].scored_by is None
    rows = pd.read_parquet(table)
    sign_scores(rows, ROIS, "a network")
    rows.to_parquet(table)
    assert scored_cases(*arguments)[0].scored_by == "a network"
    edited = pd.read_parquet(table)
    edited.loc[0, "score_liver"] = 0
    edited.to_parquet(table)
    assert scored_cases(*arguments)[0].scored_by is None, "the scores are not those that were computed"


def test_a_missing_case_is_named(table, tmp_path):
    with pytest.raises(UserError, match=r"livers\.parquet: has no patches of case c; run `snakemake existence "):
        scored_cases({"livers": ("a", "c")}, {"livers": ("liver",)}, ROIS, [tmp_path], [table])


def test_a_missing_roi_is_named(table, tmp_path):
    with pytest.raises(UserError, match=r"livers\.parquet: is not a table of existence scores of these ROIs"):
        scored_cases({"livers": ("a",)}, {"livers": ("liver",)}, (*ROIS, "colon"), [tmp_path], [table])


def test_a_file_that_is_no_table_is_named(tmp_path):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match=r"broken\.parquet: is not a table"):
        scored_cases({"livers": ("a",)}, {"livers": ("liver",)}, ROIS, [tmp_path], [tmp_path / "broken.parquet"])


def test_fully_labelled_cases_have_pools_of_their_own(tmp_path):
    structures = ("liver", "stomach")
    records = [write_case(tmp_path, "full", name, structures, structures) for name in ("one", "two")]
    cases = fully_labelled_cases(("one", "two"), tmp_path, structures, PATCHES, seed=3)
    for case, record in zip(cases, records, strict=True):
        assert np.array_equal(case.pool, pool_positions(record, PATCHES, 3))
        assert case.labelled.all()
    with pytest.raises(UserError, match="holds other labels than"):
        fully_labelled_cases(("one",), tmp_path, ("stomach", "liver"), PATCHES, seed=3)
