"""Intervals and tests against textbook formulas, sums worked by hand, and simulated trainings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline_lib.reporting.intervals import compare, compare_average, holm, summarise, summarise_average

NAN = math.nan


def against_nothing(differences: np.ndarray):
    """The comparison whose paired differences are given, cases × trainings or ROIs × cases × trainings."""
    return (compare if differences.ndim == 2 else compare_average)(np.zeros_like(differences), differences)


def naive_interval(table: list[list[float]], cases_t: float, trainings_t: float) -> tuple[float, float]:
    """The formula in plain loops, with quantiles from a printed table of Student's t."""
    of_cases = [sum(row) / len(row) for row in table]
    of_trainings = [sum(column) / len(column) for column in zip(*table, strict=True)]
    mean = sum(of_cases) / len(of_cases)
    square = 0.0
    for means, quantile in ((of_cases, cases_t), (of_trainings, trainings_t)):
        spread = sum((each - mean) ** 2 for each in means) / (len(means) - 1)
        square += quantile**2 * spread / len(means)
    return mean - math.sqrt(square), mean + math.sqrt(square)


def test_the_interval_of_a_table_worked_by_hand():
    """Case means 1, 2, 3, 4, 5, 6 (variance 3.5) and training means 3, 4 (variance 0.5) around 3.5."""
    table = np.arange(1.0, 7)[:, None] + [-0.5, 0.5]
    found = summarise(table)
    half = math.sqrt(2.5706**2 * 3.5 / 6 + 12.7062**2 * 0.5 / 2)
    assert (found.cases, found.trainings, found.mean, found.median) == (6, 2, pytest.approx(3.5), pytest.approx(3.5))
    assert (found.low, found.high) == (0, pytest.approx(3.5 + half, rel=1e-4))
    assert against_nothing(table).low == pytest.approx(3.5 - half, rel=1e-4)


def test_the_interval_equals_plain_loops():
    table = np.random.default_rng(1).normal(0.1, 0.2, (8, 3))
    found = against_nothing(table)
    assert (found.low, found.high) == pytest.approx(naive_interval(table.tolist(), 2.36462, 4.30265), rel=1e-4)


def test_with_equal_trainings_it_is_the_t_test_over_cases():
    gains = np.random.default_rng(2).normal(0.1, 0.2, 12)
    found = against_nothing(np.repeat(gains[:, None], 3, axis=1))
    expected = stats.ttest_1samp(gains, 0)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_with_equal_cases_it_is_the_t_test_over_trainings():
    gains = np.random.default_rng(3).normal(0.1, 0.2, 4)
    found = against_nothing(np.repeat(gains[None], 9, axis=0))
    expected = stats.ttest_1samp(gains, 0)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_one_training_has_the_interval_over_cases_and_no_p():
    gains = np.random.default_rng(4).normal(0.1, 0.05, (12, 1))
    found = against_nothing(gains)
    expected = stats.ttest_1samp(gains[:, 0], 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert found.low > 0
    assert math.isnan(found.p)
    assert "one training each" in found.note


@given(st.integers(0, 10**6), st.integers(6, 15), st.integers(2, 6), st.floats(-0.3, 0.3))
def test_p_is_below_five_per_cent_exactly_where_the_interval_leaves_out_zero(seed, cases, trainings, gain):
    rng = np.random.default_rng(seed)
    table = (
        gain
        + rng.normal(0, 0.1, (cases, 1))
        + rng.normal(0, 0.1, (1, trainings))
        + rng.normal(0, 0.1, (cases, trainings))
    )
    found = against_nothing(table)
    assert (found.p < 0.05) == (found.low > 0 or found.high < 0)
    assert 0 < found.p <= 1


def test_chance_between_trainings_is_found_beyond_chance_no_more_often_than_the_level_says():
    """Two equal methods whose trainings differ by 8 points, and single cases by 8 more, as in verified trainings."""
    rng = np.random.default_rng(0)
    repetitions, cases, trainings = 600, 13, 3
    tables = rng.normal(0, 0.08, (repetitions, 1, trainings)) + rng.normal(0, 0.08, (repetitions, cases, trainings))
    found = [against_nothing(table) for table in tables]
    taken_as_given = stats.wilcoxon(tables.mean(axis=2), axis=1).pvalue
    assert np.mean([each.p < 0.05 for each in found]) < 0.08
    assert np.mean([each.low <= 0 <= each.high for each in found]) > 0.93
    assert np.mean(taken_as_given < 0.05) > 0.2, "the test over cases alone"


def test_a_difference_that_all_trainings_show_is_found():
    rng = np.random.default_rng(5)
    table = 0.1 + rng.normal(0, 0.02, (1, 3)) + rng.normal(0, 0.05, (13, 3))
    assert against_nothing(table).p < 0.05


def test_cases_without_a_score_are_left_out_of_a_summary():
    found = summarise(np.array([[0.2], [NAN], [0.6]]))
    assert (found.cases, found.mean, found.median) == (2, pytest.approx(0.4), pytest.approx(0.4))
    assert math.isnan(summarise(np.full((3, 1), NAN)).mean)


def test_a_mean_is_that_of_the_trainings_means_whatever_cases_each_has_a_score_for():
    """A false alarm of one training gives a case a score of 0 that the other training does not have."""
    table = np.array([[0.9, 0.7]] * 4 + [[0.5, 0.3]] * 4 + [[0.0, NAN]] * 2)
    found = summarise(table, largest=1.0)
    assert (found.cases, found.mean) == (10, pytest.approx((0.56 + 0.5) / 2))
    assert 0 <= found.low < found.mean < found.high <= 1


def test_fewer_than_six_cases_have_a_mean_but_no_interval_and_no_test():
    table = np.random.default_rng(6).random((5, 3))
    assert summarise(table).mean == pytest.approx(table.mean())
    assert math.isnan(summarise(table).low)
    found = against_nothing(table)
    assert found.mean == pytest.approx(table.mean())
    assert math.isnan(found.low)
    assert math.isnan(found.p)
    assert found.note == "too few cases"


def test_pairing_takes_out_what_cases_and_seeds_do_to_both_methods():
    rng = np.random.default_rng(7)
    first = 0.5 + rng.normal(0, 0.2, (40, 1)) + rng.normal(0, 0.2, (1, 3))
    second = first + rng.normal(0.02, 0.01, first.shape)
    found = compare(first, second)
    assert 0 < found.low < found.mean < found.high < 0.04


def test_equal_methods_do_not_differ():
    scores = np.random.default_rng(8).random((8, 2))
    found = compare(scores, scores)
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_a_false_alarm_counts_in_the_difference_as_it_does_in_the_means():
    """The first method rightly predicts nothing in the last two cases, the second has a false alarm in one of them."""
    first = np.array([[0.5, 0.7]] * 3 + [[0.7, 0.7]] * 3 + [[NAN, NAN]] * 2)
    second = np.array([[0.6, 0.8]] * 6 + [[0.0, NAN], [NAN, NAN]])
    found = compare(first, second)
    assert found.mean == pytest.approx(summarise(second).mean - summarise(first).mean)
    assert found.mean == pytest.approx((6 * 0.6 / 7 + 0.8) / 2 - 0.65)
    assert (found.cases, found.trainings) == (6, 2)


def test_a_difference_of_means_over_other_cases_has_the_error_of_two_samples():
    """Methods that no case has both scores of: the squared errors of their means add up."""
    rng = np.random.default_rng(13)
    scores = rng.random((12, 1))
    first, second = scores.copy(), scores.copy()
    first[:6], second[6:] = NAN, NAN
    found = compare(first, second, present=np.ones(12, bool))
    error = math.sqrt(scores[:6].var(ddof=1) / 6 + scores[6:].var(ddof=1) / 6)
    assert found.high - found.mean == pytest.approx(stats.t.isf(0.025, 11) * error)


def test_cases_without_the_roi_are_no_cases_for_a_test():
    first, second = np.random.default_rng(14).random((2, 9, 3))
    found = compare(first, second, present=np.arange(9) < 5)
    assert (found.cases, found.note) == (5, "too few cases")
    assert compare(first, second, present=np.arange(9) < 6).p > compare(first, second).p
    first[5:] = second[5:] = NAN
    assert compare(first, second, present=np.ones(9, bool)).cases == 5, "a case without any score is none"


def test_the_average_is_that_of_roi_means():
    first = np.array([[0.1, 0.3, NAN], [0.5, NAN, 0.9]])[:, :, None]
    second = np.array([[0.2, NAN, NAN], [0.5, 0.7, 1.0]])[:, :, None]
    found = compare_average(first, second)
    assert found.mean == pytest.approx(((0.2 - 0.2) + (2.2 / 3 - 0.7)) / 2)
    assert found.cases == 2, "every training has a score for a ROI of the first and the last case"


def test_the_average_of_complete_rois_is_the_comparison_of_each_cases_average():
    differences = np.random.default_rng(9).normal(0.05, 0.1, (4, 10, 3))
    average, expected = against_nothing(differences), against_nothing(differences.mean(axis=0))
    for field in ("cases", "trainings", "mean", "low", "high", "p"):
        assert getattr(average, field) == pytest.approx(getattr(expected, field)), field


def test_the_average_of_one_roi_is_its_own_comparison():
    first, second = np.random.default_rng(10).random((2, 12, 3))
    absent = np.full((1, 12, 3), NAN)
    average = compare_average(*(np.concatenate([each[None], absent]) for each in (first, second)))
    assert average == compare(first, second)


def test_the_summary_of_an_average_is_that_of_each_cases_average():
    """Complete ROIs: the average of one case is a score like another."""
    scores = np.random.default_rng(0).uniform(0.3, 0.7, (2, 7, 3))
    found, single = summarise_average(scores), summarise(scores.mean(axis=0))
    assert (found.cases, found.trainings) == (single.cases, single.trainings)
    assert [found.mean, found.low, found.high] == pytest.approx([single.mean, single.low, single.high])
    assert summarise_average(np.full((2, 7, 3), NAN)).cases == 0
    one_failed = np.ones((2, 7, 3)) * (np.arange(7) > 0)[:, None]
    assert summarise_average(one_failed, largest=1.0).high == 1


def test_gaps_of_a_roi_give_the_standard_error_that_its_own_cases_give():
    """One of two ROIs differs in no case, the other is in 7 of 20: half its mean and half its error, 6 d.f."""
    gains = np.random.default_rng(11).normal(0.1, 0.2, 7)
    differences = np.zeros((2, 20, 1))
    differences[1] = NAN
    differences[1, :7, 0] = gains
    found = against_nothing(differences)
    error = gains.std(ddof=1) / math.sqrt(7) / 2
    assert found.mean == pytest.approx(gains.mean() / 2)
    assert found.high - found.mean == pytest.approx(stats.t.isf(0.025, 6) * error)


def test_an_average_with_a_roi_in_a_single_case_has_no_interval():
    differences = np.random.default_rng(12).random((2, 9, 3))
    differences[1, 1:] = NAN
    found = against_nothing(differences)
    assert found.mean == pytest.approx((differences[0].mean() + differences[1, 0].mean()) / 2)
    assert found.note == "too few cases"


def test_methods_without_a_common_training_are_not_compared():
    found = compare(np.empty((8, 0)), np.empty((8, 0)))
    assert (found.cases, found.trainings) == (0, 0)
    assert math.isnan(found.mean)


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_leaves_out_what_was_not_tested():
    assert holm(np.array([0.02, NAN, 0.5])) == pytest.approx([0.04, NAN, 0.5], nan_ok=True)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_as_its_step_down_rule_does(p_values):
    level = 0.05
    rejected = set()
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda each: p_values[each])):
        if p_values[place] > level / (len(p_values) - rank):
            break
        rejected.add(place)
    corrected = holm(np.array(p_values))
    assert {place for place, p in enumerate(corrected) if p <= level} == rejected
    assert (corrected >= np.array(p_values)).all()
